from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """A folder of two classes, 14 noisy squares of 24 px each, slightly coloured by class."""
    generator = torch.Generator().manual_seed(0)
    for index, name in enumerate(["blue", "red"]):
        folder = tmp_path / "squares" / name
        folder.mkdir(parents=True)
        for number in range(14):
            pixels = torch.randint(0, 200, (24, 24, 3), generator=generator, dtype=torch.uint8)
            pixels[:, :, 0 if index else 2] += 55
            Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")
    return tmp_path / "squares"


def tiny_document(root: Path) -> dict:
    """Give a recipe of three stages that trains in a second or two."""
    sgdr = {"class_path": "lightning_fastrecipes.SGDR", "init_args": {"cycle_len": 1}}
    return {
        "description": "Squares.",
        "seed": 0,
        "data": {
            "class_path": "lightning_fastrecipes.ImageFolderDataModule",
            "init_args": {
                "root": str(root),
                "valid_fraction": 0.25,
                "test_fraction": 0.25,
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


@pytest.fixture
def recipe_file(squares: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny" / "recipe.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(tiny_document(squares), sort_keys=False))
    return path
