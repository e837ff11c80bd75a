"""Several targets at once: each as if it were alone, in its own units, beside the others."""

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from helpers.trainers import QUIET
from sklearn.metrics import mean_absolute_error, root_mean_squared_error
from torch.nn import functional
from torchmetrics import MeanAbsoluteError

from lightning_fastrecipes import (
    Ensemble,
    TableColumns,
    TableSpec,
    TabularDataModule,
    TabularMultiTarget,
    TabularRegressor,
)
from lightning_fastrecipes.errors import ConfigurationError, DataError

TARGETS = ["sales", "size", "epoch"]
TASKS = {"sales": "regression", "size": "classes", "epoch": "regression"}
NETWORK = {"layers": [16, 8], "dropout": 0.0, "embedding_dropout": 0.0}


def table(num_rows=240):
    draw = np.random.default_rng(0)
    shop, km = draw.integers(0, 4, num_rows), draw.normal(20, 5, num_rows)
    sales = np.exp(3 + 0.3 * shop + 0.05 * km)
    return pd.DataFrame(
        {
            "shop": [f"s{number}" for number in shop],
            "km": km,
            "sales": sales,
            "size": np.where(sales > np.median(sales), "large", "small"),
            "epoch": 1.7e9 + 1e-3 * km,  # deviations that 32 bits cannot tell from the mean
        }
    )


def columns(**options):
    return TableColumns(
        **(
            {"target": TARGETS, "task": TASKS, "categorical": ["shop"], "continuous": ["km"]}
            | options
        )
    )


def data(frame=None, **options):
    return TabularDataModule(
        table() if frame is None else frame, columns(**options), split=0.25, batch_size=32,
        mask_fraction=0.0, cache="off",
    )  # fmt: skip


def model(spec=None, **options):
    torch.manual_seed(0)
    return TabularMultiTarget(spec, **({"network": NETWORK, "lr": 0.02} | options))


def fitted(module, datamodule, epochs=2, **options):
    trainer = pl.Trainer(max_epochs=epochs, **(QUIET | options))
    trainer.fit(module, datamodule=datamodule)
    return trainer


@pytest.fixture(scope="module")
def trained():
    source = data()
    module = model()
    trainer = fitted(module, source, epochs=30)
    return source, module, trainer


def test_metrics_of_each_target_are_those_of_its_predictions_in_its_own_units(trained):
    source, module, trainer = trained
    rows = table().iloc[source.encoded("val").rows]
    found = module.predict(rows)
    metrics = trainer.callback_metrics

    assert {name for name in metrics if name.startswith("val_")} == {
        "val_loss", "val_mae_sales", "val_rmse_sales", "val_accuracy_size", "val_mae_epoch",
        "val_rmse_epoch",
    }  # fmt: skip
    for name in ("sales", "epoch"):
        mae = mean_absolute_error(rows[name], found[f"prediction_{name}"])
        rmse = root_mean_squared_error(rows[name], found[f"prediction_{name}"])
        assert float(metrics[f"val_mae_{name}"]) == pytest.approx(mae, rel=1e-6)
        assert float(metrics[f"val_rmse_{name}"]) == pytest.approx(rmse, rel=1e-6)
    accuracy = (rows["size"] == found["prediction_size"]).mean()
    assert float(metrics["val_accuracy_size"]) == pytest.approx(accuracy)
    # Everything is learned, the one of 1.7e9 too, whose deviation is 5e-3.
    assert accuracy > 0.9
    assert float(metrics["val_rmse_sales"]) < 0.3 * table()["sales"].std()
    assert float(metrics["val_rmse_epoch"]) < 0.3 * table()["epoch"].std()


def test_the_loss_is_the_weighted_mean_of_shares_of_what_knowing_nothing_costs(trained):
    source, module, trainer = trained
    train, val = (table().iloc[source.encoded(split).rows] for split in ("train", "val"))
    found = module.predict(val)
    parts = {
        name: np.mean((val[name] - found[f"prediction_{name}"]) ** 2) / train[name].var(ddof=0)
        for name in ("sales", "epoch")
    }
    is_large = val["size"] == "large"
    right = np.where(is_large, found["size=large"], found["size=small"])
    parts["size"] = -np.log(right).mean() / np.log(2)
    mean = np.mean(list(parts.values()))
    assert float(trainer.callback_metrics["val_loss"]) == pytest.approx(mean, rel=1e-3)

    module.loss_weights = {"size": 0.0, "epoch": 3.0}
    weighted = trainer.validate(module, datamodule=source, verbose=False)[0]["val_loss"]
    module.loss_weights = {}
    expected = (parts["sales"] + 3 * parts["epoch"]) / 4
    assert weighted == pytest.approx(expected, rel=1e-3)


