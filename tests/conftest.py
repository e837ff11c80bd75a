"""What every test shares: one thread, no network, and nothing left behind."""

import logging
import os
import random
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Commands that tests start in other folders find `tests/twin` as well.
os.environ["PYTHONPATH"] = os.pathsep.join(
    os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path
)

import pytest
import torch
import yaml
from hypothesis import settings
from PIL import Image

# A machine that others work on as well may take any time for an example.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


@pytest.fixture(autouse=True)
def _calm(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory):
    """Keep caches out of the home folder, cap the threads, and police the environment."""
    torch.set_num_threads(1)
    before = dict(os.environ)
    monkeypatch.setenv("FASTRECIPES_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    allowed = {"FASTRECIPES_CACHE", "PYTEST_CURRENT_TEST", "PL_GLOBAL_SEED", "PL_SEED_WORKERS"}
    changed = {name for name in os.environ if os.environ[name] != before.get(name)}
    # torch names its own cache folder when the first optimizer is built, Lightning asks for CUDA
    # without starting it, and scikit-learn tells OpenMP of itself when it is first imported.
    own = ("TORCHINDUCTOR_", "PYTORCH_NVML", "KMP_")
    leaked = {n for n in changed - allowed if not n.startswith(own)}
    assert not leaked, f"a test left environment variables behind: {sorted(leaked)}"
    os.environ.pop("PL_GLOBAL_SEED", None)
    os.environ.pop("PL_SEED_WORKERS", None)


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture):
    """Hear Lightning too, whose logger keeps to itself if no test runs when it is imported."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch")]
    before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.propagate = True
    yield caplog
    for logger, propagates in zip(loggers, before, strict=True):
        logger.propagate = propagates


def draw_squares(folder: Path) -> Path:
    """Draw two classes, 14 noisy squares of 24 px each, slightly coloured by class."""
    generator = torch.Generator().manual_seed(0)
    for index, name in enumerate(["blue", "red"]):
        (folder / name).mkdir(parents=True)
        for number in range(14):
            pixels = torch.randint(0, 200, (24, 24, 3), generator=generator, dtype=torch.uint8)
            pixels[:, :, 0 if index else 2] += 55
            Image.fromarray(pixels.numpy()).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    return draw_squares(tmp_path / "squares")


def tiny_document(root: Path) -> dict:
    """Return a recipe of three stages that trains in a second or two."""
    sgdr = {"class_path": "lightning_fastrecipes.SGDR", "init_args": {"cycle_len": 1}}
    return {
        "description": "Squares.",
        "seed": 0,
        "data": {
            "class_path": "lightning_fastrecipes.ImageFolderDataModule",
            "init_args": {
                "root": str(root),
                "split": {"val": 0.25, "test": 0.25},
                "image_size": 32,
                "batch_size": 4,
                "num_workers": 0,
            },
        },
        "model": {
            "class_path": "lightning_fastrecipes.ImageClassifier",
            "init_args": {"backbone": "test_resnet.r160_in1k", "head": {"hidden": 8}},
        },
        "trainer": {"accelerator": "cpu", "precision": "32-true"},
        "stages": [
            {"name": "head", "max_epochs": 2, "freeze_to": -1, "lr": 0.01, "precompute": True},
            {"name": "augmented", "max_epochs": 1, "freeze_to": -1, "augmentation": "side_on"},
            {
                "name": "all",
                "max_epochs": 3,
                "lr": 0.003,
                "lr_ratio": 3,
                "augmentation": "top_down",
                "callbacks": [sgdr],
            },
        ],
    }


def write_recipe(folder: Path, squares: Path) -> Path:
    path = folder / "tiny" / "recipe.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(tiny_document(squares), sort_keys=False))
    return path


@pytest.fixture
def recipe_file(squares: Path, tmp_path: Path) -> Path:
    return write_recipe(tmp_path, squares)


@pytest.fixture(scope="session")
def shared_recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe and images that no test may change."""
    folder = tmp_path_factory.mktemp("shared")
    return write_recipe(folder, draw_squares(folder / "squares"))


TAGS = ["blue", "green", "rare", "red"]


def draw_tagged(folder: Path) -> Path:
    """Draw 40 noisy squares whose colours are their tags, a few without any."""
    folder.mkdir()
    generator, draw = torch.Generator().manual_seed(0), random.Random(0)
    rows = []
    for number in range(40):
        tags = [tag for tag in TAGS if draw.random() < (0.15 if tag == "rare" else 0.5)]
        pixels = torch.randint(0, 90, (24, 24, 3), generator=generator, dtype=torch.uint8)
        for channel, tag in enumerate(("red", "green", "blue")):
            pixels[:, :, channel] += 150 * (tag in tags)
        Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{' '.join(tags)}")
    (folder / "tags.csv").write_text("\n".join(["image,tags", *rows]) + "\n")
    return folder


def several_labels_document(images: Path) -> dict:
    """Return a recipe of tagged images that trains in a second or two."""
    callbacks = [
        {"class_path": "lightning_fastrecipes.SGDR", "init_args": {"cycle_len": 1}},
        {"class_path": "lightning_fastrecipes.CycleSnapshots", "init_args": {"keep": 2}},
    ]
    return {
        "description": "Tags.",
        "data": {
            "class_path": "lightning_fastrecipes.ImageCSVDataModule",
            "init_args": {
                "csv": str(images / "tags.csv"),
                "table": {"file_column": "image", "labels": "tags"},
                "split": {"val": 0.25, "test": 0.25},
                "image_size": 32,
                "batch_size": 4,
                "num_workers": 0,
                "class_balanced": True,
            },
        },
        "model": {
            "class_path": "lightning_fastrecipes.ImageClassifier",
            "init_args": {
                "backbone": "test_resnet.r160_in1k",
                "head": {"layout": "linear", "dropout": 0.0},
                "labels": {"pos_weight": "balanced", "threshold": "per_label"},
            },
        },
        "trainer": {"accelerator": "cpu", "precision": "32-true"},
        "stages": [
            {"name": "head", "max_epochs": 2, "freeze_to": -1, "lr": 0.05, "precompute": True},
            {"name": "all", "max_epochs": 2, "lr": 0.003, "lr_ratio": 3, "callbacks": callbacks},
        ],
    }


@pytest.fixture(scope="session")
def tagged_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with several tags each, and `tags.csv`, that no test may change."""
    return draw_tagged(tmp_path_factory.mktemp("tagged") / "images")


@pytest.fixture(scope="session")
def tagged_document() -> Callable[[Path], dict]:
    """Return a recipe of two stages for such images."""
    return several_labels_document
