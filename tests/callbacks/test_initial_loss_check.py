"""Checks before the first step: each finds the fault it is there for, and leaves no trace."""

import math

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lightning_fastrecipes.callbacks.initial_loss_check import InitialLossCheck
from lightning_fastrecipes.callbacks.sgdr import SGDR
from lightning_fastrecipes.protocols import InputSpec


@pytest.fixture
def decayed_task(tiny_task):
    class Decayed(tiny_task):
        num_classes = 3

        def __init__(self, scale: float = 0.1) -> None:
            super().__init__()
            with torch.no_grad():
                self.head.weight.mul_(scale)
                self.head.bias.zero_()

        def configure_optimizers(self):
            groups = super().configure_optimizers().param_groups
            groups = [{k: group[k] for k in ("name", "params", "lr")} for group in groups]
            return torch.optim.AdamW(groups, weight_decay=0.01)

    return Decayed


def found(check: InitialLossCheck) -> dict[str, bool | None]:
    return {finding.check: finding.passed for finding in check.results}


def failures(check: InitialLossCheck) -> dict[str, str]:
    return {f.check: f.message for f in check.results if f.passed is False}


def test_a_sound_model_passes_every_check(fit, decayed_task):
    check = InitialLossCheck(on_failure="raise")
    fit([check], decayed_task(), max_epochs=1)
    assert found(check) == {
        "labels": True,
        "pixels": None,
        "loss": True,
        "gradients": True,
        "regularisation": True,
    }


def test_checks_leave_no_trace(fit, decayed_task):
    plain = fit([SGDR()], decayed_task(), max_epochs=2)
    checked = fit([InitialLossCheck(), SGDR()], decayed_task(), max_epochs=2)
    assert checked.lrs == plain.lrs
    for name, value in plain.weights.items():
        assert torch.equal(checked.weights[name], value), name


class FarOff(nn.Module):
    def forward(self, inputs):
        return inputs * 60


@pytest.mark.parametrize(
    ("change", "check", "message"),
    [
        pytest.param(
            lambda task: setattr(task, "num_classes", 2),
            "labels",
            "labels must lie in 0 to 1, but reach from 0 to 2",
            id="unknown-label",
        ),
        pytest.param(
            lambda task: task.backbone.append(FarOff()),
            "loss",
            r"of even probabilities 1.1\. Check labels, normalisation",
            id="loss-too-high",
        ),
        pytest.param(
            lambda task: setattr(task, "num_classes", 30),
            "loss",
            r"of even probabilities 3.4\. Check that targets do not leak",
            id="loss-too-low",
        ),
    ],
)
def test_faults_are_found(change, check, message, fit, decayed_task):
    task = decayed_task(1.0)
    change(task)
    looked = InitialLossCheck()
    with pytest.warns(UserWarning, match=rf"\[{check}\] .*{message}"):
        fit([looked], task, max_epochs=1)
    assert check in failures(looked)


def test_wrong_labels_are_told_before_the_loss_fails_on_them(fit, decayed_task):
    class Strict(decayed_task):
        num_classes = 2

        def training_step(self, batch, batch_idx):
            pytest.fail("ran the model on a label that it does not know")

    with pytest.raises(MisconfigurationException, match=r"\[labels\] labels must lie in 0 to 1"):
        fit([InitialLossCheck(on_failure="raise")], Strict(), max_epochs=1)


def test_the_batch_at_hand_is_taken_and_none_is_drawn(fit, decayed_task):
    class Stateful(TensorDataset):
        drawn = 0

        def __getitem__(self, index):
            self.drawn += 1
            return super().__getitem__(index)

    data = Stateful(torch.randn(8, 4), torch.arange(8) % 3)
    fit([InitialLossCheck()], decayed_task(), DataLoader(data, 4), max_epochs=1)
    assert data.drawn == 8


def test_a_warm_up_that_stands_at_zero_is_no_fault(fit, decayed_task):
    class Warm(decayed_task):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            rise = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 10)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rise, "interval": "step"}}

    check = InitialLossCheck(on_failure="raise")
    fit([check], Warm(), max_epochs=1)
    assert found(check)["regularisation"]


def test_a_trained_head_may_have_a_low_loss(fit, decayed_task):
    task = decayed_task()
    task.num_classes = 30
    check = InitialLossCheck(untrained_head=False)
    fit([check], task, max_epochs=1)
    assert found(check)["loss"]


def test_a_group_without_gradient_is_named(fit, decayed_task):
    class Detached(decayed_task):
        def training_step(self, batch, batch_idx):
            return cross_entropy(self.head(self.backbone(batch[0]).detach()), batch[1])

    check = InitialLossCheck()
    with pytest.warns(UserWarning, match="no gradient reaches backbone. Check that the forward"):
        fit([check], Detached(), max_epochs=1)
    frozen = Detached()
    frozen.backbone.requires_grad_(False)
    fit([check], frozen, max_epochs=1)
    assert found(check)["gradients"]


