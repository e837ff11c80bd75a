"""A tiny task, its data and one way to fit it, for the tests of every callback.

``two_processes.py`` imports this file as well, so nothing here may need pytest to be running.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, interpolate
from torch.utils.data import DataLoader, TensorDataset

GROUP_LRS = (0.01, 0.1)
NEEDS_IMAGES = {"image-mixing", "progressive-resizing", "test-time-augmentation"}


class TinyTask(pl.LightningModule):
    """A seeded classifier with two layer groups that knows nothing of our package."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.backbone = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(dropout))
            self.head = nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.ndim == 4:
            inputs = adaptive_avg_pool2d(inputs[:, 0], 2).flatten(1)
        return self.head(self.backbone(inputs))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        inputs, targets = batch
        return cross_entropy(self(inputs), targets)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        inputs, targets = batch
        self.log("val_loss", cross_entropy(self(inputs), targets))

    def val_dataloader(self) -> DataLoader:
        return make_loader(num_samples=12)

    def configure_optimizers(self) -> Any:
        parts = {"backbone": self.backbone, "head": self.head}
        groups = [
            {"name": name, "params": list(part.parameters()), "lr": lr}
            for (name, part), lr in zip(parts.items(), GROUP_LRS, strict=True)
        ]
        return torch.optim.SGD(groups, momentum=0.9)


class ResumableLoader(DataLoader):
    """A loader that goes on with the batch after the one that a checkpoint was written at."""

    samples_per_step = 4
    _first = 0
    _next = 0

    def __iter__(self) -> Iterator[Any]:
        first, self._first = self._first, 0
        for index, batch in enumerate(super().__iter__()):
            self._next = index + 1
            if index >= first:
                yield batch

    def state_dict(self) -> dict[str, int]:
        return {"next": self._next % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._first = state["next"]


class TinyImages(pl.LightningDataModule):
    """The tiny samples as images of 2 x 2 patches, which look alike at every even size.

    Two processes share them in the order of a single one.
    """

    def __init__(self, batch_size: int = 4, rank: int = 0, num_processes: int = 1) -> None:
        super().__init__()
        self.image_size = 2
        self.eval_image_size: int | None = None
        self.batch_size = batch_size
        self.share = slice(rank, None, num_processes)

    def train_dataloader(self) -> ResumableLoader:
        return self._loader(20, self.image_size)

    def val_dataloader(self) -> ResumableLoader:
        return self._loader(12, self.eval_image_size or self.image_size)

    def _loader(self, num_samples: int, size: int) -> ResumableLoader:
        inputs, targets = make_loader(num_samples=num_samples).dataset.tensors
        pixels = interpolate(inputs.expand(3, -1, -1).permute(1, 0, 2).unflatten(2, (2, 2)), size)
        images = TensorDataset(pixels[self.share], targets[self.share])
        return ResumableLoader(images, batch_size=self.batch_size)


class StepTrace(pl.Callback):
    """Note the learning rate of each group at each optimizer step."""

    def __init__(self) -> None:
        self.lrs: list[list[float]] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.lrs.append([group["lr"] for group in optimizer.param_groups])


@dataclass
class FinishedFit:
    trainer: pl.Trainer
    task: pl.LightningModule
    lrs: list[list[float]]
    weights: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.weights = {name: value.clone() for name, value in self.task.state_dict().items()}


def make_loader(batch_size: int = 4, num_samples: int = 20) -> ResumableLoader:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(num_samples, 4, generator=generator)
    targets = inputs[:, :3].argmax(dim=1)
    return ResumableLoader(TensorDataset(inputs, targets), batch_size=batch_size)


def fit_tiny(
    callbacks: Sequence[pl.Callback],
    task: pl.LightningModule | None = None,
    loader: DataLoader | None = None,
    ckpt_path: str | None = None,
    datamodule: pl.LightningDataModule | None = None,
    **trainer_options: Any,
) -> FinishedFit:
    """Fit quietly on the CPU: five batches of four samples unless another loader is given."""
    trace = StepTrace()
    options = {"accelerator": "cpu", "devices": 1, "enable_checkpointing": False}
    trainer = pl.Trainer(
        callbacks=[*callbacks, trace],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **(options | trainer_options),
    )
    task = TinyTask() if task is None else task
    if loader is None and datamodule is None:
        loader = make_loader()
    trainer.fit(task, loader, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True)
    return FinishedFit(trainer, task, trace.lrs)


@pytest.fixture
def tiny_task() -> type[TinyTask]:
    return TinyTask


@pytest.fixture
def tiny_loader():
    return make_loader


@pytest.fixture
def tiny_data():
    """Return the data that a callback needs, as an argument of ``fit``."""

    def make(name: str, batch_size: int = 4) -> dict[str, Any]:
        if name in NEEDS_IMAGES:
            return {"datamodule": TinyImages(batch_size)}
        return {"loader": make_loader(batch_size)}

    return make


@pytest.fixture
def fit():
    return fit_tiny
