"""Images and targets are mixed in the same shares."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lightning_fastrecipes import ImageClassifier, ImageMixing
from lightning_fastrecipes.protocols import InputSpec

NUM_CLASSES = 4


class Seen(pl.LightningModule):
    """Note the batches that training gets."""

    num_classes = NUM_CLASSES
    input_spec = InputSpec(mean=(0.5,) * 3, std=(0.25,) * 3)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, NUM_CLASSES)
        self.batches: list[list[Tensor]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.batches.append(list(batch))
        return cross_entropy(self.layer(batch[0].float().mean((2, 3))), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(module: pl.LightningModule, callback: ImageMixing, *tensors: Tensor, **options: Any):
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[callback],
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(*tensors), batch_size=8, **options))
    return module


def plain(count: int = 24) -> tuple[Tensor, Tensor]:
    """Return images of one grey each, by class, so that a share can be read off a pixel."""
    targets = torch.arange(count) % NUM_CLASSES
    images = (targets * 60).view(-1, 1, 1, 1).expand(-1, 3, 6, 6).to(torch.uint8)
    return images.contiguous(), targets


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool])
def test_classes_may_be_whole_numbers_of_any_kind(dtype) -> None:
    images, targets = plain()
    found = []
    for kind in (torch.int64, dtype):
        torch.manual_seed(0)
        labels = (targets % 2).to(kind)
        found.append(fit(Seen(), ImageMixing(), images, labels).batches[0][1])
    assert torch.equal(*found)


@pytest.mark.parametrize("method", ["mixup", "cutmix"])
def test_targets_have_the_shares_that_images_have(method: str) -> None:
    torch.manual_seed(0)
    images, targets = plain()
    seen = fit(Seen(), ImageMixing(method), images, targets)
    assert len(seen.batches) == 3
    is_mixed = []
    for pixels, shares in seen.batches:
        assert shares.shape == (8, NUM_CLASSES)
        assert shares.sum(1).tolist() == pytest.approx([1.0] * 8)
        grey = ((pixels * 0.25 + 0.5) * 255).mean((1, 2, 3))
        expected = (shares * torch.arange(NUM_CLASSES) * 60).sum(1)
        assert torch.allclose(grey, expected, atol=0.05)
        is_mixed.append(bool(((shares > 0.01) & (shares < 0.99)).any()))
    assert any(is_mixed)


def test_float_targets_are_mixed_as_they_are() -> None:
    torch.manual_seed(1)
    images, targets = plain(8)
    tags = torch.nn.functional.one_hot(targets, NUM_CLASSES).float()
    tags[:, 0] = 1.0  # several labels at once
    seen = fit(Seen(), ImageMixing("mixup"), images.float(), tags)
    shares = seen.batches[0][1]
    assert torch.allclose(shares[:, 0], torch.ones(8))
    assert shares.sum(1).max() <= 2.0 + 1e-5


def test_it_trains_our_classifier_on_bytes() -> None:
    torch.manual_seed(0)
    images = torch.randint(256, (16, 3, 32, 32), dtype=torch.uint8)
    model = ImageClassifier("test_resnet.r160_in1k", num_classes=NUM_CLASSES)
    before = model.head[2].weight.clone()
    fit(model, ImageMixing("cutmix"), images, torch.arange(16) % NUM_CLASSES)
    assert not torch.equal(before, model.head[2].weight)


def test_validation_is_left_alone() -> None:
    class Validated(Seen):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            assert batch[0].dtype == torch.uint8
            assert batch[1].dtype == torch.int64

        def val_dataloader(self) -> DataLoader:
            return DataLoader(TensorDataset(*plain(8)), batch_size=8)

    fit(Validated(), ImageMixing(), *plain())


def test_a_batch_of_one_stays_as_it_is() -> None:
    images, targets = plain(9)
    seen = fit(Seen(), ImageMixing(), images, targets)
    assert torch.equal(seen.batches[-1][0], images[8:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "blend"}, "`method` must be 'mixup' or 'cutmix', got 'blend'"),
        ({"alpha": 0}, "`alpha` must be above 0, got 0"),
        ({"num_classes": 1}, "`num_classes` must be at least 2"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageMixing(**arguments)


def test_what_cannot_be_mixed_is_refused_with_the_cure() -> None:
    class Silent(Seen):
        num_classes = None

    with pytest.raises(MisconfigurationException, match=r"ImageMixing\(num_classes=\.\.\.\)"):
        fit(Silent(), ImageMixing(), *plain())

    class Bytes(Silent):
        input_spec = None

        def __getattribute__(self, name: str) -> Any:
            if name == "input_spec":
                raise AttributeError(name)
            return super().__getattribute__(name)

    with pytest.raises(MisconfigurationException, match="Give it an `input_spec`"):
        fit(Bytes(), ImageMixing(num_classes=NUM_CLASSES), *plain())
    with pytest.raises(MisconfigurationException, match="cannot be mixed"):
        fit(Seen(), ImageMixing(), torch.rand(8, 3), torch.arange(8) % 4)
