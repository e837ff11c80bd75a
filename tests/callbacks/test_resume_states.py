"""A fit that is stopped and resumed wherever one likes trains what an uninterrupted one does."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lightning_fastrecipes import SGDR, CycleSnapshots, OneCycle, Triangular
from lightning_fastrecipes.callbacks.seeded_steps import SeededSteps

NUM_STEPS, EPOCH = 15, 5
SCHEDULES = {
    "sgdr": lambda: [SGDR(cycle_len=1, cycle_mult=2), CycleSnapshots(keep=1)],
    "one-cycle": lambda: [OneCycle()],
    "triangular": lambda: [Triangular(cycle_len=1)],
}


class StopError(Exception):
    """What an interruption raises."""


class StopAfterStep(pl.Callback):
    """Write a checkpoint after a step, and interrupt."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise StopError


@pytest.fixture
def machine(tiny_task, fit) -> type[RuleBasedStateMachine]:
    def train(schedule: str, folder: Path, *extra: pl.Callback, ckpt_path: Path | None = None):
        return fit(
            [*SCHEDULES[schedule](), SeededSteps(3), *extra],
            task=tiny_task(dropout=0.5),
            max_epochs=3,
            ckpt_path=None if ckpt_path is None else str(ckpt_path),
            default_root_dir=folder,
        )

    return make_machine(train)


def make_machine(train: Callable) -> type[RuleBasedStateMachine]:
    expected = {}

    class StoppedFit(RuleBasedStateMachine):
        @initialize(schedule=st.sampled_from(sorted(SCHEDULES)))
        def start(self, schedule: str) -> None:
            self.folder = Path(tempfile.mkdtemp())
            self.schedule, self.step = schedule, 0
            self.checkpoint: Path | None = None
            if schedule not in expected:
                expected[schedule] = train(schedule, self.folder / "whole").weights

        @precondition(lambda self: self.step < NUM_STEPS - 1)
        @rule(num_steps=st.integers(1, 6))
        def train_and_stop(self, num_steps: int) -> None:
            """Go on from the last stop, and stop again after some steps.

            Never after the last batch of an epoch: resumed from there and stopped again in the
            next epoch, Lightning 2.6.6 repeats batches, also without any of our callbacks.
            """
            step = self.step + num_steps
            self.step = min(step + (step % EPOCH == 0), NUM_STEPS - 1)
            path = self.folder / f"{self.step}.ckpt"
            with pytest.raises(StopError):
                train(
                    self.schedule, self.folder, StopAfterStep(self.step, path),
                    ckpt_path=self.checkpoint,
                )  # fmt: skip
            self.checkpoint = path

        @precondition(lambda self: self.checkpoint is not None)
        @rule()
        def train_to_the_end(self) -> None:
            """Go on from the last stop to the end, which changes nothing for the next rule."""
            found = train(self.schedule, self.folder, ckpt_path=self.checkpoint)
            for name, value in expected[self.schedule].items():
                assert torch.equal(found.weights[name], value), name

        def teardown(self) -> None:
            shutil.rmtree(self.folder)

    return StoppedFit


@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint")
def test_a_fit_may_be_stopped_at_any_step(machine) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=6, stateful_step_count=5))
