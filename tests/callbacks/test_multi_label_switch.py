"""A module written for one label is trained for several, where the data have them."""

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F  # noqa: N812
from helpers.trainers import QUIET
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from lightning_fastrecipes import ImageClassifier, MultiLabelSwitch, SampleFBeta
from lightning_fastrecipes.callbacks.initial_loss_check import InitialLossCheck
from lightning_fastrecipes.errors import ConfigurationError


class Own(pl.LightningModule):
    """A module of the user's own, for one label, which knows nothing of several."""

    num_classes = 3

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)
        self.loss = nn.CrossEntropyLoss()
        self.metrics = MetricCollection({"accuracy": MulticlassAccuracy(3)}, prefix="val_")

    def probabilities(self, logits):
        return logits.softmax(dim=1)

    def training_step(self, batch, batch_idx):
        return self.loss(self.layer(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        logits = self.layer(batch[0])
        self.metrics.update(self.probabilities(logits), batch[1])
        self.log("val_loss", self.loss(logits, batch[1]))

    test_step = validation_step

    def on_validation_epoch_end(self):
        self.log_dict(self.metrics.compute())
        self.metrics.reset()

    on_test_epoch_end = on_validation_epoch_end

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)


class AllFunctions(Own):
    """The same with plain functions, and methods, in place of modules."""

    def __init__(self) -> None:
        super().__init__()
        del self.loss
        self.loss = F.cross_entropy


class Data(pl.LightningDataModule):
    classes = ("a", "b", "c")

    def __init__(self, label_kind: str = "multi") -> None:
        super().__init__()
        self.label_kind = label_kind
        self.label_reason = f"{label_kind}, since 7 rows say so"

    def rows(self, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(30, 4, generator=generator)
        targets = (inputs[:, :3] > 0.4).float()
        return inputs, targets if self.label_kind == "multi" else targets.argmax(1)

    @property
    def train_targets(self):
        return self.rows(0)[1]

    def loader(self, seed: int) -> DataLoader:
        return DataLoader(TensorDataset(*self.rows(seed)), batch_size=7)

    def train_dataloader(self):
        return self.loader(0)

    def val_dataloader(self):
        return self.loader(1)

    def test_dataloader(self):
        return self.loader(2)


def fit(module, data=None, switch=None, epochs=3, ckpt_path=None, **options) -> pl.Trainer:
    callbacks = [switch or MultiLabelSwitch(), *options.pop("callbacks", [])]
    trainer = pl.Trainer(max_epochs=epochs, callbacks=callbacks, **(QUIET | options))
    trainer.fit(module, datamodule=data or Data(), ckpt_path=ckpt_path, weights_only=True)
    return trainer


@pytest.mark.parametrize("make", [Own, AllFunctions])
def test_everything_is_switched_together_and_the_reason_is_printed(make, caplog) -> None:
    module = make()
    with caplog.at_level("INFO"):
        trainer = fit(module)
    logits, targets = torch.randn(2, 3), torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    expected = F.binary_cross_entropy_with_logits(logits, targets)
    assert module.loss(logits, targets) == expected
    assert torch.equal(module.probabilities(logits), logits.sigmoid())
    assert "val_f2" in trainer.callback_metrics
    assert "MultiLabelSwitch: multi, since 7 rows say so" in caplog.messages


def test_one_label_changes_nothing() -> None:
    plain, switched = Own(), Own()
    trainer = pl.Trainer(max_epochs=3, **QUIET)
    trainer.fit(plain, datamodule=Data("single"))
    fit(switched, Data("single"))
    assert torch.equal(plain.layer.weight, switched.layer.weight)
    assert isinstance(switched.loss, nn.CrossEntropyLoss)
    assert set(switched.state_dict()) == {"layer.weight", "layer.bias"}


def scores(module, seed: int) -> SampleFBeta:
    inputs, targets = Data().rows(seed)
    metric = SampleFBeta(3)
    with torch.no_grad():
        metric.update(module.probabilities(module.layer(inputs)), targets)
    return metric


def test_thresholds_are_tuned_on_the_validation_and_used_by_the_test(tmp_path) -> None:
    module = Own()
    trainer = fit(module)
    best = scores(module, seed=1)
    assert float(trainer.callback_metrics["val_f2"]) == pytest.approx(float(best.compute()))
    assert torch.equal(module.thresholds, best.best_thresholds)

    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = Own()
    tester = pl.Trainer(callbacks=[MultiLabelSwitch()], **QUIET)
    found = tester.test(
        again, datamodule=Data(), ckpt_path=tmp_path / "a.ckpt", verbose=False, weights_only=True
    )
    assert torch.equal(again.thresholds, module.thresholds)
    fixed = SampleFBeta(3)
    fixed.fix(module.thresholds)
    inputs, targets = Data().rows(2)
    fixed.update(module.probabilities(module.layer(inputs)).detach(), targets)
    assert found[0]["val_f2"] == pytest.approx(float(fixed.compute()))


def test_a_module_is_switched_by_hand_before_it_is_loaded(tmp_path) -> None:
    module = Own()
    fit(module).save_checkpoint(tmp_path / "a.ckpt")
    again = Own()
    MultiLabelSwitch().switch(again)
    again.load_state_dict(torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"])
    assert torch.equal(again.thresholds, module.thresholds)


def test_a_resumed_fit_equals_an_uninterrupted_one(tmp_path) -> None:
    whole, resumed = Own(), Own()
    fit(whole, epochs=4)
    fit(Own(), epochs=2).save_checkpoint(tmp_path / "half.ckpt")
    fit(resumed, epochs=4, ckpt_path=tmp_path / "half.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


@pytest.mark.parametrize(("before", "after"), [("multi", "single"), ("single", "multi")])
def test_it_never_flips_on_resume(tmp_path, before, after) -> None:
    fit(Own(), Data(before)).save_checkpoint(tmp_path / "a.ckpt")
    message = f"kind '{before}', but the data now have '{after}'"
    with pytest.raises(ConfigurationError, match=message):
        fit(Own(), Data(after), epochs=4, ckpt_path=tmp_path / "a.ckpt")


def test_it_never_flips_between_two_fits() -> None:
    module = Own()
    fit(module)
    with pytest.raises(ConfigurationError, match=r"now labels are 'single' .* never switches back"):
        fit(module, Data("single"))


def test_positives_weigh_as_much_as_negatives() -> None:
    module = Own()
    fit(module, switch=MultiLabelSwitch(pos_weight="balanced"))
    held = Data().train_targets.sum(0)
    torch.testing.assert_close(module.rules.pos_weight, (30 - held) / held)


def test_the_initial_checks_know_of_the_switch() -> None:
    check = InitialLossCheck(on_failure="raise", tolerance=1.0)
    fit(Own(), callbacks=[check])
    assert next(f for f in check.results if f.check == "labels").passed


def test_a_module_without_the_protocol_is_told_what_it_lacks() -> None:
    class Bare(Own):
        def __init__(self) -> None:
            super().__init__()
            del self.loss
            del self.metrics

    with pytest.raises(ConfigurationError, match=r"but Bare lacks `loss`, `metrics`\. Set them"):
        fit(Bare())


def test_a_task_that_switches_by_itself_is_left_alone() -> None:
    model = ImageClassifier(nn.Sequential(nn.Conv2d(3, 5, 1)), 3, head="linear", num_groups=2)
    callback = MultiLabelSwitch("multi")
    callback.setup(pl.Trainer(**QUIET), model, "fit")
    assert model.label_kind == "single"
    assert callback.state_dict() == {"label_kind": "single"}


def test_without_a_datamodule_the_user_must_say() -> None:
    trainer = pl.Trainer(max_epochs=1, callbacks=[MultiLabelSwitch()], **QUIET)
    with pytest.raises(ConfigurationError, match="Say `label_kind='multi'` or 'single'"):
        trainer.fit(Own(), Data().train_dataloader(), Data().val_dataloader())
    module = Own()
    trainer = pl.Trainer(max_epochs=1, callbacks=[MultiLabelSwitch("multi")], **QUIET)
    trainer.fit(module, Data().train_dataloader(), Data().val_dataloader())
    assert "thresholds" in module.state_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_kind": "soft"}, "`label_kind` must be 'auto', 'single' or 'multi'"),
        ({"threshold": "each"}, "`threshold` must be 'one' or 'per_label'"),
        ({"pos_weight": "even"}, "`labels.pos_weight` must be 'balanced'"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        MultiLabelSwitch(**options)
