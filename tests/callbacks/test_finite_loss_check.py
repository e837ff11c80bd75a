"""A loss that is no number ends the fit, and what was saved before is kept."""

import json

import pytest
import pytorch_lightning as pl
import torch
from helpers.trainers import QUIET
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_fastrecipes import SGDR, FiniteLossCheck
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import ConfigurationError


class Breaks(pl.LightningModule):
    """Gives a loss of its choice from one step on."""

    def __init__(self, at: int, loss: float) -> None:
        super().__init__()
        self.layer, self.at, self.bad = nn.Linear(2, 1), at, loss

    def training_step(self, batch, batch_idx):
        loss = self.layer(batch[0]).square().mean()
        return {"loss": loss * 0 + self.bad if self.global_step >= self.at else loss}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module: Breaks, *callbacks: pl.Callback) -> None:
    loader = DataLoader(TensorDataset(torch.ones(16, 2)), batch_size=4)
    pl.Trainer(**QUIET, max_epochs=3, callbacks=list(callbacks)).fit(module, loader)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_the_step_is_named_and_no_more_are_taken(loss) -> None:
    module = Breaks(5, loss)
    with pytest.raises(
        ConfigurationError, match=r"at step 6, in epoch 2, with the rates .*1.00e-01"
    ):
        fit(module, FiniteLossCheck())
    assert module.global_step == 6


def test_weights_that_the_last_step_of_an_epoch_ruins_stop_the_fit() -> None:
    class RuinsItself(Breaks):
        def on_before_optimizer_step(self, optimizer):
            if self.global_step == self.at:
                self.layer.bias.grad.fill_(float("inf"))

    module = RuinsItself(3, 0.5)
    with pytest.raises(ConfigurationError, match=r"The weights must be finite .* in epoch 1"):
        fit(module, FiniteLossCheck())
    assert module.global_step == 4


def test_a_loss_of_a_validation_that_is_none_is_said_and_training_goes_on() -> None:
    class LosesLater(Breaks):
        def validation_step(self, batch, batch_idx):
            self.log("val/loss", torch.tensor(float("nan") if self.current_epoch else 0.1))

    module = LosesLater(99, 0.0)
    loader = DataLoader(TensorDataset(torch.ones(16, 2)), batch_size=4)
    trainer = pl.Trainer(**QUIET, max_epochs=2, callbacks=[FiniteLossCheck()])
    with pytest.warns(UserWarning, match="'val/loss' is none after epoch 2") as said:
        trainer.fit(module, loader, loader)
    assert sum("val/loss" in str(one.message) for one in said) == 1
    assert module.global_step == 8


def test_a_finite_loss_goes_on() -> None:
    module = Breaks(99, 0.0)
    fit(module, FiniteLossCheck())
    assert module.global_step == 12


def test_a_recipe_stops_keeps_the_last_good_epoch_and_exports_nothing(
    recipe_file, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    begin = SGDR.on_train_batch_start

    def break_it(self, trainer, pl_module, batch, batch_idx) -> None:
        begin(self, trainer, pl_module, batch, batch_idx)
        if trainer.current_epoch == 1:
            with torch.no_grad():
                next(pl_module.head.parameters()).fill_(float("nan"))

    monkeypatch.setattr(SGDR, "on_train_batch_start", break_it)
    assert main(["run", str(recipe_file), "--out", "run"]) == 1
    assert "must be a finite number" in capsys.readouterr().err
    assert not (tmp_path / "run" / "export").exists()
    assert not (tmp_path / "run" / "results.json").exists()
    for path in (tmp_path / "run" / "checkpoints").glob("*.ckpt"):
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for value in state.values() if value.is_floating_point())
    json.loads((tmp_path / "run" / "progress.json").read_text(), parse_constant=pytest.fail)
