"""Triangular, one-cycle and flat-then-cosine rates as a fit really takes its steps with them."""

import warnings

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader, IterableDataset

from lightning_fastrecipes.callbacks.flat_cosine import FlatCosine
from lightning_fastrecipes.callbacks.one_cycle import OneCycle
from lightning_fastrecipes.callbacks.sgdr import SGDR
from lightning_fastrecipes.callbacks.snapshots import CycleSnapshots
from lightning_fastrecipes.callbacks.step_schedule import StepSchedule
from lightning_fastrecipes.callbacks.triangular import Triangular
from lightning_fastrecipes.functional.training.one_cycle import one_cycle_momentum

pytestmark = pytest.mark.both


class Momenta(pl.Callback):
    """Note the momentum of each optimizer step."""

    def __init__(self) -> None:
        self.found = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        group = optimizer.param_groups[0]
        self.found.append(group["betas"][0] if "betas" in group else group["momentum"])


@pytest.mark.parametrize("options", [{}, {"limit_train_batches": 4, "accumulate_grad_batches": 2}])
@pytest.mark.parametrize(
    "schedule",
    [
        pytest.param(SGDR(cycle_len=1, warm_in=0.6, peak_decay=0.5), id="sgdr"),
        pytest.param(Triangular(cycle_len=2, rise=0.3, floor=0.1), id="triangular"),
        pytest.param(OneCycle(tail=0.1, shape="linear"), id="one-cycle"),
        pytest.param(FlatCosine(flat=0.4), id="flat-cosine"),
        pytest.param(StepSchedule({0: 1.0, 3: 0.1}), id="steps-by-epoch"),
        pytest.param(StepSchedule({0: 0.5, 1: 1.0, 6: 0.2}, by="step"), id="steps-by-step"),
    ],
)
def test_fit_follows_the_simulated_curve(schedule, options, fit):
    done = fit([schedule], max_epochs=4, **options)
    steps = 2 if options else 5
    assert len(done.lrs) == 4 * steps
    expected = schedule.simulate(4, steps, lr=0.1).tolist()
    assert [head for _, head in done.lrs] == pytest.approx(expected, rel=1e-9)
    for backbone, head in done.lrs:
        assert backbone * 10 == pytest.approx(head, rel=1e-12)


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_momentum_moves_against_the_rate(optimizer, fit, tiny_task):
    class Optimized(tiny_task):
        def configure_optimizers(self):
            options = {"momentum": 0.5} if optimizer == "SGD" else {}
            return getattr(torch.optim, optimizer)(self.parameters(), lr=0.01, **options)

    momenta = Momenta()
    fit([OneCycle(), momenta], Optimized(), max_epochs=2)
    assert momenta.found == pytest.approx([one_cycle_momentum(i / 10) for i in range(10)])
    left_alone = Momenta()
    fit([OneCycle(momentum_range=None), left_alone], Optimized(), max_epochs=2)
    assert left_alone.found == [0.5 if optimizer == "SGD" else 0.9] * 10


def test_momentum_of_an_optimizer_without_it_is_refused(fit, tiny_task):
    class Plain(tiny_task):
        def configure_optimizers(self):
            return torch.optim.Adagrad(self.parameters(), lr=0.01)

    with pytest.raises(MisconfigurationException, match="moves the momentum, but Adagrad has none"):
        fit([OneCycle()], Plain(), max_epochs=1)
    fit([OneCycle(momentum_range=None)], Plain(), max_epochs=1)


@pytest.mark.parametrize("schedule", [OneCycle(), FlatCosine()], ids=["one-cycle", "flat"])
def test_training_without_a_set_end_is_refused(schedule, fit):
    with pytest.raises(
        MisconfigurationException, match=r"`max_epochs` is -1\. Set it .* or `max_steps`"
    ):
        fit([schedule], max_epochs=-1)


