"""The learning rates that a fit with `SGDR` really takes its steps with."""

import warnings
from itertools import pairwise

import pytest
import torch
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from torch.utils.data import DataLoader, IterableDataset

from lightning_fastrecipes.callbacks.sgdr import SGDR
from lightning_fastrecipes.errors import ConfigurationError


def head_rates(done) -> torch.Tensor:
    return torch.tensor([lrs[-1] for lrs in done.lrs], dtype=torch.float64)


def expected_rates(schedule: SGDR, num_epochs: int, steps_per_epoch: int = 5) -> torch.Tensor:
    return schedule.simulate(num_epochs, steps_per_epoch, lr=0.1)


@pytest.mark.parametrize(
    ("schedule", "num_epochs"),
    [
        pytest.param(SGDR(), 3, id="equal-cycles"),
        pytest.param(SGDR(cycle_len=1, cycle_mult=2), 7, id="doubling-cycles"),
        pytest.param(SGDR(cycle_len=2, cycle_mult=1), 4, id="cycles-of-two-epochs"),
        pytest.param(SGDR(cycle_len=1, cycle_mult=3, floor=0.1), 4, id="with-a-floor"),
    ],
)
def test_fit_follows_the_simulated_curve(schedule, num_epochs, fit):
    done = fit([schedule], max_epochs=num_epochs)
    torch.testing.assert_close(head_rates(done), expected_rates(schedule, num_epochs))


def test_simulated_curve_is_the_one_worked_out_by_hand():
    curve = SGDR(cycle_len=1, cycle_mult=2).simulate(num_epochs=3, steps_per_epoch=2, lr=4.0)
    quarter = 2**-0.5
    expected = [4, 2, 4, 2 * (1 + quarter), 2, 2 * (1 - quarter)]
    torch.testing.assert_close(curve, torch.tensor(expected, dtype=torch.float64))


def test_every_cycle_starts_at_the_peak_and_training_ends_near_zero(fit):
    done = fit([SGDR(cycle_mult=2)], max_epochs=3)
    rates = head_rates(done).tolist()
    assert [step for step, rate in enumerate(rates) if rate == 0.1] == [0, 5]
    assert rates[-1] < 0.003
    assert sum(later > earlier for earlier, later in pairwise(rates)) == 1


def test_ratios_between_layer_groups_are_kept_and_frozen_groups_stay_at_zero(fit, tiny_task):
    class FrozenBackbone(tiny_task):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.0})
            return optimizer

    done = fit([SGDR()], FrozenBackbone(), max_epochs=2)
    for backbone, head, frozen in done.lrs:
        assert head / backbone == pytest.approx(10.0, rel=1e-12)
        assert frozen == 0.0


def test_peak_is_the_initial_rate_where_a_group_has_one(fit, tiny_task):
    class Annealed(tiny_task):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            for group in optimizer.param_groups:
                group["initial_lr"], group["lr"] = group["lr"], 1e-9
            return optimizer

    schedule = SGDR()
    done = fit([schedule], Annealed(), max_epochs=1)
    torch.testing.assert_close(head_rates(done), expected_rates(schedule, 1))


def test_a_second_fit_starts_at_the_peak_again_even_with_the_same_optimizer(fit, tiny_task):
    class OneOptimizer(tiny_task):
        optimizer = None

        def configure_optimizers(self):
            self.optimizer = self.optimizer or super().configure_optimizers()
            return self.optimizer

    task = OneOptimizer()
    first, second = (fit([SGDR()], task, max_epochs=2) for _ in range(2))
    assert first.lrs == second.lrs


@pytest.mark.parametrize(
    ("num_batches", "accumulated", "steps_per_epoch"),
    [
        pytest.param(4, 2, 2, id="full-windows"),
        pytest.param(5, 2, 3, id="last-window-of-one"),
        pytest.param(5, 4, 2, id="one-window-and-a-rest"),
        pytest.param(3, 5, 1, id="epoch-shorter-than-a-window"),
    ],
)
def test_accumulated_batches_share_one_step_of_the_curve(
    num_batches, accumulated, steps_per_epoch, fit
):
    schedule = SGDR(cycle_mult=2)
    done = fit(
        [schedule],
        max_epochs=3,
        limit_train_batches=num_batches,
        accumulate_grad_batches=accumulated,
    )
    assert done.trainer.global_step == 3 * steps_per_epoch
    expected = expected_rates(schedule, 3, steps_per_epoch)
    torch.testing.assert_close(head_rates(done), expected)


