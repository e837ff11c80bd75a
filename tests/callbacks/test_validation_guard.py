"""What the guard says of fits that make a model worse, and that it changes nothing."""

import copy
import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from helpers.trainers import QUIET
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_fastrecipes import ImageClassifier, ValidationGuard
from lightning_fastrecipes.callbacks.engine.validation_watch import ValidationWatch
from lightning_fastrecipes.functional.training.worsening import is_clearly_worse, modes_disagree


def model(norm_policy: str = "eval_if_frozen", **options) -> ImageClassifier:
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU()),
    )
    options = {"head": {"hidden": 8, "dropout": 0.3}, "lr": 1e-2} | options
    return ImageClassifier(backbone, 2, norm_policy=norm_policy, **options)


def loader(count: int = 96, shuffle: bool = False) -> DataLoader:
    """Dark and bright images."""
    draw = torch.Generator().manual_seed(1)
    labels = torch.arange(count) % 2
    images = torch.randint(0, 120, (count, 3, 12, 12), generator=draw) + 100 * labels.view(
        -1, 1, 1, 1
    )
    return DataLoader(TensorDataset(images.to(torch.uint8), labels), batch_size=16, shuffle=shuffle)


def fit(task: pl.LightningModule, *callbacks: pl.Callback, **options) -> list[str]:
    """Fit, and return what the guard warned of."""
    ckpt_path = options.pop("ckpt_path", None)
    trainer = pl.Trainer(callbacks=list(callbacks), **(QUIET | {"max_epochs": 1} | options))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(task, loader(shuffle=True), loader(64), ckpt_path=ckpt_path)
    return [str(one.message) for one in caught if "`ValidationGuard`" in str(one.message)]


class Damage(pl.Callback):
    """Change the model after each epoch's training, before its validation."""

    def __init__(self, change) -> None:
        self.change = change

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if batch_idx == trainer.num_training_batches - 1:
            with torch.no_grad():
                self.change(pl_module)


def trained() -> ImageClassifier:
    task = model()
    fit(task, max_epochs=4)
    return task


def test_good_training_is_fine() -> None:
    guard = ValidationGuard()
    assert fit(model(), guard, max_epochs=3) == []
    assert guard.verdicts == {0: "fine", 1: "fine", 2: "fine"}
    assert {one.check: one.passed for one in guard.results} == {
        "validation": True, "loss": True, "features": True, "units": True, "modes": True,
    }  # fmt: skip


def test_worse_predictions_are_said_once_with_rates() -> None:
    task, guard = trained(), ValidationGuard()

    def turn(module) -> None:
        module.head[-1].weight.mul_(-1)
        module.head[-1].bias.mul_(-1)

    (said,) = fit(task, guard, Damage(turn), max_epochs=3)
    assert "after epoch 1: [validation] val_accuracy is 0, clearly below the 1 of before" in said
    assert "at a tenth of the rates (early 0.001, late 0.001, head 0.001)" in said
    assert set(guard.verdicts) == {0, 1, 2}
    assert guard.verdicts[1] == "fine"  # turned twice


def test_a_loss_that_runs_away_is_said_though_the_metric_holds() -> None:
    def shout(module) -> None:
        for layer in module.head:
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(1e4)
                layer.bias.mul_(1e4)

    task, guard = model(lr=1e-9), ValidationGuard()
    (said,) = fit(task, guard, Damage(shout))
    assert "[validation]" not in said
    assert "[loss] val_loss is" in said


def test_rates_that_ruin_stored_statistics_are_named_with_the_policy() -> None:
    task = model("eval", lr=300.0, optim={"optimizer": "torch.optim.SGD"})
    start = trained()
    task.load_state_dict(start.state_dict())
    (said, *_) = fit(task, ValidationGuard(), max_epochs=1)
    assert "[validation]" in said
    assert "`norm_policy='calibrated'` stands higher rates than 'eval'" in said


def test_dead_features_are_counted() -> None:
    guard = ValidationGuard()

    def kill(module) -> None:
        module.backbone.model[1][1].bias[:4].fill_(-1e4)

    said = fit(trained(), guard, Damage(kill))
    assert "[features] 50 % of the backbone's features are the same" in said[0]


def test_dead_units_within_the_network_are_counted() -> None:
    def kill(module) -> None:
        module.backbone.model[0][1].bias.fill_(-1e4)  # 8 of 24 units; the next 8 see zeros alone

    guard = ValidationGuard()
    (said,) = fit(trained(), guard, Damage(kill))
    assert "[units] 100 % of the network's units are the same for all validation samples" in said

    task = model(head={"hidden": 24})
    fit(task, max_epochs=4)
    place = next(index for index, layer in enumerate(task.head) if isinstance(layer, nn.ReLU))

    def kill_hidden(module) -> None:
        module.head[place - 1].bias.fill_(-1e4)  # 24 of 40

    (said,) = fit(task, guard, Damage(kill_hidden))
    assert "[units] 60 % of the network's units" in said
    assert "[features]" not in said


