"""Stopping at cycle ends once the validation gets worse, and going back to the best weights."""

import math

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader, Dataset

from lightning_fastrecipes.callbacks.engine.clean_samples import CleanSamples
from lightning_fastrecipes.callbacks.overfitting_stop import OverfittingStop
from lightning_fastrecipes.callbacks.sgdr import SGDR
from lightning_fastrecipes.callbacks.snapshots import CycleSnapshots

pytestmark = pytest.mark.both


@pytest.fixture
def measured_task(tiny_task):
    """A task whose validation loss is what it is told, epoch by epoch; it keeps its weights."""

    class Measured(tiny_task):
        def __init__(self, *values: float) -> None:
            super().__init__()
            self.values = values
            self.after = []

        def val_dataloader(self):
            return DataLoader(torch.zeros(2, 4))

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", torch.tensor(self.values[self.current_epoch]))

        def on_validation_epoch_end(self):
            if not self.trainer.sanity_checking:
                self.after.append({k: v.clone() for k, v in self.state_dict().items()})

    return Measured


def assert_equal(found, expected) -> None:
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize(
    ("values", "options", "num_epochs", "best"),
    [
        pytest.param((0.5, 0.4, 0.6, 0.1), {}, 3, 1, id="once-worse"),
        pytest.param((0.5, 0.4, 0.6, 0.1), {"patience": 2}, 4, 3, id="worse-once-of-two"),
        pytest.param((0.5, 0.6, 0.7, 0.1), {"patience": 2}, 3, 0, id="twice-worse"),
        pytest.param((0.5, 0.4, 0.3, 0.2), {}, 4, 3, id="always-better"),
        pytest.param((0.5, math.nan, 0.3, 0.2), {}, 2, 0, id="not-a-number"),
        pytest.param((math.nan,) * 4, {}, 4, 3, id="no-number-at-all"),
        pytest.param((0.5, 0.6, 0.4, 0.9), {"mode": "max"}, 3, 1, id="highest-is-best"),
    ],
)
def test_training_stops_and_goes_back_to_the_best(
    values, options, num_epochs, best, fit, measured_task, tmp_path
):
    task, stop = measured_task(*values), OverfittingStop(**options)
    keeper = ModelCheckpoint(tmp_path, save_on_train_epoch_end=True)
    done = fit([SGDR(), stop, keeper], task, max_epochs=4, enable_checkpointing=True)
    assert len(done.lrs) == 5 * num_epochs
    assert stop.best_epoch == best
    assert_equal(done.weights, task.after[best])
    saved = torch.load(keeper.best_model_path, weights_only=True)["state_dict"]
    assert_equal(saved, task.after[best])


def test_only_the_ends_of_cycles_count(fit, measured_task):
    stop = OverfittingStop()
    task = measured_task(0.5, 9.0, 0.4, 9.0, 9.0, 9.0, 0.45)
    done = fit([SGDR(cycle_len=1, cycle_mult=2), stop], task, max_epochs=7)
    assert len(done.lrs) == 35
    assert [entry["epoch"] for entry in stop.history] == [0, 2, 6]
    assert stop.best_epoch == 2
    assert_equal(done.weights, task.after[2])


