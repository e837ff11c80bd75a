"""Snapshots at cycle ends: after the last step, with their metrics, the last or the best."""

import math
import re
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from lightning_fastrecipes.callbacks.flat_cosine import FlatCosine
from lightning_fastrecipes.callbacks.one_cycle import OneCycle
from lightning_fastrecipes.callbacks.sgdr import SGDR
from lightning_fastrecipes.callbacks.snapshots import SNAPSHOT_KEY, CycleSnapshots
from lightning_fastrecipes.callbacks.triangular import Triangular

pytestmark = pytest.mark.both


class WeightTrace(pl.Callback):
    """Keep the head's weights after each epoch."""

    def __init__(self) -> None:
        self.after = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if batch_idx == 4:
            self.after.append(pl_module.head.weight.detach().clone())


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


@pytest.fixture
def measured_task(tiny_task):
    """A task whose validation loss is what it is told, epoch by epoch."""

    class Measured(tiny_task):
        values = (0.5, 0.2, 0.4, 0.3, 0.6, 0.1, 0.7)

        def val_dataloader(self):
            return torch.utils.data.DataLoader(torch.zeros(2, 4))

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", torch.tensor(self.values[self.current_epoch]))

    return Measured


@pytest.mark.parametrize(
    ("schedule", "num_epochs", "ends"),
    [
        pytest.param(SGDR(cycle_len=1, cycle_mult=2), 7, [1, 3, 7], id="growing-cycles"),
        pytest.param(SGDR(cycle_len=2), 4, [2, 4], id="equal-cycles"),
        pytest.param(Triangular(cycle_len=1), 2, [1, 2], id="triangles"),
        pytest.param(OneCycle(), 3, [3], id="one-cycle"),
        pytest.param(FlatCosine(), 2, [2], id="flat-cosine"),
    ],
)
def test_snapshots_hold_the_weights_after_the_last_step_of_each_cycle(
    schedule, num_epochs, ends, fit, tmp_path
):
    trace, snapshots = WeightTrace(), CycleSnapshots(tmp_path)
    fit([schedule, trace, snapshots], max_epochs=num_epochs)
    assert [path.name for path in snapshots.paths] == [
        f"cycle-{i + 1}.ckpt" for i in range(len(ends))
    ]
    for path, end in zip(snapshots.paths, ends, strict=True):
        checkpoint = read(path)
        assert torch.equal(checkpoint["state_dict"]["head.weight"], trace.after[end - 1])
        assert checkpoint["global_step"] == 5 * end
        assert checkpoint[SNAPSHOT_KEY]["epoch"] == end - 1


def test_nothing_is_said_of_each_snapshot(fit, tmp_path, caplog):
    with caplog.at_level("INFO"):
        fit([CycleSnapshots(tmp_path, cycle_len=1)], max_epochs=2)
    assert len(list(tmp_path.glob("*.ckpt"))) == 2
    assert "weights_only" not in caplog.text


def test_a_snapshot_says_what_was_measured(fit, measured_task, tmp_path):
    snapshots = CycleSnapshots(tmp_path)
    fit([SGDR(cycle_mult=2), snapshots], measured_task(), max_epochs=3)
    notes = [read(path)[SNAPSHOT_KEY] for path in snapshots.paths]
    assert [note["cycle"] for note in notes] == [1, 2]
    assert [note["metrics"]["val_loss"] for note in notes] == pytest.approx([0.5, 0.4])


def test_an_epoch_without_validation_has_no_value_of_an_older_one(fit, measured_task, tmp_path):
    snapshots = CycleSnapshots(tmp_path)
    fit([SGDR(), snapshots], measured_task(), max_epochs=3, check_val_every_n_epoch=2)
    found = [read(path)[SNAPSHOT_KEY]["metrics"].get("val_loss") for path in snapshots.paths]
    assert found == [None, pytest.approx(0.2), None]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        pytest.param({}, [1, 2, 3, 4, 5, 6, 7], id="all"),
        pytest.param({"keep": 2}, [6, 7], id="last"),
        pytest.param({"keep": 3, "which": "best"}, [2, 4, 6], id="lowest"),
        pytest.param({"keep": 2, "which": "best", "mode": "max"}, [5, 7], id="highest"),
    ],
)
def test_last_or_best_are_kept_and_the_others_removed(options, kept, fit, measured_task, tmp_path):
    snapshots = CycleSnapshots(tmp_path, **options)
    fit([SGDR(), snapshots], measured_task(), max_epochs=7)
    expected = [f"cycle-{cycle}.ckpt" for cycle in kept]
    assert [path.name for path in snapshots.paths] == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == expected


def test_what_is_not_a_number_is_worse_than_any_number(fit, measured_task, tmp_path):
    class Broken(measured_task):
        values = (0.5, math.nan, 0.4)

    snapshots = CycleSnapshots(tmp_path, keep=2, which="best")
    fit([SGDR(), snapshots], Broken(), max_epochs=3)
    assert [path.name for path in snapshots.paths] == ["cycle-1.ckpt", "cycle-3.ckpt"]