def test_an_empty_batch_says_nothing_of_units() -> None:
    part = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    watch = ValidationWatch(part, num_batches=4)
    assert part(torch.ones(0, 2)).shape == (0, 3)
    assert part(torch.ones(5, 2)).shape == (5, 3)
    watch.end()


def test_modes_that_disagree_are_said() -> None:
    def forget(module) -> None:
        module.head[0].running_mean.sub_(30 * module.head[0].running_var.sqrt())

    guard = ValidationGuard()
    (said,) = fit(trained(), guard, Damage(forget))
    assert "[modes] on the same samples the loss is" in said


@pytest.mark.parametrize("policy", ["eval", "eval_if_frozen"])
def test_training_is_the_same_with_and_without(policy) -> None:
    states = []
    for callbacks in ([], [ValidationGuard()]):
        pl.seed_everything(3, verbose=False)
        task = model(policy)
        fit(task, *callbacks, max_epochs=2, num_sanity_val_steps=0)
        states.append(copy.deepcopy(task.state_dict()))
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_the_trainer_is_left_as_it_was() -> None:
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=[ValidationGuard()])
    before = trainer.num_sanity_val_steps
    trainer.fit(model(), loader(), loader(64))
    assert trainer.num_sanity_val_steps == before


def test_a_resumed_fit_compares_with_what_was_before_it(tmp_path) -> None:
    task = trained()
    start = copy.deepcopy(task.state_dict())
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=[ValidationGuard()])
    trainer.fit(task, loader(shuffle=True), loader(64))
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    again, guard = model(), ValidationGuard()
    again.load_state_dict(start)

    def turn(module) -> None:
        module.head[-1].weight.mul_(-1)
        module.head[-1].bias.mul_(-1)

    path = str(tmp_path / "half.ckpt")
    said = fit(again, guard, Damage(turn), max_epochs=2, ckpt_path=path)
    assert list(guard.verdicts) == [0, 1]
    assert "below the 1 of before this fit" in said[0]


def test_without_a_validation_nothing_is_said() -> None:
    guard = ValidationGuard()
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=[guard])
    trainer.fit(model(), loader())
    assert guard.verdicts == {}


class Plain(pl.LightningModule):
    """A module of somebody else, which only logs a loss."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.losses = iter(losses)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).mean()

    def on_validation_epoch_start(self) -> None:
        self.value = next(self.losses)

    def validation_step(self, batch, batch_idx) -> None:
        self.log("val_loss", torch.tensor(self.value))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)


@pytest.mark.parametrize(("after", "is_said"), [(0.5, False), (0.54, False), (0.7, True)])
def test_a_module_of_ones_own_is_judged_by_its_loss(after, is_said) -> None:
    rows = DataLoader(torch.zeros(4, 1), batch_size=2)
    guard = ValidationGuard()
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=[guard])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(Plain([0.5, after]), rows, rows)
    assert (guard.verdicts[0] != "fine") is is_said


# What is clear


@pytest.mark.parametrize(
    ("before", "after", "count", "worse"),
    [
        (0.766, 0.457, 300, True),
        (0.974, 0.918, 500, True),
        (0.974, 0.964, 500, False),
        (1.0, 0.75, 4, False),
        (1.0, 0.5, 100, True),
        (0.5, float("nan"), 100, True),
        (float("nan"), 0.5, 100, False),
    ],
)
def test_shares_are_compared_by_their_noise(before, after, count, worse) -> None:
    assert is_clearly_worse(before, after, count, higher_is_better=True) is worse


def test_other_numbers_are_compared_by_a_tenth() -> None:
    assert not is_clearly_worse(0.2, 0.215, 100, higher_is_better=False)
    assert is_clearly_worse(0.2, 0.23, 100, higher_is_better=False)
    assert is_clearly_worse(20.0, 17.0, 100, higher_is_better=True)


def test_accuracy_worse_by_noise_is_seldom_called_clear() -> None:
    draw = np.random.default_rng(0)
    pairs = draw.binomial(200, 0.9, (2000, 2)) / 200
    called = [is_clearly_worse(a, b, 200, higher_is_better=True) for a, b in pairs]
    assert np.mean(called) < 0.03


@pytest.mark.parametrize(
    ("by_store", "by_batch", "disagree"),
    [
        (0.2, 0.2, False),
        (0.01, 0.1, False),
        (2.0, 0.24, True),
        (0.24, 2.0, False),  # batches of one class, as a folder has them
        (float("nan"), 1, True),
    ],
)
def test_losses_of_both_modes(by_store, by_batch, disagree) -> None:
    assert modes_disagree(by_store, by_batch) is disagree
