"""What callbacks keep of a finished fit that is continued by its checkpoint."""

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from lightning_fastrecipes import (
    SGDR,
    CycleSnapshots,
    FlatCosine,
    OneCycle,
    OverfittingStop,
    StepSchedule,
    Triangular,
)


@pytest.fixture
def finished(fit, tmp_path):
    """Return a function that fits some epochs, and gives the checkpoint at their end."""

    def start(*callbacks, max_epochs):
        saved = ModelCheckpoint(tmp_path, save_on_train_epoch_end=True)
        fit([*callbacks, saved], max_epochs=max_epochs, enable_checkpointing=True)
        return saved.best_model_path

    return start


@pytest.mark.filterwarnings("ignore:.*`max_epochs` should end a cycle of `SGDR`")
@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint")
@pytest.mark.parametrize("num_first", [1, 2])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: SGDR(cycle_len=1), id="sgdr"),
        pytest.param(lambda: SGDR(cycle_len=1, cycle_mult=2), id="sgdr-1-2"),
        pytest.param(lambda: Triangular(cycle_len=1), id="triangular"),
        pytest.param(lambda: StepSchedule({0: 1.0, 2: 0.1}), id="steps"),
    ],
)
def test_epochs_in_two_parts_are_those_of_one_fit(make, num_first, fit, finished):
    """Where the schedule does not depend on where training ends."""
    whole = fit([make()], max_epochs=3)
    rest = fit([make()], max_epochs=3, ckpt_path=finished(make(), max_epochs=num_first))
    assert rest.lrs == whole.lrs[5 * num_first :]
    for name, value in whole.weights.items():
        assert torch.equal(rest.weights[name], value), name


def test_the_same_trainer_goes_on_where_its_first_fit_ended(fit, tiny_loader):
    whole, parts = fit([SGDR(cycle_len=1)], max_epochs=3), fit([SGDR(cycle_len=1)], max_epochs=1)
    parts.trainer.fit_loop.max_epochs = 3
    parts.trainer.fit(parts.task, tiny_loader())
    assert parts.lrs == whole.lrs


@pytest.mark.parametrize(
    ("make", "kept"),
    [
        pytest.param(lambda: SGDR(cycle_len=1), {"cycle-3": 2, "cycle-4": 3}, id="sgdr"),
        pytest.param(OneCycle, {"cycle-1": 1, "cycle-2": 3}, id="one-cycle"),
        pytest.param(FlatCosine, {"cycle-1": 1, "cycle-2": 3}, id="flat-cosine"),
    ],
)
def test_snapshots_of_both_parts_are_kept(make, kept, fit, finished, tmp_path):
    path = finished(make(), CycleSnapshots(tmp_path / "snapshots", keep=2), max_epochs=2)
    snapshots = CycleSnapshots(tmp_path / "snapshots", keep=2)
    fit([make(), snapshots], max_epochs=4, ckpt_path=path)
    found = {one.stem: torch.load(one, weights_only=True)["epoch"] for one in snapshots.paths}
    assert found == kept
    assert len(list((tmp_path / "snapshots").iterdir())) == 2


def test_a_stop_is_said_when_its_fit_is_to_be_continued(fit, finished, caplog):
    stop = OverfittingStop(cycle_len=1, mode="max")  # the falling loss counts as over-fitting
    path = finished(stop, max_epochs=6)
    assert len(stop.history) == 2
    with caplog.at_level("INFO"):
        done = fit([OverfittingStop(cycle_len=1, mode="max")], max_epochs=9, ckpt_path=path)
    assert not done.lrs
    assert "had stopped, so that no epoch is trained" in caplog.text


def test_the_same_trainer_keeps_the_best_weights_of_its_first_fit(fit, tiny_loader):
    stop = OverfittingStop(patience=9, cycle_len=1)
    done = fit([stop], max_epochs=2)
    done.trainer.fit_loop.max_epochs = 4
    done.trainer.fit(done.task, tiny_loader())
    assert [entry["epoch"] for entry in stop.history] == [0, 1, 2, 3]
    fit([stop], max_epochs=1)
    assert [entry["epoch"] for entry in stop.history] == [0]