def test_accumulation_that_changes_between_epochs_keeps_restarts_at_epochs(fit):
    schedule = SGDR()
    done = fit([GradientAccumulationScheduler({0: 1, 1: 2}), schedule], max_epochs=2)
    expected = torch.cat([expected_rates(schedule, 1, 5), expected_rates(schedule, 1, 3)])
    torch.testing.assert_close(head_rates(done), expected)


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.ones(4), torch.tensor(0))] * 12)


def test_loader_without_length_is_fine_once_its_batches_are_limited(fit):
    schedule = SGDR()
    loader = DataLoader(Stream(), batch_size=2)
    done = fit([schedule], loader=loader, max_epochs=2, limit_train_batches=3)
    torch.testing.assert_close(head_rates(done), expected_rates(schedule, 2, 3))


def test_resuming_with_another_batch_size_goes_on_at_the_same_epoch(fit, tiny_loader, tmp_path):
    schedule = SGDR(cycle_mult=2)
    fit([schedule], max_epochs=1).trainer.save_checkpoint(tmp_path / "first.ckpt")
    resumed = fit(
        [schedule],
        loader=tiny_loader(batch_size=2),
        ckpt_path=tmp_path / "first.ckpt",
        max_epochs=3,
    )
    expected = expected_rates(schedule, 3, 10)[10:]
    torch.testing.assert_close(head_rates(resumed), expected)


@pytest.mark.filterwarnings("ignore:`max_epochs` should end a cycle")
def test_an_epoch_cut_short_by_max_steps_leaves_later_restarts_at_epochs(fit, tmp_path):
    # Lightning counts an epoch that `max_steps` cut short as done, and resumes with the next one.
    schedule = SGDR()
    cut_short = fit([schedule], max_epochs=3, max_steps=3)
    cut_short.trainer.save_checkpoint(tmp_path / "cut.ckpt")
    resumed = fit([schedule], ckpt_path=tmp_path / "cut.ckpt", max_epochs=3)
    torch.testing.assert_close(head_rates(resumed), expected_rates(schedule, 2))


@pytest.mark.parametrize(
    ("cycle", "max_epochs", "message"),
    [
        pytest.param((1, 2), 5, "5 epochs stop within one.* Set `max_epochs` to 3 or 7", id="mid"),
        pytest.param((4, 1), 3, "3 epochs stop within one.* Set `max_epochs` to 4.$", id="first"),
        pytest.param((2, 1), 9, "`max_epochs` should end a cycle .* to 8 or 10", id="equal-cycles"),
    ],
)
def test_training_that_ends_within_a_cycle_is_warned_of_once(cycle, max_epochs, message, fit):
    with pytest.warns(UserWarning, match=message) as seen:
        fit([SGDR(*cycle)], max_epochs=max_epochs, limit_train_batches=1)
    assert sum("should end a cycle" in str(warning.message) for warning in seen) == 1


def test_steps_that_end_within_a_cycle_are_warned_of_too(fit):
    with pytest.warns(UserWarning, match=r"but 1\.6 epochs stop within one.* to 3"):
        fit([SGDR(cycle_len=3)], max_epochs=-1, max_steps=8)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"max_epochs": 3}, id="ends-with-a-cycle"),
        pytest.param({"fast_dev_run": True}, id="rehearsal"),
        pytest.param({"max_epochs": -1, "max_steps": 15}, id="ends-with-a-cycle-by-steps"),
    ],
)
def test_training_without_a_cut_cycle_is_not_warned_of(options, fit):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        fit([SGDR(cycle_len=3)], **options)
    assert not [warning for warning in seen if "end a cycle" in str(warning.message)]


def test_plot_shows_each_group_over_the_epochs(tmp_path):
    path = tmp_path / "schedule.png"
    schedule = SGDR(cycle_mult=2)
    figure = schedule.plot(path, 3, 10, {"early": 0.0, "late": 1e-3, "head": 1e-2})
    assert path.read_bytes().startswith(b"\x89PNG")
    curves = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(curves) == {"early (frozen)", "late", "head"}
    assert curves["head"].get_xdata()[-1] == pytest.approx(2.9)
    assert curves["head"].get_ydata().tolist() == schedule.simulate(3, 10, 1e-2).tolist()
    assert figure.axes[0].get_yscale() == "log"
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("epoch", "learning rate")


def test_plot_of_rates_without_names_is_refused(tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"such as `\{'head': 1e-3\}`, got \[0.0001, 0.001"
    ):
        SGDR().plot(tmp_path / "schedule.png", 3, 10, [1e-4, 1e-3])


def test_plot_of_frozen_groups_alone_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`group_lrs` must hold a learning rate above 0"):
        SGDR().plot(tmp_path / "schedule.png", 3, 10, {"early": 0.0})