def test_decay_that_reaches_nothing_is_found(fit, decayed_task):
    class Deaf(torch.optim.AdamW):
        """Says that it decays, and does not."""

        def step(self, closure=None):
            kept = [group["weight_decay"] for group in self.param_groups]
            for group in self.param_groups:
                group["weight_decay"] = 0.0
            try:
                return super().step(closure)
            finally:
                for group, decay in zip(self.param_groups, kept, strict=True):
                    group["weight_decay"] = decay

    class Task(decayed_task):
        def configure_optimizers(self):
            return Deaf(self.parameters(), lr=0.01, weight_decay=0.1)

    check = InitialLossCheck()
    with pytest.warns(UserWarning, match=r"\[regularisation\] 10 steps on one batch end at"):
        fit([check], Task(), max_epochs=1)


def test_without_decay_or_classes_those_checks_do_not_apply(fit, tiny_task):
    check = InitialLossCheck(on_failure="raise")
    fit([check], tiny_task(), max_epochs=1)
    assert found(check) == {
        "labels": None,
        "pixels": None,
        "loss": None,
        "gradients": True,
        "regularisation": None,
    }


@pytest.fixture
def image_task(decayed_task):
    class Images(decayed_task):
        def training_step(self, batch, batch_idx):
            return super().training_step([batch[0].float().flatten(1)[:, :4] / 255, batch[1]], 0)

    return Images


def image_loader(images: torch.Tensor) -> DataLoader:
    return DataLoader(TensorDataset(images, torch.arange(len(images)) % 3), batch_size=4)


BYTES = torch.randint(0, 256, (8, 3, 4, 4), generator=torch.Generator().manual_seed(0)).byte()


def test_images_that_nobody_normalises_are_found(fit, image_task):
    check = InitialLossCheck(on_failure="raise")
    fit([check], image_task(), image_loader(BYTES), max_epochs=1)
    assert found(check)["pixels"] is None
    with pytest.warns(UserWarning, match=r"\[pixels\] pixels have mean 1"):
        fit([InitialLossCheck()], image_task(), image_loader(BYTES.float()), max_epochs=1)


def test_images_are_judged_as_the_weights_see_them(fit, image_task):
    task = image_task()
    task.input_spec = InputSpec()
    check = InitialLossCheck(on_failure="raise")
    fit([check], task, image_loader(BYTES), max_epochs=1)
    assert found(check)["pixels"]
    task = image_task()
    task.input_spec = InputSpec(mean=(0.5,) * 3, std=(0.002,) * 3)
    with pytest.warns(UserWarning, match=r"\[pixels\]"):
        fit([InitialLossCheck()], task, image_loader(BYTES), max_epochs=1)


def test_several_labels_at_once_start_at_log_two(fit, decayed_task):
    class Several(decayed_task):
        def training_step(self, batch, batch_idx):
            targets = nn.functional.one_hot(batch[1], 3).float()
            logits = self.head(self.backbone(batch[0]))
            return nn.functional.binary_cross_entropy_with_logits(logits, targets)

    check = InitialLossCheck(multi_label=True, on_failure="raise")
    fit([check], Several(), max_epochs=1)
    message = next(f.message for f in check.results if f.check == "loss")
    assert f"of even probabilities {math.log(2):.3g}" in message
    assert found(check)["loss"]


def test_a_failure_can_be_an_error(fit, decayed_task):
    task = decayed_task()
    task.num_classes = 2
    with pytest.raises(MisconfigurationException, match=r"failed: \[labels\] labels must lie"):
        fit([InitialLossCheck(on_failure="raise")], task, max_epochs=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"num_classes": 0}, "`num_classes` must be at least 1", id="classes"),
        pytest.param({"tolerance": 0}, "`tolerance` must be above 0", id="tolerance"),
        pytest.param({"on_failure": "stop"}, "`on_failure` must be 'warn' or", id="on-failure"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        InitialLossCheck(**arguments)


def test_a_progress_bar_finds_itself_while_the_checks_run(tiny_task, tiny_loader):
    """A bar is drawn by a thread of its own, which fails without it (Lightning's rich bar)."""
    seen = []

    class Watched(tiny_task):
        def training_step(self, batch, batch_idx):
            seen.append(type(self.trainer.progress_bar_callback).__name__)
            return super().training_step(batch, batch_idx)

    trainer = pl.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        callbacks=[InitialLossCheck(num_classes=3), RichProgressBar()],
    )  # fmt: skip
    trainer.fit(Watched(), tiny_loader())
    assert len(seen) > 2
    assert set(seen) == {"RichProgressBar"}
