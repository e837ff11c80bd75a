import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from lightning_fastrecipes.recipe.config.catalog import recipes_folder
from lightning_fastrecipes.recipe.images.export import predict_files

pytestmark = pytest.mark.distributed

DDP = ["--trainer.accelerator", "cpu", "--trainer.strategy", "ddp"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """27 and 26 images: one of the splits is odd in each recipe, so that samplers must pad."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for index, name in enumerate(["cats", "dogs"]):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for number in range(27 - index):
            pixels = torch.randint(0, 200, (24, 24, 3), generator=generator, dtype=torch.uint8)
            pixels[:, :, index] += 55
            Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")
            rows.append(f"{name}/{number}.png {(index + number % 2) / 2} mono")
    (tmp_path / "images" / "labels.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "images"


def as_it_is(document: dict) -> None:
    """Change nothing."""


def with_cycles(document: dict) -> None:
    """Find the rate of the first stage; stop the last by its cycles, and merge its snapshots.

    Each of them predicts two views as well.
    """
    head, *_, last = document["stages"].values()
    finder = {"class_path": "lightning_fastrecipes.LRFinder"}
    finder["init_args"] = {"num_steps": 60, "max_lr": 1e5, "on_refusal": "ignore"}
    head |= {"lr": "find", "callbacks": [finder], "batch_size": 16}
    last |= {"max_epochs": 2, "until_overfitting": 2}
    last["callbacks"][0]["init_args"] = {"cycle_len": 1}
    last["callbacks"].append({"class_path": "lightning_fastrecipes.CycleSnapshots"})
    document["model"]["init_args"] |= {"optimizer": "torch.optim.SGD", "head": "linear"}
    document["evaluation"] = {"ensemble": "snapshots", "tta": 2}


@pytest.mark.parametrize(
    ("name", "data", "change", "count"),
    [
        ("cats_dogs", ["--data.root={images}"], as_it_is, 2),
        ("solar_cells", ["--data.csv={images}/labels.csv"], as_it_is, 2),
        ("cats_dogs", ["--data.root={images}"], with_cycles, 2),
        pytest.param(
            *("cats_dogs", ["--data.root={images}"], with_cycles, 3), marks=pytest.mark.slow
        ),
    ],
    ids=["cats_dogs", "solar_cells", "with-cycles", "with-cycles-on-three"],
)
def test_every_stage_of_a_recipe_runs_on_several_processes(
    tmp_path, photos, name, data, change, count
) -> None:
    document = yaml.safe_load((recipes_folder() / name / "recipe.yaml").read_text())
    document["model"]["init_args"] |= {"backbone": "test_resnet.r160_in1k", "weights": None}
    document["data"]["init_args"] |= {"image_size": 32, "batch_size": 4, "num_workers": 0}
    document["data"]["init_args"] |= {"split": {"val": 0.11, "test": 0.25}}
    change(document)
    for stage_name, stage in document["stages"].items():
        stage["max_epochs"] = min(stage["max_epochs"], 2)
        stage.pop("image_size", None)
        stage.setdefault("batch_size", 4)
        for callback in stage["callbacks"]:
            if callback["class_path"].endswith("ProgressiveResizing"):
                callback["init_args"]["sizes"] = {0: 32, 1: 48}
        stage["callbacks"].append(
            {"class_path": "witness.Witness", "init_args": {"stage": stage_name}}
        )
    recipe, notes = tmp_path / name / "recipe.yaml", tmp_path / "notes"
    recipe.parent.mkdir()
    notes.mkdir()
    recipe.write_text(yaml.safe_dump(document, sort_keys=False))
    words = [word.format(images=photos) for word in data]
    command = [sys.executable, "-m", "lightning_fastrecipes", "run", str(recipe), "--out", "run"]
    command += ["--trust", "witness"]
    folders = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"WITNESS": str(notes), "PYTHONPATH": os.pathsep.join(folders)}
    done = subprocess.run(
        [*command, *words, *DDP, "--trainer.devices", str(count)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

    first, *others = ((notes / f"weights-{n}").read_text().splitlines() for n in range(count))
    assert all(other == first for other in others)
    assert [json.loads(line)["stage"] for line in first] == list(document["stages"])
    assert {json.loads(line)["world_size"] for line in first} == {count}

    written, *further = (
        Counter(path.read_text().splitlines() if path.exists() else [])
        for path in (notes / f"written-{rank}" for rank in range(count))
    )
    others = sum(further, Counter())
    # Images of a size that comes within a fit are kept by whichever process needs them first.
    images_kept = {path: n for path, n in others.items() if "/pixels/" in path}
    assert others.total() == sum(images_kept.values()), others
    assert all(n == 1 and path not in written for path, n in images_kept.items())
    cached = {path: n for path, n in written.items() if os.environ["FASTRECIPES_CACHE"] in path}
    precomputed = [stage for stage in document["stages"].values() if stage.get("precompute")]
    assert len([path for path in cached if path.endswith(".npy")]) == 2 * len(precomputed)
    assert set(cached.values()) == {1}

    results = json.loads((tmp_path / "run" / "results.json").read_text())
    if change is with_cycles:
        assert set(results["members"]["test"]) == {"cycle-1", "cycle-2"}
        found = json.loads((tmp_path / "run" / "lr_finder_head.json").read_text())
        rows = pd.read_csv(tmp_path / "run" / "metrics.csv")
        assert rows.loc[0, "lr"] == pytest.approx(found["suggestion"])
    sizes = []
    for split in ("val", "test"):
        table = pd.read_csv(tmp_path / "run" / f"predictions_{split}.csv")
        sizes.append(len(table))
        assert table["file"].is_unique
        alone, _ = predict_files(
            tmp_path / "run",
            [Path(file) for file in table["file"]],
            agreement=change is with_cycles,
        )
        pd.testing.assert_frame_equal(table.drop(columns="target"), alone, atol=2e-5, rtol=0)
        accuracy = (table["prediction"] == table["target"]).mean()
        measured = "accuracy_tta" if change is with_cycles else "accuracy"
        assert results[split][measured] == pytest.approx(accuracy)
    assert any(size % 2 for size in sizes)