class Counted(Dataset):
    """Samples that know their number, so that a test sees which ones were taken."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int):
        return torch.full((4,), float(index)), torch.tensor(0)


@pytest.fixture
def gap_task(tiny_task):
    batches = []

    class Gap(tiny_task):
        """Loses what it is told on training samples, and 1 on validation samples."""

        def __init__(self, *train_losses: float) -> None:
            super().__init__()
            self.train_losses = train_losses

        def val_dataloader(self):
            return DataLoader(torch.full((2, 5), -1.0))

        def validation_step(self, batch, batch_idx):
            inputs = batch[0]
            is_train = bool((inputs >= 0).all())
            if is_train:
                assert not self.training
                batches.append(inputs[:, 0].tolist())
            loss = self.train_losses[self.current_epoch] if is_train else 1.0
            self.log("val_loss", torch.tensor(loss))

    # Beside the class, since a list of the module's own would be put back after measuring.
    Gap.seen = staticmethod(lambda: batches)
    return Gap


def test_a_growing_gap_stops_and_is_measured_on_a_fixed_part(fit, gap_task):
    stop = OverfittingStop(
        patience=9, gap_patience=2, num_train_samples=5, train_loader=DataLoader(Counted(), 2)
    )
    task = gap_task(0.9, 0.95, 0.8, 0.7, 0.6)
    done = fit([SGDR(), stop], task, max_epochs=5)
    gaps = [entry["gap"] for entry in stop.history]
    assert gaps == pytest.approx([0.1, 0.05, 0.2, 0.3])
    assert len(done.lrs) == 20
    seen = task.seen()
    first, *others = (seen[i : i + 3] for i in range(0, len(seen), 3))
    assert sorted(row for batch in first for row in batch) == [0.0, 25.0, 50.0, 74.0, 99.0]
    assert others == [first] * 3


def test_measuring_the_gap_leaves_the_training_as_it_was(fit, gap_task):
    loader = DataLoader(Counted(), 10)
    plain = fit([SGDR()], gap_task(*[1.0] * 3), max_epochs=3)
    stop = OverfittingStop(patience=9, gap_patience=9, train_loader=loader)
    measured = fit([SGDR(), stop], gap_task(*[1.0 - 0.1 * e for e in range(3)]), max_epochs=3)
    # All validations are equal, so that the first cycle is the best.
    assert stop.best_epoch == 0
    assert measured.lrs == plain.lrs
    assert not torch.equal(measured.weights["head.weight"], plain.weights["head.weight"])


def test_a_resumed_fit_still_goes_back_to_the_best(fit, measured_task, tmp_path):
    values = (0.5, 0.2, 0.6, 0.7)
    keeper = ModelCheckpoint(tmp_path, every_n_epochs=1, save_top_k=-1, filename="{epoch}")
    first = measured_task(*values)
    options = {"patience": 3, "cycle_len": 1}
    fit([OverfittingStop(**options), keeper], first, max_epochs=3, enable_checkpointing=True)
    stop = OverfittingStop(**options)
    second = measured_task(*values)
    path = str(tmp_path / "epoch=1.ckpt")
    done = fit([stop], second, max_epochs=4, ckpt_path=path)
    assert [entry["epoch"] for entry in stop.history] == [0, 1, 2, 3]
    assert_equal(done.weights, first.after[1])


def test_a_fit_that_has_stopped_does_not_train_on_when_it_is_resumed(fit, measured_task, tmp_path):
    keeper = ModelCheckpoint(tmp_path, save_on_train_epoch_end=True)
    values = (0.5, 0.2, 0.6, 0.1)
    task = measured_task(*values)
    callbacks = [OverfittingStop(cycle_len=1), keeper]
    stopped = fit(callbacks, task, max_epochs=4, enable_checkpointing=True)
    again = fit(
        [OverfittingStop(cycle_len=1)],
        measured_task(*values),
        max_epochs=4,
        ckpt_path=keeper.best_model_path,
    )
    assert again.lrs == []
    assert_equal(again.weights, stopped.weights)


def test_min_epochs_are_trained_before_it_stops(fit, measured_task):
    task, stop = measured_task(0.1, 0.5, 0.6, 0.7, 0.8), OverfittingStop(cycle_len=1)
    done = fit([stop], task, max_epochs=5, min_epochs=4)
    assert len(done.lrs) == 20
    # Weights move on until then, and go back once.
    assert not torch.equal(task.after[2]["head.weight"], task.after[3]["head.weight"])
    assert not torch.equal(task.after[0]["head.weight"], task.after[1]["head.weight"])
    assert_equal(done.weights, task.after[0])


def test_best_weights_come_back_whatever_ends_the_training(fit, measured_task):
    task = measured_task(0.1, 0.5, 0.6, 0.7)
    done = fit([OverfittingStop(patience=9, cycle_len=1)], task, max_epochs=4, max_steps=13)
    assert_equal(done.weights, task.after[0])


def test_snapshots_must_be_written_before_it_goes_back(fit, measured_task, tmp_path):
    callbacks = [SGDR(), OverfittingStop(), CycleSnapshots(tmp_path)]
    with pytest.raises(MisconfigurationException, match="`CycleSnapshots` must come before"):
        fit(callbacks, measured_task(0.1), max_epochs=1)
    fit([callbacks[0], callbacks[2], callbacks[1]], measured_task(0.1), max_epochs=1)


def test_a_gap_needs_a_validation_loss(fit, tiny_task):
    class Accurate(tiny_task):
        def validation_step(self, batch, batch_idx):
            self.log("val_accuracy", torch.tensor(0.5))

    stop = OverfittingStop(
        monitor="val_accuracy", gap_patience=1, train_loader=DataLoader(Counted()), cycle_len=1
    )
    with pytest.raises(MisconfigurationException, match=r"must give a loss|`val_loss` is none of"):
        fit([stop], Accurate(), max_epochs=1)


@pytest.mark.parametrize("num_samples", [1, 5, 33])
def test_every_process_gets_as_many_clean_samples(num_samples):
    class FakeTrainer:
        world_size = 2

        def __init__(self, rank: int) -> None:
            self.global_rank = rank

    samples = CleanSamples("a test", num_samples, DataLoader(Counted(), 4))
    shares = [samples.loader(FakeTrainer(rank)).dataset.indices for rank in (0, 1)]
    assert len(shares[0]) == len(shares[1]) >= 1
    assert len(shares[0]) <= max(1, num_samples)


def test_a_second_fit_starts_anew(fit, measured_task):
    stop = OverfittingStop(cycle_len=1)
    fit([stop], measured_task(0.1, 0.2), max_epochs=2)
    fit([stop], measured_task(0.5, 0.4), max_epochs=2)
    assert [entry["value"] for entry in stop.history] == pytest.approx([0.5, 0.4])
    assert stop.best_epoch == 1


@pytest.mark.parametrize(
    ("stop", "callbacks", "options", "message"),
    [
        pytest.param(OverfittingStop(), [], {}, "no schedule of this package", id="no-schedule"),
        pytest.param(
            OverfittingStop(),
            [SGDR()],
            {"check_val_every_n_epoch": 2},
            "validation at every cycle end, .* `check_val_every_n_epoch` is 2",
            id="rare-validation",
        ),
        pytest.param(
            OverfittingStop(), [SGDR()], {"limit_val_batches": 0}, "validation is off", id="none"
        ),
        pytest.param(
            OverfittingStop(gap_patience=1), [SGDR()], {}, "Give `train_loader`", id="no-samples"
        ),
        pytest.param(
            OverfittingStop(monitor="f1"), [SGDR()], {}, r"'f1' is none of \['val_loss'\]", id="f1"
        ),
    ],
)
def test_what_is_missing_is_named(stop, callbacks, options, message, fit, measured_task):
    with pytest.raises(MisconfigurationException, match=message):
        fit([*callbacks, stop], measured_task(*[0.1] * 2), max_epochs=2, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"patience": 0}, "`patience` must be at least 1, got 0", id="patience"),
        pytest.param({"gap_patience": 0}, "`gap_patience` must be at least 1", id="gap"),
        pytest.param({"num_train_samples": 0}, "`num_train_samples` must be", id="samples"),
        pytest.param({"mode": "low"}, "`mode` must be 'min' or 'max', got 'low'", id="mode"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        OverfittingStop(**arguments)
