"""The checks that every callback must pass. A new one adds a row to ``CALLBACKS``.

A schedule adds it to ``SCHEDULES``, which are among them.
"""

import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_fastrecipes._lightning import SetupError
from lightning_fastrecipes.callbacks.averaging import Averaging
from lightning_fastrecipes.callbacks.epoch_table import EpochTable
from lightning_fastrecipes.callbacks.finite_loss_check import FiniteLossCheck
from lightning_fastrecipes.callbacks.flat_cosine import FlatCosine
from lightning_fastrecipes.callbacks.image_mixing import ImageMixing
from lightning_fastrecipes.callbacks.initial_loss_check import InitialLossCheck
from lightning_fastrecipes.callbacks.keep_best import KeepBest
from lightning_fastrecipes.callbacks.lr_finder import LRFinder
from lightning_fastrecipes.callbacks.multi_label_switch import MultiLabelSwitch
from lightning_fastrecipes.callbacks.one_cycle import OneCycle
from lightning_fastrecipes.callbacks.overfitting_stop import OverfittingStop
from lightning_fastrecipes.callbacks.progressive_resizing import ProgressiveResizing
from lightning_fastrecipes.callbacks.rising_loss_check import RisingLossCheck
from lightning_fastrecipes.callbacks.save_every import SaveEvery
from lightning_fastrecipes.callbacks.schedule import Schedule
from lightning_fastrecipes.callbacks.seeded_steps import SeededSteps
from lightning_fastrecipes.callbacks.sgdr import SGDR
from lightning_fastrecipes.callbacks.snapshots import CycleSnapshots
from lightning_fastrecipes.callbacks.step_schedule import StepSchedule
from lightning_fastrecipes.callbacks.test_time_augmentation import TestTimeAugmentation
from lightning_fastrecipes.callbacks.train_metrics import TrainMetrics
from lightning_fastrecipes.callbacks.triangular import Triangular
from lightning_fastrecipes.callbacks.validation_guard import ValidationGuard

CLEAN = DataLoader(TensorDataset(torch.ones(6, 4), torch.zeros(6, dtype=torch.int64)), 2)


def snapshots() -> CycleSnapshots:
    return CycleSnapshots(tempfile.mkdtemp(), keep=1, cycle_len=1)


SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "sgdr": lambda: SGDR(cycle_len=1, cycle_mult=2),
    "sgdr-warm": lambda: SGDR(cycle_len=1, cycle_mult=2, warm_in=0.5, peak_decay=0.7),
    "triangular": lambda: Triangular(cycle_len=1, rise=0.3),
    "one-cycle": OneCycle,
    "flat-cosine": FlatCosine,
    "step-schedule": lambda: StepSchedule({0: 1.0, 2: 0.1}),
    "step-schedule-by-step": lambda: StepSchedule({0: 0.5, 3: 1.0, 7: 0.01}, by="step"),
}
CALLBACKS: dict[str, Callable[[], pl.Callback]] = SCHEDULES | {
    "initial-loss-check": lambda: InitialLossCheck(num_classes=3),
    "cycle-snapshots": snapshots,
    "overfitting-stop": lambda: OverfittingStop(
        patience=9, cycle_len=1, gap_patience=9, train_loader=CLEAN
    ),
    "keep-best": KeepBest,
    "averaging-ema": lambda: Averaging("ema", decay=0.8),
    "averaging-soup": lambda: Averaging("soup", cycle_len=1),
    "averaging-wise": lambda: Averaging("wise", share=0.7),
    "epoch-table": EpochTable,
    "finite-loss-check": FiniteLossCheck,
    "train-metrics": lambda: TrainMetrics(4, train_loader=CLEAN),
    "image-mixing": lambda: ImageMixing(num_classes=3),
    "multi-label-switch": lambda: MultiLabelSwitch(label_kind="single"),
    "progressive-resizing": lambda: ProgressiveResizing({0: 2, 1: 4, 2: 6}),
    "test-time-augmentation": lambda: TestTimeAugmentation(2, "flips", during_fit=True),
    "save-every": lambda: SaveEvery(2, Path(tempfile.mkdtemp()) / "begun.ckpt"),
    "seeded-steps": lambda: SeededSteps(seed=5),
    "validation-guard": ValidationGuard,
    "rising-loss-check": lambda: RisingLossCheck(factor=1.01),
    # At a tenth of the lowest loss's rate rounding does not grow: sums of two halves are compared.
    "lr-finder": lambda: LRFinder(min_lr=1e-5, max_lr=1000.0, num_steps=60, rule="minimum/10"),
}
DRAWS_RANDOM_NUMBERS = {"seeded-steps"}
AS_LONG_AS_TRAINING = {name for name, make in SCHEDULES.items() if make().needs_max_epochs}
MIXES_SAMPLES = {"image-mixing"}
"""What these draw must depend on the step alone, and each process mixes its own samples."""


