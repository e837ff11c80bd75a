"""Data sets decode by index; files to predict need no labels."""

import pickle

import numpy as np
import pytest
import torch

from lightning_fastrecipes.data.images.dataset import ImageDataset, prediction_dataset
from lightning_fastrecipes.data.images.decoding import load_image
from lightning_fastrecipes.data.images.geometry import EvalTransform, Geometry
from lightning_fastrecipes.data.images.options import Augmentation
from lightning_fastrecipes.data.images.samples import Samples
from lightning_fastrecipes.data.images.train_transform import TrainTransform
from lightning_fastrecipes.errors import DataError, DataNotFoundError
from lightning_fastrecipes.protocols import InputSpec

EVAL = EvalTransform(16, Geometry(), InputSpec())
TRAIN = TrainTransform(16, Geometry(), InputSpec(), augmentation=Augmentation("side_on"), seed=0)


@pytest.fixture
def samples(tmp_path, draw):
    files = [draw(tmp_path / f"käse {number}.png") for number in range(3)]
    return Samples.from_files(files, np.array([2, 0, 1]))


def test_samples_are_images_with_targets(samples):
    dataset = ImageDataset(samples, EVAL)
    image, target = dataset[1]

    assert len(dataset) == 3
    assert torch.equal(image, EVAL(load_image(dataset.files[1]), 0, 1))
    assert (target.item(), target.dtype) == (0, torch.int64)
    assert dataset.targets.tolist() == [2, 0, 1]
    assert dataset.files[1].endswith("käse 1.png")


def test_an_index_beyond_the_length_says_the_epoch(samples):
    dataset = ImageDataset(samples, TRAIN, has_epochs=True)

    image, target = dataset[3 * 7 + 2]

    assert torch.equal(image, TRAIN(TRAIN.cached_size().load(dataset.files[2], None), 7, 2))
    assert target.item() == 1


def test_a_plain_loop_over_an_evaluation_ends(samples):
    assert len(list(ImageDataset(samples, EVAL))) == 3


@pytest.mark.parametrize("has_epochs", [False, True])
def test_a_negative_index_is_refused(samples, has_epochs):
    with pytest.raises(IndexError, match=r"`index` must lie in \[0, 3\), got -1"):
        ImageDataset(samples, EVAL, has_epochs=has_epochs)[-1]


def test_memory_does_not_hold_an_object_per_image(samples):
    many = Samples(np.repeat(samples.paths, 10_000), np.repeat(samples.targets, 10_000))

    assert many.paths.dtype.kind == "S"
    assert len(pickle.dumps(many)) < 1.1 * (many.paths.nbytes + many.targets.nbytes)


def test_a_file_lost_since_the_scan_is_named(samples, tmp_path):
    (tmp_path / "käse 1.png").unlink()

    with pytest.raises(DataError, match=r"käse 1\.png' cannot be read"):
        ImageDataset(samples, EVAL)[1]


def test_files_and_folders_can_be_predicted_in_order(tmp_path, draw):
    for name in ("b/2.png", "b/1.png", "b/deep/0.png", "a.png"):
        draw(tmp_path / name)

    dataset, bad = prediction_dataset([tmp_path / "b", tmp_path / "a.png"], **EVAL.key())

    assert bad == []
    assert dataset.files == [
        str(tmp_path / name) for name in ("b/1.png", "b/2.png", "b/deep/0.png", "a.png")
    ]
    assert dataset.targets.tolist() == [-1] * 4
    assert torch.equal(dataset[3][0], EVAL(load_image(tmp_path / "a.png"), 0, 0))


def test_files_that_cannot_be_predicted_are_reported(tmp_path, draw):
    draw(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"")

    dataset, bad = prediction_dataset([tmp_path], image_size=16)

    assert dataset.files == [str(tmp_path / "good.png")]
    assert bad == [(str(tmp_path / "bad.png"), "is empty (0 bytes)")]


def test_nothing_to_predict_gives_an_empty_data_set():
    dataset, bad = prediction_dataset([], image_size=16)

    assert (len(dataset), bad, dataset.targets.shape) == (0, [], (0,))


def test_a_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataNotFoundError, match="`paths` must name something that exists"):
        prediction_dataset([tmp_path / "gone"], image_size=16)
