"""What it takes to list and check 50,000 small images: ``pytest -m benchmark -s``.

``FASTRECIPES_OTHER`` names a folder with another version of the package, which is run in turn.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.benchmark

NUM_IMAGES = 50_000
SCRIPT = """
import json, sys, time
from pathlib import Path
from lightning_fastrecipes import ImageFolderDataModule

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

memory, started, used = resident(), time.perf_counter(), time.process_time()
data = ImageFolderDataModule(sys.argv[1], cache="off")
data.prepare_data()
data.setup("fit")
print(json.dumps({
    "seconds": time.perf_counter() - started,
    "cpu_seconds": time.process_time() - used,
    "memory": resident() - memory,
}))
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("many")
    generator = np.random.default_rng(0)
    for number in range(NUM_IMAGES):
        folder = root / f"class{number % 20:02}"
        folder.mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"image_{number:06}.jpg")
    return root


def measure(package: str, photos: Path, cache: Path) -> dict[str, float]:
    environment = {**os.environ, "PYTHONPATH": package, "FASTRECIPES_CACHE": str(cache)}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(photos)]
    done = subprocess.run(  # Python looks into the working folder first
        command, env=environment, cwd=package, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_scan_lists_once(photos: Path, tmp_path: Path) -> None:
    here = str(Path(__file__).parents[2])
    other = os.environ.get("FASTRECIPES_OTHER")
    ratios: dict[str, list[float]] = {"cold": [], "warm": []}
    for turn in range(3):
        for kind in ratios:  # in turn, so that a noisy neighbour hits both
            found = measure(here, photos, tmp_path / f"here{turn}")
            line = f"{kind}: {found['seconds']:.1f} s, {found['cpu_seconds']:.1f} s of CPU"
            print(f"{line}, {found['memory'] / NUM_IMAGES:.0f} bytes an image")
            if kind == "warm":
                assert found["memory"] <= 1_700 * NUM_IMAGES
            if other:
                before = measure(other, photos, tmp_path / f"other{turn}")
                print(f"  other: {before['seconds']:.1f} s, {before['cpu_seconds']:.1f} s of CPU")
                ratios[kind].append(found["cpu_seconds"] / before["cpu_seconds"])
    print({kind: [f"{ratio:.2f}" for ratio in found] for kind, found in ratios.items()})
    if other:
        assert statistics.median(ratios["warm"]) <= 0.5
        assert statistics.median(ratios["cold"]) <= 1.0
