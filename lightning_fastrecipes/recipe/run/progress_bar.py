"""The sign of life of a run: a bar on a terminal, else lines, with the time left of the whole."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.callbacks.epoch_table import EpochTable
from lightning_fastrecipes.callbacks.test_time_augmentation import TestTimeAugmentation
from lightning_fastrecipes.life_signs import FIRST_LINE, LifeSign, duration
from lightning_fastrecipes.nn.operations import count_operations
from lightning_fastrecipes.recipe.run.time_left import TimeLeft
from lightning_fastrecipes.recipe.run.workload import (
    EVALUATION,
    PRECOMPUTED,
    TRAINED,
    VALIDATED,
    place_in_stage,
)

_SMOOTHING = 0.9
_NEXT_LINES = 60.0
"""Seconds between two lines of a stage, beside which stands a line for every epoch."""

_NUM_TRIED = 8


class RunBar(pl.ProgressBar):
    """Show how far a stage or the evaluation is, with loss, metrics and the time left of the run.

    A bar on a terminal; else a line after some seconds, and then one a minute. ``phase`` is the
    name of a stage, or ``evaluation``.
    """

    def __init__(self, time_left: TimeLeft, run: Path, phase: str) -> None:
        super().__init__()
        self._time_left = time_left
        self._run = run
        self._phase = phase
        self._is_enabled = True
        self._sign: LifeSign | None = None
        self._due: float | None = None
        self._looked = 0.0
        self._is_first = True
        self._loss: Tensor | None = None
        self._done = 0
        self._part = 0

    @override
    def disable(self) -> None:
        self._is_enabled = False

    @override
    def enable(self) -> None:
        self._is_enabled = True

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._due = time.monotonic() + FIRST_LINE
        self._advance(place_in_stage(0, PRECOMPUTED), 1.0, is_measured=False)
        if self._time_left.needs_trial():
            seconds = _seconds_of_images(trainer, pl_module)
            if seconds is not None:
                self._time_left.try_out("arithmetic", *seconds)

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._done, self._is_first = 0, True

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._is_first:
            # After what others do before the first step: a search for the rate has its own bar.
            self._looked, self._is_first = time.perf_counter(), False
            epochs = f"{trainer.current_epoch + 1} of {trainer.max_epochs}"
            total = _number(trainer.num_training_batches) + _total(trainer.num_val_batches)
            self._open(f"Stage {self._phase}, epoch {epochs}", total)

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            new, old = loss.detach(), self._loss
            self._loss = new if old is None else _SMOOTHING * old + (1 - _SMOOTHING) * new
        count = _number(trainer.num_training_batches)
        self._advance(place_in_stage(trainer.current_epoch, TRAINED), (batch_idx + 1) / count)
        self._done = batch_idx + 1
        self._show(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == pl.TrainerFn.VALIDATING:
            self._open_evaluation(trainer, "val", _total(trainer.num_val_batches))

    @override
    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._open_evaluation(trainer, "test", _total(trainer.num_test_batches))

    @override
    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.sanity_checking or self._sign is None:
            return
        share = (batch_idx + 1) / max(_total(trainer.num_val_batches), 1)
        if trainer.state.fn == pl.TrainerFn.FITTING:
            self._advance(place_in_stage(trainer.current_epoch, VALIDATED), share)
        else:
            self._advance(self._part, share)
        self._done += 1
        self._show(trainer, pl_module)

    @override
    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._advance(self._part, (batch_idx + 1) / max(_total(trainer.num_test_batches), 1))
        self._done += 1
        self._show(trainer, pl_module)

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._close()

    @override
    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _open_evaluation(self, trainer: pl.Trainer, split: str, total: int) -> None:
        self._part = self._time_left.next_part(self._run, EVALUATION)
        views = [
            f", {one.views.num_views + 1} views of each image"
            for one in pl.callbacks_of(trainer)
            if isinstance(one, TestTimeAugmentation)
        ]
        self._open("".join([f"Evaluating {split}", *views]), total)
        self._done, self._looked = 0, time.perf_counter()

    def _open(self, what: str, total: int) -> None:
        self._close()
        if self._is_enabled:
            self._sign = LifeSign(what, total, self._due)
            self._sign.__enter__()

    def _close(self) -> None:
        if self._sign is not None:
            self._sign.close()
            self._due, self._sign = self._sign.due, None

    def _advance(self, place: int, share: float, *, is_measured: bool = True) -> None:
        now = time.perf_counter()
        if self._phase == EVALUATION and self._sign is None:
            return
        seconds = now - self._looked if is_measured else 0.0
        self._looked = now
        self._time_left.advance(self._run, self._phase, place, share=share, seconds=seconds)

    def _show(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._sign is None:
            return
        due = self._sign.due
        self._sign.show(self._done, lambda: self._note(trainer, pl_module))
        if self._sign.due != due:
            self._sign.due = time.monotonic() + _NEXT_LINES

    def _note(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> str:
        logged = self.get_metrics(trainer, pl_module)
        logged.pop("v_num", None)
        if self._loss is not None:
            logged = {"loss": float(self._loss), **logged}
            logged.pop("train_loss", None)
        parts = [
            f"{name} {value:.4g}" for name, value in logged.items() if isinstance(value, float)
        ]
        return ", ".join([*parts, say_left(self._time_left)])


class RunTable(EpochTable):
    """The table of a stage's epochs, with the time left of the whole run."""

    def __init__(self, time_left: TimeLeft) -> None:
        super().__init__()
        self._time_left = time_left

    @override
    def take_row(self, trainer: pl.Trainer, row: dict[str, float]) -> None:
        left = self._time_left.seconds()
        super().take_row(trainer, row if left is None else {**row, "left": left})

    @override
    def _texts(self, row: dict[str, float], max_epochs: int | None) -> dict[str, str]:
        found = super()._texts(row, max_epochs)
        return found | {"left": duration(row["left"])} if "left" in row else found


def say_left(time_left: TimeLeft) -> str:
    """Return how long the run still takes, in words."""
    seconds = time_left.seconds()
    return "time left not known yet" if seconds is None else f"about {duration(seconds)} left"


def _seconds_of_images(trainer: pl.Trainer, module: Any) -> tuple[float, float] | None:
    """Return the multiply-adds of a few empty images, and how long their forward pass takes.

    Nothing of the model changes; ``None`` where it is no network of images.
    """
    backbone: Any = getattr(module, "backbone", None)
    if not hasattr(backbone, "num_channels"):
        return None
    size = backbone.input_spec.image_size
    forward = count_operations(backbone, size).forward
    shape = (_NUM_TRIED, backbone.num_channels, size, size)
    images = torch.zeros(shape, device=module.device, dtype=module.dtype)
    devices = [module.device] if module.device.type == "cuda" else []
    modes = [(part, part.training) for part in backbone.modules()]
    backbone.eval()
    seconds = []
    try:
        with torch.inference_mode(), torch.random.fork_rng(devices):
            for _ in range(2):
                started = time.perf_counter()
                with trainer.precision_plugin.forward_context():
                    # Reading a number waits for a GPU.
                    float(backbone(images).sum())
                seconds.append(time.perf_counter() - started)
    finally:
        for part, mode in modes:
            part.training = mode
    return (_NUM_TRIED * forward, seconds[-1]) if forward > 0 else None


def _number(count: float) -> int:
    """Return a number of batches, 1 of an endless loader."""
    return int(count) if 0 < count < float("inf") else 1


def _total(counts: Any) -> int:
    return sum(_number(count) for count in (counts if isinstance(counts, list) else [counts]))
