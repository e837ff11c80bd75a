"""A loader of the user's own may give numbers of another type than that of the weights."""

import logging

import pytest
import pytorch_lightning as pl
import torch
from helpers.trainers import QUIET
from torch.utils.data import DataLoader, TensorDataset

from lightning_fastrecipes import ImageClassifier
from lightning_fastrecipes.batches import TableInputs
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.nn.tabular import TableBackbone

CNN = {
    "class_path": "lightning_fastrecipes.nn.small.SmallCNN",
    "init_args": {"image_size": 12, "channels": [4], "hidden": 8},
}


def loader(images=None, labels=None) -> DataLoader:
    torch.manual_seed(0)
    drawn = torch.randn(8, 3, 12, 12)
    images = drawn if images is None else images
    labels = torch.arange(8) % 2 if labels is None else labels
    return DataLoader(TensorDataset(images, labels), batch_size=4)


def trained(data: DataLoader, **options) -> dict:
    torch.manual_seed(1)
    model = ImageClassifier(CNN, 2, head="linear", **options)
    pl.Trainer(max_epochs=1, **QUIET).fit(model, data, data)
    return model.state_dict()


def test_double_images_train_as_floats_do_and_it_is_said_once(caplog) -> None:
    expected = trained(loader())
    with caplog.at_level(logging.INFO):
        found = trained(loader(loader().dataset.tensors[0].double()))
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    said = [r for r in caplog.records if "torch.float64; the model computes" in r.getMessage()]
    assert len(said) == 1


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool], ids=str)
def test_images_of_integers_are_refused(dtype) -> None:
    with pytest.raises(ConfigurationError, match=rf"must be `uint8`.* loader gives {dtype}\."):
        trained(loader(torch.ones(8, 3, 12, 12, dtype=dtype)))


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool], ids=str)
def test_class_indices_may_be_of_any_integer_type(dtype, weighted: bool) -> None:
    options = {"labels": {"loss": {"class_weight": [1.0, 3.0]}}} if weighted else {}
    expected = trained(loader(), **options)
    found = trained(loader(labels=(torch.arange(8) % 2).to(dtype)), **options)
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.parametrize(
    "labels", [torch.arange(8) % 2 * 1.0, torch.zeros(8, 1, dtype=torch.int64)], ids=["float", "2d"]
)
def test_targets_that_are_no_class_indices_are_refused(labels) -> None:
    with pytest.raises(ConfigurationError, match="must be whole numbers of shape"):
        trained(loader(labels=labels))


def test_rows_of_doubles_are_computed_as_floats_and_integers_are_refused() -> None:
    backbone = TableBackbone([3], [2], 4, layers=(8,), dropout=(0.0,)).eval()
    codes, numbers = torch.tensor([[1], [2]]), torch.randn(2, 4)
    expected = backbone(TableInputs(codes, numbers))
    assert torch.equal(backbone(TableInputs(codes, numbers.double())), expected)
    with pytest.raises(ConfigurationError, match=r"must be scaled floats.* torch\.int64\."):
        backbone(TableInputs(codes, numbers.long()))