def test_the_loss_of_every_target_is_about_one_before_training():
    source = data()
    source.setup("fit")
    module = model(source.spec)
    inputs, targets = next(iter(source.train_dataloader()))
    losses = module.eval().target_losses(module(inputs), targets)
    assert list(losses) == TARGETS
    for loss in losses.values():
        assert float(loss.detach()) == pytest.approx(1.0, abs=0.45)


def test_logarithms_are_of_all_numbers_and_each_is_bounded_by_itself():
    source = data(target=["sales", "epoch"], task="regression", log_target=True)
    with pytest.raises(DataError, match=r"logarithm of the target 'epoch' .* by more than 32"):
        source.setup("fit")
    source = data(target=["sales", "km2"], task="regression", log_target=True,
                  frame=table().assign(km2=lambda rows: rows["km"] ** 2))  # fmt: skip
    module = model()
    trainer = fitted(module, source, epochs=10)
    found = module.predict(table().assign(km=1e9))
    limits = {name: np.exp(1.2 * np.log(table().assign(km2=table()["km"] ** 2)[name].max()))
              for name in ("sales", "km2")}  # fmt: skip
    for name, limit in limits.items():
        assert (found[f"prediction_{name}"] <= limit * 1.001).all()
    assert {"val_rmspe_sales", "val_rmspe_km2"} <= {*trainer.callback_metrics}


def test_one_target_in_a_list_is_one_target():
    one = columns(target=["sales"], task={"sales": "regression"})
    assert one == columns(target="sales", task="regression")
    assert columns(target=["sales", "epoch"], task={"sales": "regression", "epoch": "regression"}) \
        == columns(target=["sales", "epoch"], task="regression")  # fmt: skip


def test_a_spec_of_several_targets_goes_through_plain_values_and_one_of_one_stays_as_it_was():
    spec = columns().fit(table())
    assert TableSpec.from_dict(spec.to_dict()) == spec
    assert spec.to_dict()["version"] == 3
    assert spec.targets == TARGETS
    assert TableColumns.of(spec) == columns()
    alone = columns(target="sales", task="regression").fit(table())
    assert alone.to_dict()["version"] == 2
    assert "more_targets" not in alone.to_dict()
    assert "targets: ['sales', 'size', 'epoch'] and ['sales']" in spec.difference(alone)
    other = columns().fit(table().assign(epoch=lambda rows: rows["epoch"] * 2))
    assert "target 'epoch'" in spec.difference(other)
    assert "target 'sales'" not in spec.difference(other)