def test_ending_within_a_triangle_is_warned_of(fit):
    with pytest.warns(UserWarning, match="should end a cycle of `Triangular`, .* to 2 or 4"):
        fit([Triangular(cycle_len=2)], max_epochs=3)
    with pytest.warns(UserWarning, match="Set `max_epochs` to 4"):
        fit([Triangular(cycle_len=4)], max_epochs=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        fit([Triangular(cycle_len=2)], max_epochs=4)


def test_rates_stay_low_after_the_end():
    assert OneCycle().factor(7, 5) == OneCycle().factor(5, 5) == pytest.approx(1e-5)
    assert FlatCosine().factor(7, 5) == FlatCosine().factor(5, 5) == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: SGDR(warm_in=2), "`warm_in` must be", id="warm-in"),
        pytest.param(lambda: SGDR(peak_decay=0), "`peak_decay` must lie", id="peak-decay"),
        pytest.param(lambda: Triangular(cycle_len=1.5), "`cycle_len` must be", id="cycle-len"),
        pytest.param(lambda: Triangular(rise=0), "`rise` must lie", id="rise"),
        pytest.param(lambda: OneCycle(rise=1), "`rise` must lie", id="one-cycle-rise"),
        pytest.param(lambda: OneCycle(momentum_range=(0.9, 0.8)), "below the high", id="momenta"),
        pytest.param(lambda: FlatCosine(flat=1), "`flat` must lie", id="flat"),
        pytest.param(lambda: StepSchedule({1: 0.1}), "must say what holds from 0", id="no-start"),
        pytest.param(lambda: StepSchedule({0: 0.0}), "finite factors above 0, got 0: 0", id="zero"),
        pytest.param(lambda: StepSchedule({0: 1, -1: 1}), "from 0 on", id="before-the-start"),
        pytest.param(lambda: StepSchedule({0: 1}, by="batch"), "`by` must be", id="by"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("factors", [[1.0, 0.1], {0.5: 1.0}, {0: "1.0"}, {False: 1.0}])
def test_factors_that_are_no_numbers_of_whole_numbers_are_refused(factors):
    with pytest.raises(TypeError, match=r"`factors` must .* Write it as \{0: 1.0, 4: 0.1\}"):
        StepSchedule(factors)


def test_steps_hold_exactly_from_their_epoch_or_step_on():
    by_epoch = StepSchedule({4: 0.1, 0: 1.0}).simulate(6, 3)
    assert by_epoch.tolist() == [1.0] * 12 + [0.1] * 6
    by_step = StepSchedule({0: 0.1, 2: 1.0, 5: 0.01}, by="step").simulate(3, 3, lr=2.0)
    assert by_step.tolist() == [0.2] * 2 + [2.0] * 3 + [0.02] * 4


def test_factors_that_are_never_reached_are_named(fit, monkeypatch):
    said = []
    monkeypatch.setattr("lightning_fastrecipes.callbacks.step_schedule.rank_zero_info", said.append)
    fit([StepSchedule({0: 1.0, 3: 0.1})], max_epochs=3)
    assert "from epoch [3] on, but the fit ends after 3 epochs" in "".join(said)


# In steps.


BY_STEPS = {
    "sgdr": lambda: SGDR(4, 2, by="step"),
    "triangular": lambda: Triangular(6, by="step"),
    "one-cycle": lambda: OneCycle(),
    "flat-cosine": lambda: FlatCosine(),
    "step-schedule": lambda: StepSchedule({0: 1.0, 7: 0.1}, by="step"),
}


class Stream(IterableDataset):
    """Samples without an end."""

    def __iter__(self):
        while True:
            yield torch.ones(4), torch.tensor(0)


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 3}])
@pytest.mark.parametrize("name", BY_STEPS)
def test_a_stream_is_counted_in_steps(name, options, fit):
    schedule = BY_STEPS[name]()
    loader = DataLoader(Stream(), batch_size=2)
    done = fit([schedule], loader=loader, max_steps=12, limit_val_batches=0, **options)
    expected = [0.1 * schedule.factor(step, 12) for step in range(12)]
    assert [head for _, head in done.lrs] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", BY_STEPS)