def with_seeds(name: str, callback: pl.Callback | None = None) -> list[pl.Callback]:
    """Return a callback, and before it what makes its draws depend on the step alone."""
    before = [SeededSteps(seed=5)] if name in MIXES_SAMPLES else []
    return [*before, CALLBACKS[name]() if callback is None else callback]


every_callback = pytest.mark.parametrize("name", CALLBACKS)


def assert_same(found, expected, **tolerance) -> None:
    """Compare rates and weights; bit for bit unless a tolerance is given."""
    torch.testing.assert_close(found.weights, expected.weights, **(tolerance or _EXACT))
    assert found.lrs == expected.lrs


_EXACT = {"rtol": 0.0, "atol": 0.0}
_CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@every_callback
@pytest.mark.filterwarnings(
    "ignore:`LRFinder` is skipped",
    "ignore:`max_epochs` should end",
    "ignore:`Averaging` had nothing to average",
)
@pytest.mark.parametrize(
    "num_steps",
    [
        pytest.param(5, id="stopped-after-an-epoch"),
        pytest.param(2, id="stopped-within-the-first-epoch"),
        pytest.param(13, id="stopped-within-the-last-epoch"),
    ],
)
def test_a_stopped_and_resumed_fit_equals_an_uninterrupted_one(
    name, num_steps, fit, tiny_task, tiny_data, tmp_path
):
    def start(*extra: pl.Callback, **options):
        dropout = 0.5 if name in DRAWS_RANDOM_NUMBERS else 0.0
        callbacks = [*with_seeds(name), *extra]
        return fit(callbacks, tiny_task(dropout), max_epochs=3, **tiny_data(name), **options)

    whole = start()
    checkpoint = ModelCheckpoint(tmp_path, every_n_train_steps=num_steps)
    stopped = start(checkpoint, max_steps=num_steps, enable_checkpointing=True)
    resumed = start(ckpt_path=checkpoint.best_model_path)

    assert len(stopped.lrs) == num_steps
    resumed.lrs = stopped.lrs + resumed.lrs
    assert_same(resumed, whole)


every_schedule = pytest.mark.parametrize("name", SCHEDULES)
_BY_EPOCH = sorted(set(SCHEDULES) - AS_LONG_AS_TRAINING)


@pytest.fixture
def finished(fit, tmp_path):
    """Return a function that fits an epoch, and gives it and the checkpoint at its end."""

    def start(*callbacks: pl.Callback):
        saved = ModelCheckpoint(tmp_path, save_on_train_epoch_end=True)
        done = fit([*callbacks, saved], max_epochs=1, enable_checkpointing=True)
        return done, saved.best_model_path

    return start


@pytest.mark.filterwarnings("ignore:`max_epochs` should end")
@pytest.mark.parametrize("name", [None, *_BY_EPOCH])
def test_one_epoch_and_two_are_three(name, fit, finished):
    make = SCHEDULES.get(name)
    first, path = finished(*([make()] if make else []))
    continued = fit([make()] if make else [], max_epochs=3, ckpt_path=path)
    assert len(continued.lrs) == 10
    continued.lrs = first.lrs + continued.lrs
    assert_same(continued, fit([make()] if make else [], max_epochs=3))


@pytest.mark.filterwarnings("ignore:`max_epochs` should end")
@pytest.mark.parametrize("name", sorted(AS_LONG_AS_TRAINING))
def test_a_schedule_as_long_as_the_training_covers_added_epochs(name, fit, finished, tmp_path):
    make = SCHEDULES[name]
    first, path = finished(make())
    saved = ModelCheckpoint(tmp_path / "within", every_n_train_steps=12)
    whole = fit([make(), saved], max_epochs=3, ckpt_path=path, enable_checkpointing=True)
    for done, num_epochs in ((first, 1), (whole, 2)):
        expected = make().simulate(num_epochs, 5, lr=0.1).tolist()
        assert [head for _, head in done.lrs] == pytest.approx(expected)
    # Interrupted within the second part, it goes on as it would have.
    resumed = fit([make()], max_epochs=3, ckpt_path=saved.best_model_path)
    resumed.lrs = whole.lrs[:7] + resumed.lrs
    assert_same(resumed, whole)


