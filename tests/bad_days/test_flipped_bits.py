"""One flipped bit in anything a run leaves: right again, or refused by name, and never otherwise.

600 flips; and 8 processes that build each cache at once.
"""

import hashlib
import os
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.run_content import digest_of, leftovers

from lightning_fastrecipes import TableColumns, TabularDataModule, plain
from lightning_fastrecipes.data.images.feature_cache import cached_outputs
from lightning_fastrecipes.data.images.feature_files import OutputShape
from lightning_fastrecipes.data.images.geometry import CachedSize
from lightning_fastrecipes.data.images.manifest import scan_images
from lightning_fastrecipes.data.images.pixel_cache import cached_pixels
from lightning_fastrecipes.data.images.samples import Samples
from lightning_fastrecipes.errors import DataError, DataNotFoundError
from lightning_fastrecipes.recipe.artifacts.checkpoints import WholeCheckpoints
from lightning_fastrecipes.recipe.artifacts.reading import read_state
from lightning_fastrecipes.recipe.images.export import load_export
from lightning_fastrecipes.recipe.tables.export import load_table_export

RUNS = Path(__file__).parents[1] / "fixtures" / "house_one" / "run_folders"
IMAGES = Path(__file__).parents[1] / "fixtures" / "house_one" / "data"


def scan(folder: Path) -> pd.DataFrame:
    names = sorted(path.name for path in folder.glob("*.png"))
    return scan_images(folder, names)


def manifest(home: Path) -> str:
    found = scan(home / "images").drop(columns=["mtime", "ctime"])
    return hashlib.sha256(found.to_csv().encode()).hexdigest()


def pixels(home: Path) -> str:
    found = scan(home / "images")
    files = [home / "images" / name for name in found["file"]]
    base = Samples.from_files(files)
    samples = Samples(
        base.paths, base.targets,
        digests=found["digest"].to_numpy().astype(np.bytes_),
        shapes=found[["height", "width"]].to_numpy(np.int64),
    )  # fmt: skip
    size = CachedSize(12, "crop", "bilinear")
    store = cached_pixels(home / "pixels", "train", samples, size)
    return hashlib.sha256(
        b"".join(store[i].numpy().tobytes() for i in range(len(files)))
    ).hexdigest()


def features(home: Path) -> str:
    matrix = np.arange(60, dtype=np.float32).reshape(12, 1, 5)
    batches, shape = [matrix[:7], matrix[7:]], OutputShape(12, 1, (5,))
    found = cached_outputs(home / "features", {"of": "twelve"}, lambda _: iter(batches), shape)
    return hashlib.sha256(np.array(found.values).tobytes()).hexdigest()


def table(home: Path) -> str:
    data = TabularDataModule(
        home / "sales.csv",
        TableColumns(target="Sales", categorical=["Shop"], continuous=["Km"]),
        cache=home / "tables",
    )
    data.prepare_data()
    data.setup("fit")
    parts = [data.encoded(split) for split in ("train", "val")]
    arrays = [a for p in parts for a in (p.codes, p.continuous, p.target)]
    content = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    return hashlib.sha256(content + str(data.spec.to_dict()).encode()).hexdigest()


CACHES: dict[str, tuple[Callable[[Path], str], str]] = {
    "manifest": (manifest, "cache/manifests"),
    "pixel": (pixels, "pixels"),
    "feature": (features, "features"),
    "table": (table, "tables"),
}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A few images and a table, and nothing in any cache."""
    monkeypatch.setenv("FASTRECIPES_CACHE", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    draw = np.random.default_rng(0)
    from PIL import Image

    for number in range(5):
        noise = draw.integers(0, 255, (16, 20, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "images" / f"{number}.png")
    shops, km = draw.integers(1, 6, 40), draw.uniform(1, 9, 40).round(2)
    frame = pd.DataFrame({"Shop": shops, "Km": km, "Sales": shops * 100.0 + km})
    frame.to_csv(tmp_path / "sales.csv", index=False)
    return tmp_path


def flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


@pytest.mark.parametrize("kind", CACHES)
def test_a_hundred_flips_in_a_cache_are_harmless_or_mended(home, kind) -> None:
    build, place = CACHES[kind]
    expected = build(home)
    kept = home / "kept"
    shutil.copytree(home / place, kept)
    files = [path for path in kept.rglob("*") if path.is_file() and path.suffix != ".lock"]
    draw = random.Random(5)
    for number in range(100):
        shutil.rmtree(home / place)
        shutil.copytree(kept, home / place)
        hit = home / place / files[number % len(files)].relative_to(kept)
        flip(hit, draw)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is rebuilt
            assert build(home) == expected, (hit, number)


def refusal(is_same: Callable[[], bool]) -> str | None:
    """Return what is said of a damaged file; ``None`` if what was read is as it was."""
    try:
        assert is_same()
    except (DataError, DataNotFoundError) as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", ["all.ckpt", "all.begun.ckpt", "cycle-1.ckpt"])
def test_a_flip_in_a_checkpoint_is_refused_by_name_or_harmless(tmp_path, name) -> None:
    state = {
        "state_dict": {f"layer{i}.weight": torch.randn(8, 4) for i in range(4)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.randn(8, 4)}}, "param_groups": []}],
        "epoch": 1, "global_step": 8, "loops": {"fit_loop": {"a": 1}}, "callbacks": {"b": [1.5]},
    }  # fmt: skip
    path = tmp_path / name
    WholeCheckpoints().save_checkpoint(state, path)
    content, expected, refused = path.read_bytes(), digest_of(state), 0
    draw = random.Random(6)
    for number in range(60):
        flip(path, draw)
        said = refusal(
            lambda: digest_of(read_state(path, plain.anything, "Copy it again.")) == expected
        )
        assert said is None or name in said, number
        refused += said is not None
        path.write_bytes(content)
    assert refused > 20


@pytest.mark.parametrize(("run", "load"), [("tags", load_export), ("sales", load_table_export)])
def test_a_flip_in_an_export_is_refused_by_name_or_harmless(tmp_path, run, load) -> None:
    home = Path(shutil.copytree(RUNS / run / "export", tmp_path / "export"))
    # As exports are written today, with digests.
    from lightning_fastrecipes.recipe.artifacts.export_files import DESCRIPTION, WEIGHTS
    from lightning_fastrecipes.recipe.artifacts.reading import file_digest, read_json, write_sealed

    described = read_json(home / DESCRIPTION, plain.anything, "")
    described["weights_sha256"] = file_digest(home / WEIGHTS)
    write_sealed(home / DESCRIPTION, described)

    def state_of() -> str:
        model, _ = load(home)
        return digest_of(dict(model.state_dict()))

    expected = state_of()
    files = [home / DESCRIPTION, home / WEIGHTS]
    draw, refused = random.Random(8), 0
    for number in range(40):
        hit = files[number % 2]
        content = hit.read_bytes()
        flip(hit, draw)
        said = refusal(lambda: state_of() == expected)
        assert said is None or str(home) in said, number
        refused += said is not None
        hit.write_bytes(content)
    assert refused > 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("kind", CACHES)
def test_eight_processes_build_a_cache_at_once(home, kind) -> None:
    build, place = CACHES[kind]
    children = []
    for number in range(8):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                (home / f"digest-{number}").write_text(build(home))
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    found = {(home / f"digest-{number}").read_text() for number in range(8)}
    assert found == {build(home)}
    names = [path.name for path in (home / place).iterdir()]
    assert [name for name in names if name.startswith(".")] == []
    assert leftovers(home) == []