def test_steps_go_on_where_a_checkpoint_was_written(name, fit, tmp_path):
    whole = fit([BY_STEPS[name]()], max_steps=12)
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=7, save_top_k=-1, filename="{step}")
    fit([BY_STEPS[name](), saver], max_steps=12, enable_checkpointing=True)
    again = fit([BY_STEPS[name]()], max_steps=12, ckpt_path=tmp_path / "step=7.ckpt")
    assert again.lrs == whole.lrs[7:]
    assert all(torch.equal(again.weights[key], value) for key, value in whole.weights.items())


def test_cycles_in_steps_may_end_within_an_epoch(fit):
    done = fit([SGDR(4, by="step")], max_steps=8)
    simulated = SGDR(4, by="step").simulate(2, 4, lr=0.1).tolist()
    assert [head for _, head in done.lrs] == pytest.approx(simulated) != pytest.approx([0.1] * 8)
    assert simulated[0] == simulated[4] == 0.1
    with pytest.warns(UserWarning, match="`max_steps` should end .* but 7 steps .* to 4 or 8"):
        fit([SGDR(4, by="step")], max_steps=7)


def test_ends_of_epochs_are_not_looked_for_in_cycles_of_steps(fit, tmp_path):
    for schedule in (SGDR(4, by="step"), OneCycle()):
        with pytest.raises(MisconfigurationException, match=r"optimizer steps\. Set `cycle_len`"):
            fit([schedule, CycleSnapshots(tmp_path)], max_steps=8)
    snapshots = CycleSnapshots(tmp_path, cycle_len=1)
    fit([SGDR(5, by="step"), snapshots], max_epochs=2, max_steps=20)
    assert len(snapshots.paths) == 2


# In place of a scheduler.


def scheduled(tiny_task, make):
    class Scheduled(tiny_task):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            scheduler = make(optimizer)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
            }

    return Scheduled()


TORCH = torch.optim.lr_scheduler


@pytest.mark.parametrize(
    "make",
    [
        lambda optimizer: TORCH.StepLR(optimizer, 1),
        lambda optimizer: TORCH.LambdaLR(optimizer, lambda step: (step + 1) / 100),
        lambda optimizer: TORCH.OneCycleLR(optimizer, [0.01, 0.1], total_steps=99),
        lambda optimizer: TORCH.CyclicLR(optimizer, [1e-5, 1e-4], [0.01, 0.1]),
    ],
    ids=["step", "lambda", "one-cycle", "cyclic"],
)
@pytest.mark.parametrize("schedule", [SGDR, OneCycle, FlatCosine, Triangular])
def test_a_scheduler_is_replaced_when_asked(schedule, make, fit, tiny_task):
    momenta = Momenta(), Momenta()
    alone = fit([schedule(), momenta[0]], max_epochs=2)
    replaced = fit(
        [schedule(replace_scheduler=True), momenta[1]], scheduled(tiny_task, make), max_epochs=2
    )
    assert replaced.lrs == alone.lrs
    assert momenta[1].found == momenta[0].found
    assert all(torch.equal(replaced.weights[key], value) for key, value in alone.weights.items())
    with pytest.raises(MisconfigurationException, match=r"set `\w+\(replace_scheduler=True\)`"):
        fit([schedule()], scheduled(tiny_task, make), max_epochs=2)


def test_a_replaced_scheduler_stays_out_after_a_resume(fit, tiny_task, tmp_path):
    def run(**options):
        task = scheduled(tiny_task, lambda optimizer: TORCH.StepLR(optimizer, 1))
        return fit([SGDR(1, replace_scheduler=True), *options.pop("more", [])], task, **options)

    whole = run(max_epochs=2)
    saver = ModelCheckpoint(tmp_path, save_last=True)
    run(max_epochs=1, more=[saver], enable_checkpointing=True)
    again = run(max_epochs=2, ckpt_path=tmp_path / "last.ckpt")
    assert again.lrs == whole.lrs[5:]


def test_one_schedule_alone_is_taken(fit):
    for others in ([OneCycle()], [SGDR(3)], [SGDR()]):
        with pytest.raises((MisconfigurationException, RuntimeError), match="SGDR"):
            fit([SGDR(), *others], max_epochs=1)