def test_a_fit_resumed_from_a_snapshot_equals_an_uninterrupted_one(fit, tmp_path):
    snapshots = CycleSnapshots(tmp_path / "a")
    whole = fit([SGDR(), snapshots], max_epochs=3)
    again = CycleSnapshots(tmp_path / "a")
    resumed = fit([SGDR(), again], max_epochs=3, ckpt_path=str(snapshots.paths[1]))
    for name, value in whole.weights.items():
        assert torch.equal(resumed.weights[name], value), name
    assert again.paths == snapshots.paths


def test_a_resumed_fit_goes_on_choosing_among_the_older_ones(fit, measured_task, tmp_path):
    keeper = ModelCheckpoint(tmp_path / "resume", every_n_epochs=1, save_top_k=-1)
    options = {"keep": 2, "which": "best"}
    first = CycleSnapshots(tmp_path / "s", **options)
    fit([SGDR(), first, keeper], measured_task(), max_epochs=4, enable_checkpointing=True)
    second = CycleSnapshots(tmp_path / "s", **options)
    checkpoint = str(sorted((tmp_path / "resume").iterdir())[-1])
    fit([SGDR(), second], measured_task(), max_epochs=7, ckpt_path=checkpoint)
    assert [path.name for path in second.paths] == ["cycle-2.ckpt", "cycle-6.ckpt"]


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter([(torch.ones(4), torch.tensor(0))] * 8)


def test_a_loader_without_length_has_cycles_too(fit, tmp_path):
    snapshots = CycleSnapshots(tmp_path, cycle_len=1)
    fit([snapshots], loader=torch.utils.data.DataLoader(Stream(), 4), max_epochs=2)
    assert len(snapshots.paths) == 2


def test_a_moved_run_goes_on_with_the_snapshots_it_has(fit, tmp_path):
    first = CycleSnapshots(tmp_path / "a", keep=1)
    fit([SGDR(), first], max_epochs=2)
    (tmp_path / "a").rename(tmp_path / "b")
    second = CycleSnapshots(tmp_path / "b", keep=1)
    fit([SGDR(), second], max_epochs=4, ckpt_path=str(tmp_path / "b" / "cycle-2.ckpt"))
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["cycle-4.ckpt"]


@pytest.mark.filterwarnings("ignore:`max_epochs` should end a cycle")
def test_an_epoch_that_is_cut_short_ends_no_cycle(fit, tmp_path):
    snapshots = CycleSnapshots(tmp_path)
    fit([SGDR(), snapshots], max_epochs=3, max_steps=8)
    assert [path.name for path in snapshots.paths] == ["cycle-1.ckpt"]


def test_other_checkpoints_are_not_marked_as_snapshots(fit, tmp_path):
    keeper = ModelCheckpoint(tmp_path / "other")
    callbacks = [SGDR(), CycleSnapshots(tmp_path / "snapshots"), keeper]
    fit(callbacks, max_epochs=1, enable_checkpointing=True)
    assert SNAPSHOT_KEY not in read(keeper.best_model_path)


def test_cycles_can_be_given_without_a_schedule(fit, tmp_path):
    snapshots = CycleSnapshots(tmp_path, cycle_len=1, cycle_mult=2)
    fit([snapshots], max_epochs=4)
    assert [read(path)["epoch"] for path in snapshots.paths] == [0, 2]


def test_without_a_folder_they_go_into_the_root_folder(fit, tmp_path):
    snapshots = CycleSnapshots()
    fit([SGDR(), snapshots], max_epochs=1, default_root_dir=tmp_path)
    assert snapshots.paths == [tmp_path / "snapshots" / "cycle-1.ckpt"]


@pytest.mark.parametrize(
    ("callbacks", "options", "message"),
    [
        pytest.param([], {}, "no schedule of this package. Add `SGDR`", id="no-schedule"),
        pytest.param(
            [SGDR()],
            {"which": "best", "monitor": "f1"},
            r"'f1' is none of \['val_loss'\]",
            id="no-such-metric",
        ),
    ],
)
def test_what_is_missing_is_named(callbacks, options, message, fit, measured_task, tmp_path):
    with pytest.raises(MisconfigurationException, match=message):
        fit([*callbacks, CycleSnapshots(tmp_path, **options)], measured_task(), max_epochs=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"check_val_every_n_epoch": 2}, "`check_val_every_n_epoch` is 2, and validation is on"),
        ({"limit_val_batches": 0}, "is 1, and validation is off. Give a validation loader"),
    ],
    ids=["every-second", "none"],
)
def test_best_without_a_validation_at_every_end_is_refused_before_training(
    options, message, fit, measured_task, tmp_path
):
    class Untrained(measured_task):
        def training_step(self, batch, batch_idx):
            pytest.fail("trained before the refusal")

    snapshots = CycleSnapshots(tmp_path, which="best")
    with pytest.raises(MisconfigurationException, match=re.escape(message)):
        fit([SGDR(), snapshots], Untrained(), max_epochs=2, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"keep": 0}, "`keep` must be at least 1, got 0", id="keep"),
        pytest.param({"which": "first"}, "`which` must be 'last' or 'best'", id="which"),
        pytest.param({"mode": "low"}, "`mode` must be 'min' or 'max', got 'low'", id="mode"),
        pytest.param({"cycle_len": 0}, "`cycle_len` must be .* got 0", id="cycle-len"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CycleSnapshots(**arguments)
