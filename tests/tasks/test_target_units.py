"""Targets of any size: trained in deviations from their mean, measured in their own units."""

import copy

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from helpers.trainers import QUIET, quiet_trainer

from lightning_fastrecipes import FractionSplit, TableColumns, TabularDataModule
from lightning_fastrecipes.data.tables import datamodule
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.functional.labels import numbers as numbers_module
from lightning_fastrecipes.functional.tables.spec import TableSpec
from lightning_fastrecipes.tasks import numbers as tasks_module
from lightning_fastrecipes.tasks.table_task import TabularNetwork
from lightning_fastrecipes.tasks.tabular import TabularRegressor

NETWORK = TabularNetwork([16], dropout=0.0, embedding_dropout=0.0)


def table(scale=1.0, offset=0.0):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"a": draw.normal(size=400), "b": draw.choice(list("xyz"), 400)})
    plain = frame["a"] + frame["b"].map({"x": 0, "y": 1, "z": 3}) + draw.normal(0, 0.1, 400)
    return frame.assign(y=plain * scale + offset)


def module(frame, **options):
    columns = TableColumns("y", ["b"], ["a"], **options)
    split = FractionSplit(val=0.25)
    return TabularDataModule(frame, columns, split=split, batch_size=50, cache="off")


def fitted(data, epochs=6, model=None, **options):
    torch.manual_seed(0)
    model = model or TabularRegressor(network=NETWORK, lr=0.02)
    trainer = pl.Trainer(max_epochs=epochs, **QUIET)
    trainer.fit(model, data, **options)
    return model, trainer


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("scale", "offset"),
    [(1e-8, 0.0), (1e-8, 10.0), (1e12, 0.0), (1.0, 1e9), (1e12, -1e21), (1e-30, 0.0), (1e30, 0.0)],
)
def test_a_target_of_any_size_is_learned_alike_and_measured_in_its_units(scale, offset):
    data = module(table(scale, offset))
    model, trainer = fitted(data)
    _, plain = fitted(module(table()))
    found, expected = trainer.callback_metrics, plain.callback_metrics

    assert float(expected["val_rmse"]) < 0.4
    assert float(found["val_loss"]) == pytest.approx(float(expected["val_loss"]), rel=1e-2)
    for name in ("val_rmse", "val_mae"):
        assert float(found[name]) == pytest.approx(scale * float(expected[name]), rel=1e-2)
    predictions = torch.cat(trainer.predict(model, data.val_dataloader())).numpy()
    errors = predictions - table(scale, offset)["y"].to_numpy()[data.encoded("val").rows]
    assert predictions.dtype == np.float64
    assert float(found["val_rmse"]) == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-6)


def test_targets_that_metrics_see_are_exactly_those_of_the_table():
    frame = table().assign(y=lambda rows: rows["y"].round(1))
    seen = []

    def zeros(predictions, targets):
        seen.append(targets)
        return (targets == 0).sum()

    data = module(frame)
    model = TabularRegressor(network=NETWORK, metrics={"zeros": zeros})
    _, trainer = fitted(data, epochs=1, model=model)
    expected = frame["y"].to_numpy()[data.encoded("val").rows]
    np.testing.assert_array_equal(seen[-1].numpy(), expected)
    assert float(trainer.callback_metrics["val_zeros"]) == (expected == 0).sum() > 0


def test_the_loss_is_a_share_of_the_variance_of_the_training_targets():
    data = module(table(1e5, 3e7))
    data.setup("fit")
    model = TabularRegressor(data.spec, network=NETWORK).eval()
    targets = data.train_targets
    mean = torch.zeros(len(targets))  # what is predicted where the mean is
    assert float(model.loss(mean, targets)) == pytest.approx(1.0, rel=1e-6)
    back = model.logits(model.probabilities(torch.tensor([-1.5, 0.25])))
    torch.testing.assert_close(back, torch.tensor([-1.5, 0.25]))


def old(spec: TableSpec) -> TableSpec:
    """Return a spec as earlier versions stored it: with all numbers in 32 bits."""
    plain = copy.deepcopy(spec.to_dict()) | {"version": 1}
    column = plain["target_column"]
    del column["scaled"]
    for name in ("low", "high", "mean", "std"):
        column[name] = float(np.float32(column[name]))
    return TableSpec.from_dict(plain)


def test_a_checkpoint_of_before_predicts_and_resumes_in_the_unit_that_it_was_trained_in(tmp_path):
    frame = table(30.0, 100.0)
    data = module(frame)
    data.setup("fit")

    def before():
        torch.manual_seed(0)
        return TabularRegressor(old(data.spec), network=NETWORK, lr=0.02)

    whole, trainer = fitted(module(frame), 4, before())
    assert float(trainer.callback_metrics["val_loss"]) == pytest.approx(
        float(trainer.callback_metrics["val_rmse"]) ** 2, rel=1e-4
    )
    _, trainer = fitted(module(frame), 2, before())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    loaded = TabularRegressor.load_from_checkpoint(tmp_path / "half.ckpt")
    assert not loaded.spec.target_column.scaled
    # A new run of the same recipe knows the data's spec first, which is of today.
    torch.manual_seed(1)
    model = TabularRegressor(data.spec, network=NETWORK, lr=0.02)
    resumed, _ = fitted(
        module(frame), 4, model, ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_a_device_without_64_bits_leaves_targets_and_metrics_on_the_cpu(monkeypatch):
    def has_none(device):
        return False

    monkeypatch.setattr(numbers_module, "has_doubles", has_none)
    monkeypatch.setattr(tasks_module, "has_doubles", has_none)
    monkeypatch.setattr(datamodule, "has_doubles", has_none)
    data = module(table(1e12))
    _, trainer = fitted(data)
    assert float(trainer.callback_metrics["val_rmse"]) < 0.4e12
    batch = next(iter(data.val_dataloader()))
    inputs, targets = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert (inputs.codes.device.type, targets.device.type) == ("meta", "cpu")
    assert targets.dtype == torch.float64


def test_what_would_round_the_target_away_is_refused():
    trainer = quiet_trainer(max_epochs=1, precision="bf16-true")
    with pytest.raises(ConfigurationError, match=r"rounds them to 16 bits. Use 'bf16-mixed'"):
        trainer.fit(TabularRegressor(network=NETWORK), module(table()))
    with pytest.raises(DataError, match=r"logarithm of the target 'y' must differ .* 32 bits"):
        module(table(1.0, 1e8), log_target=True).setup("fit")


def test_other_training_rows_are_no_rounding(tmp_path):
    data = module(table())
    data.setup("fit")
    other = module(table().assign(y=lambda rows: rows["y"] * 1.0001))
    other.setup("fit")
    assert data.spec.difference(old(data.spec)) == ""
    assert "target 'y': low" in data.spec.difference(other.spec)
