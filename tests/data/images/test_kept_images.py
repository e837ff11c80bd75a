"""Datamodules that keep decoded images, and finish them on the device, serve the same data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.trainer.states import TrainerFn

from lightning_fastrecipes import (
    Geometry,
    ImageArrayDataModule,
    ImageFolderDataModule,
    ProgressiveResizing,
)
from lightning_fastrecipes.data.common import disk_room
from lightning_fastrecipes.data.common.cache_choice import cache_folder
from lightning_fastrecipes.data.images import geometry
from lightning_fastrecipes.data.images.options import Augmentation
from lightning_fastrecipes.data.images.train_transform import TrainTransform
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.protocols import InputSpec

ON_DEVICE = Augmentation("side_on", on_device=True)


class Seen(pl.LightningModule):
    """Note the batches that a fit brings, and learn nothing."""

    input_spec = InputSpec(image_size=12)

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.trained: list[dict[int, torch.Tensor]] = []
        self.validated: list[torch.Tensor] = []

    def on_train_epoch_start(self) -> None:
        self.trained.append({})

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        images, targets = batch
        for image, target in zip(images, targets, strict=True):
            assert image.dtype == torch.uint8
            self.trained[-1][int(target)] = image
        return self.weight.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.validated.append(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(data: pl.LightningDataModule, **options: Any) -> Seen:
    module = Seen()
    options = {"max_epochs": 2} | options
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return module


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """One class for each of 12 photos, oblong and of different sizes, and two to validate on."""
    generator = np.random.default_rng(0)
    for number in range(12):
        for split in ("train", "val") if number < 2 else ("train",):
            folder = tmp_path / "photos" / split / f"{number:02}"
            folder.mkdir(parents=True)
            shape = (20 + number, 40 - number, 3)
            pixels = generator.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "a.jpg", quality=95)
    return tmp_path / "photos"


def module(photos: Path, **options: Any) -> ImageFolderDataModule:
    options = {"image_size": 12, "batch_size": 4, "num_workers": 0} | options
    return ImageFolderDataModule(photos, **options)


def kept_splits() -> list[str]:
    manifests = (cache_folder() / "pixels").glob("*/manifest.json")
    return sorted(json.loads(path.read_text())["key"]["split"] for path in manifests)


def test_evaluation_is_the_same_to_the_last_bit(photos: Path) -> None:
    # At 14 pixels evaluation and zoomed training need the same side, 16.
    plain, kept = (fit(module(photos, image_size=14, cache=name)) for name in ("off", "auto"))
    assert torch.equal(torch.cat(plain.validated), torch.cat(kept.validated))
    for epoch in range(2):
        for target, image in plain.trained[epoch].items():
            assert torch.equal(image, kept.trained[epoch][target]), target
    assert kept_splits() == ["train", "val"]


@pytest.mark.parametrize("augmentation", ["side_on", ON_DEVICE], ids=str)
def test_augmented_images_are_the_same_with_and_without_a_cache(
    photos: Path, monkeypatch, augmentation
) -> None:
    options = {"image_size": 8, "augmentation": augmentation}
    kept, off = (fit(module(photos, cache=name, **options)) for name in ("auto", "off"))
    monkeypatch.setattr(disk_room, "SPARE", 1 << 60)
    with pytest.warns(UserWarning, match="Until then images are decoded"):
        full = fit(module(photos, geometry=Geometry(background="black"), **options))
    for other in (off, full):
        for target, image in kept.trained[1].items():
            assert torch.equal(image, other.trained[1][target]), target


@pytest.mark.parametrize(
    ("options", "num_workers"),
    [
        ({"augmentation": "none"}, {"train": 0, "val": 0}),
        ({"augmentation": ON_DEVICE}, {"train": 0, "val": 0}),
        ({"augmentation": "side_on"}, {"train": 1, "val": 0}),
        ({"cache": "off"}, {"train": 1, "val": 1}),
        (
            {"augmentation": ON_DEVICE, "num_workers": 1},
            {"train": 1, "val": 1},
        ),
    ],
    ids=str,
)
def test_what_is_only_cut_needs_no_worker_beside_a_model_on_the_processor(
    photos: Path, monkeypatch, options: dict, num_workers: dict
) -> None:
    monkeypatch.setattr("lightning_fastrecipes.data.common.workers.num_cores", lambda: 2)
    monkeypatch.setattr("lightning_fastrecipes.data.common.workers._TINY", 2)
    data = module(photos, **{"num_workers": None, "augmentation": "side_on"} | options)
    fit(data)
    assert data.train_dataloader().num_workers == num_workers["train"]
    assert data.val_dataloader().num_workers == num_workers["val"]
    card = property(lambda _strategy: torch.device("cuda"))
    monkeypatch.setattr(type(data.trainer.strategy), "root_device", card)
    assert data.train_dataloader().num_workers == 1


def test_nothing_is_decoded_from_the_second_epoch_on(photos: Path, monkeypatch) -> None:
    fit(module(photos))

    def refuse(*_: Any) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(geometry, "load_image", refuse)
    assert len(fit(module(photos, augmentation="side_on")).trained[0]) == 12


def test_workers_read_the_same_cache(photos: Path) -> None:
    alone, helped = (
        fit(module(photos, num_workers=count, augmentation="side_on")) for count in (0, 2)
    )
    for target, image in alone.trained[1].items():
        assert torch.equal(image, helped.trained[1][target])


def test_off_and_a_trial_keep_nothing(photos: Path) -> None:
    fit(module(photos, cache="off"))
    fit(module(photos), max_epochs=1, fast_dev_run=True)
    assert kept_splits() == []


def test_a_folder_of_ones_own_is_used(photos: Path, tmp_path: Path) -> None:
    fit(module(photos, cache=str(tmp_path / "here")))
    assert len(list((tmp_path / "here").glob("*/pixels.bin"))) == 2
    assert kept_splits() == []


def test_without_room_auto_decodes_every_time_and_a_folder_is_an_error(
    photos: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(disk_room, "SPARE", 1 << 60)
    with pytest.warns(UserWarning, match="needs .* MiB in .* Until then images are decoded"):
        module_seen = fit(module(photos))
    assert len(module_seen.trained[1]) == 12
    with pytest.raises(DataError, match="give `cache` a folder on another disk"):
        fit(module(photos, cache=str(tmp_path / "here")))


def test_images_of_fits_are_kept_once_for_all_sizes(photos: Path) -> None:
    data = module(photos, image_size=8)
    data.largest_image_size = 12
    fit(data, max_epochs=1)
    assert kept_splits() == ["train", "val"]
    data.image_size = 12
    fit(data, max_epochs=1)
    assert kept_splits() == ["train", "val"]


# Augmentation on the device


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_device_finishes_what_the_loader_cut(photos: Path, num_workers: int) -> None:
    data = module(
        photos,
        augmentation=Augmentation("top_down", 1.3, on_device=True),
        seed=3,
        num_workers=num_workers,
    )
    seen = fit(data)
    transform = TrainTransform(
        12, Geometry(), Seen.input_spec, augmentation=Augmentation("top_down", 1.3), seed=3
    )
    for epoch in range(2):
        for target, image in seen.trained[epoch].items():
            window = transform.window(data._windows._image(target), epoch, target, 12)
            place = torch.tensor([target])
            expected = transform.batch(window[None], epoch, place, 12)[0]
            assert image.shape == (3, 12, 12)
            assert torch.equal(image, expected)


def test_the_make_up_of_a_batch_does_not_matter(photos: Path) -> None:
    augmentation = ON_DEVICE
    few, many = (
        fit(module(photos, batch_size=size, augmentation=augmentation)) for size in (2, 12)
    )
    assert all(torch.equal(image, many.trained[1][t]) for t, image in few.trained[1].items())
    differs = [not torch.equal(image, few.trained[1][t]) for t, image in few.trained[0].items()]
    assert all(differs), "another epoch has other draws"


def test_both_forms_of_augmentation_follow_one_law(tmp_path: Path) -> None:
    """Where a mark ends up, and how bright, has one distribution whoever augments."""
    marked = np.zeros((24, 36, 3), np.uint8)
    marked[8:12, 14:18] = 200
    rows: dict[str, list[list[float]]] = {"loader": [], "device": []}
    transform = TrainTransform(
        16, Geometry(), InputSpec(), augmentation=Augmentation("top_down", 1.3), seed=0
    )
    image = torch.from_numpy(marked).permute(2, 0, 1)
    count = 3000
    windows = torch.stack([transform.window(image, 0, place, count) for place in range(count)])
    made = {
        "loader": torch.stack([transform(image, 0, place) for place in range(count)]),
        "device": transform.batch(windows, 0, torch.arange(count), count),
    }
    places = torch.arange(16.0)
    for name, images in made.items():
        light = images.float().mean(1) + 1e-6
        weight = light.sum((1, 2))
        row = (light.sum(2) * places).sum(1) / weight
        column = (light.sum(1) * places).sum(1) / weight
        rows[name] = [
            [float(value.mean()), float(value.std())] for value in (row, column, weight / 1000)
        ]
    for (mean, std), (other_mean, other_std) in zip(rows["loader"], rows["device"], strict=True):
        error = 4 * std / count**0.5
        assert other_mean == pytest.approx(mean, abs=2 * error + 0.02 * abs(mean))
        assert other_std == pytest.approx(std, rel=0.08)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_images_that_grow_come_from_one_cache(photos: Path, num_workers: int) -> None:
    data = module(
        photos,
        image_size=8,
        augmentation=ON_DEVICE,
        num_workers=num_workers,
    )
    data.largest_image_size = 16
    resizing = ProgressiveResizing({0: 8, 1: 16})
    seen = fit(data, callbacks=[resizing])
    for epoch, side in enumerate((8, 16)):
        assert len(seen.trained[epoch]) == 12
        assert {image.shape for image in seen.trained[epoch].values()} == {(3, side, side)}
    assert kept_splits() == ["train", "val"]


def test_without_a_trainer_the_loader_does_it_all(photos: Path) -> None:
    data = module(photos, augmentation=ON_DEVICE)
    data.setup()
    images, targets = next(iter(data.train_dataloader()))
    assert images.shape == (4, 3, 12, 12)
    assert targets.shape == (4,)


def test_arrays_need_neither() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 12), dtype=np.uint8)
    data = ImageArrayDataModule(
        {"x_train": pixels, "y_train": np.arange(12)}, image_size=12, batch_size=4,
        split=0.0, augmentation="side_on",
    )  # fmt: skip
    assert len(fit(data).trained[1]) == 12
    assert kept_splits() == []


# Files that change between two fits of one datamodule


def labels_by_colour(data: ImageFolderDataModule) -> list[tuple[int, int]]:
    """Return for each training image the class its colour tells, and its label."""
    photos = data._train_dataset()
    assert photos.store is not None
    samples = [photos[place] for place in range(len(photos))]
    return [(int(image[2].sum() > image[0].sum()), int(target)) for image, target in samples]


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """Red images in class `a`, blue ones in class `b`."""
    for name, colour in (("a", (255, 0, 0)), ("b", (0, 0, 255))):
        (tmp_path / "colours" / name).mkdir(parents=True)
        for number in range(6):
            image = Image.new("RGB", (20 + number, 20), colour)
            image.save(tmp_path / "colours" / name / f"x{number}.png")
    return tmp_path / "colours"


def test_files_added_between_two_fits_leave_labels_right(colours: Path) -> None:
    data = module(colours)
    fit(data, max_epochs=1)
    before = [str(path) for path in data._assembled.splits["train"].paths]
    for number in range(3):
        Image.new("RGB", (20, 20), (255, 0, 0)).save(colours / "a" / f"a{number}.png")
    data.image_size = 16
    fit(data, max_epochs=1)
    pairs = labels_by_colour(data)
    assert [str(path) for path in data._assembled.splits["train"].paths] == before
    assert len(pairs) == len(before)
    assert all(seen == target for seen, target in pairs)


def test_files_added_between_preparation_and_setup_leave_labels_right(colours: Path) -> None:
    """As where a fit fails after its preparation, and is started again."""
    data = module(colours)
    data.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    data.trainer.state.fn = TrainerFn.FITTING
    data.prepare_data()
    for number in range(3):
        Image.new("RGB", (20, 20), (255, 0, 0)).save(colours / "a" / f"a{number}.png")
    data.setup("fit")
    assert all(seen == target for seen, target in labels_by_colour(data))


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_a_file_deleted_between_two_fits_is_named(colours: Path, cache: str) -> None:
    data = module(colours, cache=cache)
    fit(data, max_epochs=1)
    victim = Path(data._train_dataset().files[0])
    victim.unlink()
    data.image_size = 16
    with pytest.raises(DataError, match=rf"'{victim}' cannot be read"):
        fit(data, max_epochs=1)