@every_schedule
@pytest.mark.filterwarnings("ignore:`max_epochs` should end")
def test_a_new_trainer_starts_a_schedule_anew_and_the_same_one_goes_on(name, fit, tiny_loader):
    schedule = SCHEDULES[name]()
    first = fit([schedule], max_epochs=1)
    anew = fit([schedule], first.task, max_epochs=3)
    expected = schedule.simulate(3, 5, lr=0.1).tolist()
    assert [head for _, head in anew.lrs] == pytest.approx(expected)

    first = fit([schedule], max_epochs=1)
    first.trainer.fit_loop.max_epochs = 3
    first.trainer.fit(first.task, tiny_loader())
    if name in AS_LONG_AS_TRAINING:
        expected = [*schedule.simulate(1, 5, lr=0.1), *schedule.simulate(2, 5, lr=0.1)]
    assert [head for _, head in first.lrs] == pytest.approx([float(lr) for lr in expected])


@every_callback
def test_accumulating_two_half_batches_equals_whole_batches(name, fit, tiny_data):
    whole = fit(with_seeds(name), max_epochs=3, **tiny_data(name))
    halves = fit(
        with_seeds(name),
        max_epochs=3,
        accumulate_grad_batches=2,
        **tiny_data(name, batch_size=2),
    )
    assert len(halves.lrs) == 15
    assert halves.lrs == whole.lrs
    if name not in MIXES_SAMPLES:
        assert_same(halves, whole, **_CLOSE)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """Results of each process by the name of the callback; one start for all of them."""
    folder = tmp_path_factory.mktemp("two-processes")
    callbacks = {name: with_seeds(name) for name in CALLBACKS}
    (folder / "callbacks.pickle").write_bytes(pickle.dumps(callbacks))
    script = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("two_processes.py")), str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = script.communicate(timeout=180)
    except subprocess.TimeoutExpired:
        os.killpg(script.pid, signal.SIGKILL)
        pytest.fail(f"two processes hang: {script.communicate()[0][-3000:]}")
    assert script.returncode == 0, output[-3000:]
    return [torch.load(folder / f"process-{rank}.pt") for rank in (0, 1)]


@pytest.mark.distributed
@every_callback
def test_two_processes_agree_with_one(name, fit, tiny_data, two_processes):
    one = fit(with_seeds(name), max_epochs=3, **tiny_data(name))
    for process in two_processes:
        assert process[name]["lrs"] == one.lrs
        if name not in MIXES_SAMPLES:
            torch.testing.assert_close(process[name]["weights"], one.weights, **_CLOSE)
    first, second = (process[name]["weights"] for process in two_processes)
    torch.testing.assert_close(first, second, **_EXACT)