def test_a_checkpoint_alone_predicts_and_a_stopped_fit_goes_on_bit_for_bit(tmp_path):
    whole = model(loss_weights={"size": 2.0})
    fitted(whole, data(), epochs=4)
    half = model(loss_weights={"size": 2.0})
    trainer = fitted(half, data(), epochs=2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    rest = model(loss_weights={"size": 2.0})
    pl.Trainer(max_epochs=4, **QUIET).fit(
        rest, datamodule=data(), ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    for name, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name

    loaded = TabularMultiTarget.load_from_checkpoint(tmp_path / "half.ckpt")
    assert loaded.loss_weights == {"size": 2.0}
    pd.testing.assert_frame_equal(loaded.predict(table()), half.predict(table()))


def test_predictions_go_back_to_the_outputs_that_they_come_from(trained):
    source, module, _ = trained
    inputs, _ = next(iter(source.val_dataloader()))
    with torch.inference_mode():
        outputs = module.eval()(inputs)
        again = module.probabilities(module.logits(module.probabilities(outputs)))
    assert again.dtype == torch.float64
    torch.testing.assert_close(again, module.probabilities(outputs), rtol=1e-6, atol=1e-6)


def test_an_ensemble_predicts_the_mean_in_the_units_of_the_table(trained):
    source, module, _ = trained
    other = model(source.spec)
    loader = source.eval_dataloader("val")
    with torch.inference_mode():
        each = [
            torch.cat([one.probabilities(one(inputs)) for inputs, _ in loader])
            for one in (module.eval(), other.eval())
        ]
    found = Ensemble([module, other]).predict(loader)
    torch.testing.assert_close(found, (each[0] + each[1]) / 2)
    with pytest.raises(ConfigurationError, match="`merge` must be 'probabilities' for numbers"):
        Ensemble([module, other], merge="logits").predict(loader)


def test_metrics_are_chosen_by_target(trained):
    source, _, _ = trained
    frame = table().rename(columns={"sales": "a.b", "epoch": "a b"})
    renamed = data(frame, target=["a.b", "a b", "size"],
                   task={"a.b": "regression", "a b": "regression", "size": "classes"})  # fmt: skip
    module = model(
        metrics={
            "a.b": {"mae": MeanAbsoluteError()},
            "size": {"auc": "torchmetrics.classification.MulticlassAUROC"},
        }
    )
    trainer = fitted(module, renamed)
    assert {name for name in trainer.callback_metrics if name.startswith("val_")} == {
        "val_loss", "val_mae_a_b", "val_mae_a_b_2", "val_rmse_a_b_2", "val_auc_size",
    }  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"`metrics` must name targets .* names 'mae'"):
        model(source.spec, metrics={"mae": MeanAbsoluteError()})
    with pytest.raises(ConfigurationError, match=r"`metrics.size` must map names to metrics"):
        model(source.spec, metrics={"size": "torchmetrics.Accuracy"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": ["sales", "sales"]}, r"once, but \['sales'\] are named twice"),
        ({"target": ["sales", "km"], "task": "regression"}, r"once, but \['km'\] are named twice"),
        ({"target": []}, r"`target` must name one column, or a list of up to 100, got 0"),
        ({"target": [f"t{n}" for n in range(101)]}, r"a list of up to 100, got 101"),
        ({"target": ["sales", 3]}, r"`target` must be the name of a column, or a list of names"),
        ({"target": 3}, r"`target` must be the name of a column, or a list of names, got 3"),
        ({"task": {"sales": "regression"}}, r"one task for each of \['sales', 'size', 'epoch'\]"),
        ({"task": {**TASKS, "km": "classes"}}, r"`task` must have one task for each of"),
        (
            {"task": {**TASKS, "size": "class"}},
            r"`task.size` must be 'regression' or 'classes', but is",
        ),
        ({"class_balanced": True}, r"`class_balanced` must be False"),
        ({"task": "classes", "class_balanced": True}, r"`class_balanced` must be False for 3 ta"),
        ({"task": "classes", "log_target": True}, r"`log_target` must be False for the task"),
    ],
)
def test_columns_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        columns(**options)


def test_a_missing_cell_of_any_target_is_named():
    frame = table()
    frame.loc[7, "epoch"] = np.nan
    with pytest.raises(DataError, match="target 'epoch' must be there, but is missing in row 7"):
        data(frame).setup("fit")


def test_what_does_not_fit_is_refused_before_training():
    source = data()
    source.setup("fit")
    with pytest.raises(ConfigurationError, match=r"with several targets. Use `TabularMultiTarget`"):
        TabularRegressor(source.spec)
    alone = columns(target="sales", task="regression").fit(table())
    with pytest.raises(ConfigurationError, match=r"`task` is 'regression'. Use `TabularRegressor`"):
        model(alone)
    with pytest.raises(
        ConfigurationError, match=r"`loss_weights` must name targets .* names 'sale'"
    ):
        model(source.spec, loss_weights={"sale": 1.0})
    with pytest.raises(ConfigurationError, match="above 0 for at least one target"):
        model(source.spec, loss_weights=dict.fromkeys(TARGETS, 0.0))
    for wrong in (-1, float("nan"), float("inf"), True, "1"):
        with pytest.raises(ValueError, match="`loss_weights` must be finite numbers of at least 0"):
            model(loss_weights={"sales": wrong})
    with pytest.raises(ValueError, match="`y_range` must be 'auto', 'span' or none"):
        model(y_range=(0, 1))
    with pytest.raises(ConfigurationError, match="rounds them to 16 bits"):
        fitted(model(), source, precision="bf16-true")


def test_each_part_learns_as_its_own_loss_says(trained):
    """The gradient of the head is that of each target's loss alone, over the number of them."""
    source, module, _ = trained
    inputs, targets = next(iter(source.train_dataloader()))
    module.eval()
    outputs = module(inputs).detach().requires_grad_()
    module.loss(outputs, targets).backward()
    zero, one = source.spec.target_columns[2].unit
    deviations = ((targets[:, 2] - zero) / one).float()
    expected = 2 * (outputs[:, 3].detach() - deviations) / len(targets) / 3
    torch.testing.assert_close(outputs.grad[:, 3], expected)
    logits = outputs[:, 1:3].detach().requires_grad_()
    (functional.cross_entropy(logits, targets[:, 1].long()) / np.log(2) / 3).backward()
    torch.testing.assert_close(outputs.grad[:, 1:3], logits.grad)


def test_rows_may_count_more_than_others(trained):
    source, module, _ = trained
    inputs, targets = next(iter(source.val_dataloader()))
    outputs = module.eval()(inputs).detach()
    weights = torch.ones(len(targets))
    plain = module.loss(outputs, targets)
    torch.testing.assert_close(module.weighted_loss(outputs, targets, weights), plain)
    weights[10:] = 0
    some = module.loss(outputs[:10], targets[:10]) * 10 / len(targets)
    torch.testing.assert_close(module.weighted_loss(outputs, targets, weights), some)

    frame = table().assign(count=1.0)
    same = model()
    fitted(same, data(frame, weight="count"), epochs=1)
    once = model()
    fitted(once, data(frame), epochs=1)
    for name, value in once.state_dict().items():
        torch.testing.assert_close(same.state_dict()[name], value, rtol=1e-3, atol=1e-4)
