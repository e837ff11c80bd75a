"""Ending a fit with the weights of its best epoch, whatever is measured."""

import math

import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader

import lightning_fastrecipes as fr
from lightning_fastrecipes._lightning import SetupError


@pytest.fixture
def measured_task(tiny_task):
    """A task that logs what it is told, epoch by epoch; it keeps its weights."""

    class Measured(tiny_task):
        def __init__(self, *values: float, name: str = "val_loss") -> None:
            super().__init__()
            self.values, self.logged_name, self.after = values, name, []

        def val_dataloader(self):
            return DataLoader(torch.zeros(2, 4))

        def validation_step(self, batch, batch_idx):
            self.log(self.logged_name, torch.tensor(self.values[self.current_epoch]))

        def on_validation_epoch_end(self):
            if not self.trainer.sanity_checking:
                self.after.append({k: v.clone() for k, v in self.state_dict().items()})

    return Measured


def assert_equal(found, expected) -> None:
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize(
    ("values", "name", "options", "best"),
    [
        ((0.5, 0.4, 0.6, 0.7), "val_loss", {}, 1),
        ((0.5, math.nan, 0.3, 0.9), "val_loss", {}, 2),
        ((math.nan,) * 4, "val_loss", {}, 3),
        ((math.nan, 0.4, math.nan, 0.5), "val_loss", {}, 1),
        ((0.5, 0.9, 0.9, 0.7), "val_accuracy", {}, 1),
        ((0.5, 0.9, 0.1, 0.7), "val/score_of_mine", {}, 1),
        ((0.5, 0.9, 0.1, 0.7), "val_thing", {"mode": "min"}, 2),
    ],
)
def test_a_fit_ends_with_the_weights_of_its_best_epoch(
    values, name, options, best, fit, measured_task, tmp_path, caplog
):
    task, keep = measured_task(*values, name=name), fr.KeepBest(name, **options)
    saved = ModelCheckpoint(tmp_path, save_on_train_epoch_end=True)
    with caplog.at_level("INFO"):
        done = fit([keep, saved], task, max_epochs=4, enable_checkpointing=True)
    assert len(done.lrs) == 20
    assert keep.best_epoch == best
    assert_equal(done.weights, task.after[best])
    written = torch.load(saved.best_model_path, weights_only=True)["state_dict"]
    assert_equal(written, task.after[best])
    assert f"the weights are those after epoch {best + 1}, {name}" in caplog.text


def test_a_fit_that_something_else_ends_goes_back_as_well(fit, measured_task):
    task, keep = measured_task(0.5, 0.4, 0.6, 0.7, 0.8), fr.KeepBest()
    fit([keep, EarlyStopping("val_loss", patience=2)], task, max_epochs=5)
    assert_equal(task.state_dict(), task.after[1])


def test_a_resumed_fit_knows_the_best_epoch_of_before(fit, measured_task, tmp_path):
    values = (0.5, 0.1, 0.6, 0.7)
    whole = measured_task(*values)
    fit([fr.KeepBest()], whole, max_epochs=4)
    saved = ModelCheckpoint(tmp_path, every_n_train_steps=13, save_on_train_epoch_end=False)
    fit([fr.KeepBest(), saved], measured_task(*values), max_steps=13, enable_checkpointing=True)
    again, keep = measured_task(*values), fr.KeepBest()
    fit([keep], again, max_epochs=4, ckpt_path=saved.best_model_path)
    assert keep.best_epoch == 1
    assert_equal(again.state_dict(), whole.state_dict())


def test_a_metric_says_itself_which_value_is_best(tiny_task):
    class Regressor(tiny_task):
        phase_metrics = fr.TabularRegressor().phase_metrics
        metric_targets = None

    for name, mode in [("rmse", "min"), ("mae", "min")]:
        keep = fr.KeepBest(f"val_{name}")
        keep.decide(Regressor())
        assert keep._watched.mode == mode


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: [fr.KeepBest("val_thing")], "Say it by `mode='min'`"),
        (lambda: [fr.KeepBest(), fr.OverfittingStop(cycle_len=1)], "`OverfittingStop` both choose"),
        (lambda: [fr.KeepBest(), fr.KeepBest("val_acc")], "`KeepBest` both choose"),
        (lambda: [fr.KeepBest(), fr.CycleSnapshots("x", cycle_len=1)], "must come before"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_training(make, message, fit, measured_task):
    task = measured_task(0.5)
    with pytest.raises(SetupError, match=message):
        fit(make(), task, max_epochs=1)
    assert task.after == []


def test_a_fit_without_validation_is_refused(fit, tiny_task):
    with pytest.raises(SetupError, match="needs a validation"):
        fit([fr.KeepBest()], tiny_task(), max_epochs=1, limit_val_batches=0)


def test_a_wrong_mode_is_named() -> None:
    with pytest.raises(ValueError, match="`mode` must be 'min' or 'max', got 'best'"):
        fr.KeepBest(mode="best")
