"""The check of a rising training loss, in fits."""

import warnings

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from lightning_fastrecipes.callbacks.rising_loss_check import RisingLossCheck


@pytest.fixture
def scripted(tiny_task):
    """A task whose loss is what a list says for each batch of the fit, whatever it predicts."""

    class Scripted(tiny_task):
        def __init__(self, losses, **options) -> None:
            super().__init__(**options)
            self.losses = losses

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            num_batches = self.trainer.num_training_batches
            wanted = self.losses[self.trainer.current_epoch * num_batches + batch_idx]
            return loss * 0 + wanted

    return Scripted


RISING = [1.0] * 60 + [3.0] * 60


def test_a_rise_is_told_with_factor_step_rates_and_a_rate_to_try(fit, scripted):
    check = RisingLossCheck()
    with pytest.warns(UserWarning, match="training loss has risen") as told:
        done = fit([check], scripted(RISING), max_epochs=24)
    (message,) = [str(w.message) for w in told if "has risen" in str(w.message)]
    ((step, factor),) = check.rises
    assert 60 < step <= 110
    assert factor > 2
    assert f"at step {step}, {factor:.1f} times its lowest of 1 at rates as high" in message
    assert "backbone 1.00e-02, head 1.00e-01" in message
    assert "a tenth of the rate: 1.0e-02 for the last group" in message
    assert len(done.lrs) == 120  # it does not stop


def test_a_loss_that_is_no_number_is_told_in_words(fit, scripted):
    check = RisingLossCheck()
    with pytest.warns(UserWarning, match=r"to nan at step 61, after a lowest of 1\. .* Train with"):
        fit([check], scripted([1.0] * 60 + [float("nan")] * 60), max_epochs=24)
    assert check.rises == [(61, float("inf"))]


@pytest.mark.parametrize(
    ("num_before", "words"),
    [(0, "to nan at step 1, the first. .* Look at inputs"), (3, "at step 4, after a lowest of 1.")],
)
def test_no_number_in_the_first_steps_is_told_in_words(num_before, words, fit, scripted):
    check = RisingLossCheck()
    with pytest.warns(UserWarning, match=words):
        fit([check], scripted([1.0] * num_before + [float("nan")] * 60), max_epochs=2)
    assert len(check.rises) == 1


def test_a_loss_that_falls_is_not_told(fit, scripted):
    check = RisingLossCheck()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*has risen")
        fit([check], scripted(RISING[::-1]), max_epochs=24)
    assert check.rises == []


@pytest.mark.parametrize("stop", [33, 60, 71])
@pytest.mark.filterwarnings("ignore")
def test_a_resumed_fit_tells_the_same_rise(stop, fit, scripted, tmp_path):
    whole = RisingLossCheck()
    fit([whole], scripted(RISING), max_epochs=24)
    checkpoint = ModelCheckpoint(tmp_path, every_n_train_steps=stop)
    stopped = RisingLossCheck()
    options = {"max_steps": stop, "enable_checkpointing": True}
    fit([stopped, checkpoint], scripted(RISING), max_epochs=24, **options)
    resumed = RisingLossCheck()
    path = checkpoint.best_model_path
    torch.load(path, weights_only=True)
    fit([resumed], scripted(RISING), max_epochs=24, ckpt_path=path)
    assert resumed.rises == whole.rises
    assert len(whole.rises) == 1


@pytest.mark.filterwarnings("ignore")
def test_accumulated_batches_count_with_their_whole_loss(fit, scripted, tiny_loader):
    check = RisingLossCheck()
    fit([check], scripted([3.0] * 40 + [1.0] * 40 + [2.0] * 40), max_epochs=24,
        accumulate_grad_batches=2)  # fmt: skip
    assert check._trend.start == pytest.approx(3.0)


@pytest.mark.parametrize("factor", [1.0, 0.5, float("nan")])
def test_a_factor_that_is_no_rise_is_refused(factor):
    with pytest.raises(ValueError, match="`factor` must be above 1, got"):
        RisingLossCheck(factor)