@every_callback
def test_fast_dev_run_takes_one_step_and_nothing_else(
    name, fit, tiny_task, tiny_data, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    done = fit([CALLBACKS[name]()], fast_dev_run=True, **tiny_data(name))
    assert done.trainer.global_step == 1
    assert not torch.equal(done.weights["head.weight"], tiny_task().head.weight)
    assert list(tmp_path.iterdir()) == []


@every_callback
def test_callback_is_pickled_and_used_again_in_another_trainer(name, fit, tiny_data):
    callback = CALLBACKS[name]()
    first = fit(with_seeds(name, callback), max_epochs=3, **tiny_data(name))
    assert_same(fit(with_seeds(name, callback), max_epochs=3, **tiny_data(name)), first)
    copied = pickle.loads(pickle.dumps(callback))
    assert_same(fit(with_seeds(name, copied), max_epochs=3, **tiny_data(name)), first)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: SGDR(cycle_len=0), "`cycle_len` must be .* got 0. Cycles", id="len"),
        pytest.param(lambda: SGDR(cycle_len=1.5), "`cycle_len` must be .* got 1.5", id="half"),
        pytest.param(lambda: SGDR(cycle_mult=0), "`cycle_mult` must be .* got 0", id="mult"),
        pytest.param(lambda: SGDR(floor=1.0), r"`floor` must lie in \[0, 1\), got 1.0", id="floor"),
        pytest.param(lambda: SGDR(floor=-0.1), r"`floor` must lie .* got -0.1", id="below"),
        pytest.param(
            lambda: LRFinder(num_steps=19), "`num_steps` must be at least 20.*got 19", id="steps"
        ),
        pytest.param(lambda: SeededSteps(seed=-1), "`seed` must be at least 0, got -1", id="seed"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Stream(IterableDataset):
    """Samples without a length."""

    def __init__(self, samples) -> None:
        self.samples = samples

    def __iter__(self):
        return iter([self.samples[index] for index in range(len(self.samples))])


REFUSALS = {
    "two-optimizers": ("needs one optimizer", {*SCHEDULES, "lr-finder"}),
    "manual-optimization": ("needs one optimizer", {"lr-finder"}),
    "a-scheduler": ("needs one optimizer and no scheduler", SCHEDULES),
    "a-scheduler-of-steps": ("needs one optimizer and no scheduler", SCHEDULES),
    "no-length": (
        "(loader has no length|loader that can go on within an epoch)",
        {*SCHEDULES, "save-every"} - {"step-schedule-by-step"},
    ),
    "no-validation": ("needs a validation", {"keep-best", "overfitting-stop"}),
    "steps-alone": ("", set()),
}
"""For each situation what is said, and by which callbacks; the others work in it."""


def task_of(situation: str, base):
    """Return a class of tasks that notes its steps in ``trained``."""
    is_manual = situation in {"two-optimizers", "manual-optimization"}

    class Task(base):
        automatic_optimization = not is_manual
        trained = 0

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            if is_manual:
                self.manual_backward(loss)
                optimizers = self.optimizers()
                for one in optimizers if isinstance(optimizers, list) else [optimizers]:
                    one.step()
                    one.zero_grad()
            return loss

        def on_train_batch_end(self, *_):
            self.trained += 1

        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            if situation == "two-optimizers":
                return [torch.optim.SGD(p.parameters(), lr=0.1) for p in (self.backbone, self.head)]
            if situation.startswith("a-scheduler"):
                interval = "step" if situation.endswith("steps") else "epoch"
                scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
                config = {"scheduler": scheduler, "interval": interval}
                return {"optimizer": optimizer, "lr_scheduler": config}
            return optimizer

    return Task


def data_of(situation: str, data: dict, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Return the data of a callback, without a length where that is the situation."""
    if situation != "no-length":
        return data
    loader = data["loader"] if "loader" in data else data["datamodule"].train_dataloader()
    stream = DataLoader(Stream(loader.dataset), 4)
    if "loader" in data:
        return {"loader": stream}
    monkeypatch.setattr(data["datamodule"], "train_dataloader", lambda: stream)
    return data


@every_callback
@pytest.mark.filterwarnings(
    "ignore:`max_epochs` should end", "ignore:`LRFinder` cannot", "ignore:.*it is never reached"
)
@pytest.mark.parametrize("situation", REFUSALS)
def test_a_fit_works_or_is_refused_by_name(name, situation, fit, tiny_task, tiny_data, monkeypatch):
    options = {
        "no-validation": {"limit_val_batches": 0},
        "steps-alone": {"max_epochs": -1, "max_steps": 7},
    }
    arguments = {"max_epochs": 1} | options.get(situation, {})
    arguments |= data_of(situation, tiny_data(name), monkeypatch)
    task, callback = task_of(situation, tiny_task)(), CALLBACKS[name]()
    reason, refused = REFUSALS[situation]
    if name in refused:
        with pytest.raises(SetupError, match=f"`{type(callback).__name__}` .*{reason}"):
            fit([callback], task, **arguments)
        assert task.trained == 0
    else:
        fit([callback], task, **arguments)
        assert task.trained > 0


_TWO_DO = {
    "initial-loss-check", "finite-loss-check", "train-metrics", "image-mixing", "save-every",
    "seeded-steps", "lr-finder",
}  # fmt: skip
"""Two with the same arguments do no harm: they keep no state. Those of all others are refused."""


@every_callback
@pytest.mark.parametrize("is_one_object", [False, True])
def test_two_of_one_class_are_refused_in_words_of_ours(name, is_one_object, fit, tiny_data):
    one = CALLBACKS[name]()
    # A folder is part of what tells snapshots apart: the second takes that of the first.
    two = [one, one if is_one_object else pickle.loads(pickle.dumps(one))]
    if name in _TWO_DO:
        fit(two, max_epochs=1, **tiny_data(name))
        return
    kind = type(one).__name__
    said = f"must have one `{re.escape(one.state_key)}`, but has 2. Leave"
    if name in SCHEDULES:
        said = f"One schedule must set the rates, .* `{kind}` and `{kind}`. Leave"
    with pytest.raises(SetupError, match=said):
        fit(two, max_epochs=1, **tiny_data(name))


@every_callback
def test_a_state_stands_under_the_name_of_its_class(name):
    """As in the checkpoints that there are; arguments are added where several may stand."""
    one = CALLBACKS[name]()
    assert one.state_key.partition("{")[0] == type(one).__name__
    if type(one) not in (CycleSnapshots, OverfittingStop, TestTimeAugmentation, RisingLossCheck):
        assert one.state_key == type(one).__name__
