"""Tasks on tables: built from the spec, trained group by group, and whole in a checkpoint."""

import math
import os
import socket
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import torch.multiprocessing
from helpers.trainers import QUIET
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanAbsolutePercentageError, MeanSquaredError
from torchmetrics.classification import BinaryAUROC, BinaryF1Score, MulticlassAUROC

from lightning_fastrecipes.batches import TableInputs
from lightning_fastrecipes.callbacks.initial_loss_check import InitialLossCheck
from lightning_fastrecipes.callbacks.lr_finder import LRFinder, lr_find
from lightning_fastrecipes.callbacks.overfitting_stop import OverfittingStop
from lightning_fastrecipes.callbacks.sgdr import SGDR
from lightning_fastrecipes.callbacks.snapshots import CycleSnapshots
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.tables.spec import TableSpec
from lightning_fastrecipes.functional.tables.target import log_shift
from lightning_fastrecipes.tasks.ensemble import Ensemble
from lightning_fastrecipes.tasks.multi_target import TabularMultiTarget
from lightning_fastrecipes.tasks.table_task import TabularNetwork
from lightning_fastrecipes.tasks.tabular import TabularClassifier, TabularRegressor

pytestmark = pytest.mark.both


SMALL = {"network": TabularNetwork((16, 8), dropout=0.0, embedding_dropout=0.0)}


def table(num_rows=96, num_shops=6):
    generator = np.random.default_rng(0)
    shop = generator.integers(0, num_shops, num_rows)
    km = generator.normal(20, 5, num_rows)
    sales = np.exp(6 + 0.3 * shop + 0.02 * km)
    km[::9] = np.nan
    size = np.where(sales > np.median(sales), "large", "small")
    return pd.DataFrame(
        {"shop": [f"s{number}" for number in shop], "km": km, "sales": sales, "size": size}
    )


def spec_of(frame, **options):
    roles = {"target": "sales", "categorical": ["shop"], "continuous": ["km"], "log_target": True}
    return TableSpec.fit(frame, **(roles | options))


TASKS = {"sales": "regression", "size": "classes"}
CLASSES = {"target": "size", "task": "classes", "log_target": False}


class Rows(Dataset):
    def __init__(self, spec, frame, has_target=True):
        encoded = spec.encode(frame, has_target=has_target)
        self.inputs = TableInputs(
            torch.from_numpy(encoded.codes), torch.from_numpy(encoded.continuous)
        )
        self.targets = torch.from_numpy(encoded.target) if has_target else None

    def __len__(self):
        return len(self.inputs.codes)

    def __getitem__(self, row):
        inputs = TableInputs(*(part[row] for part in self.inputs))
        return (inputs,) if self.targets is None else (inputs, self.targets[row])


class Tables(pl.LightningDataModule):
    """What a datamodule of tables must have, and no more."""

    def __init__(self, frame, batch_size=16, rank=0, num_processes=1, **options):
        super().__init__()
        self.spec = spec_of(frame, **options)
        rows = frame.iloc[rank::num_processes]
        self.loader = DataLoader(Rows(self.spec, rows), batch_size=batch_size)

    def train_dataloader(self):
        return self.loader

    val_dataloader = test_dataloader = train_dataloader

    def predict_dataloader(self):
        return DataLoader(Rows(self.spec, table(), has_target=False), batch_size=16)

    def eval_dataloader(self, split):
        return self.loader


def fitted(model, data, epochs=2, **options):
    trainer = pl.Trainer(max_epochs=epochs, **(QUIET | options))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        trainer.fit(model, datamodule=data)
    return trainer


def regressor(spec=None, **options):
    torch.manual_seed(0)
    return TabularRegressor(spec, **(SMALL | {"lr": 0.01} | options))


def test_a_regression_learns_and_predicts_in_the_units_of_the_user():
    data = Tables(table())
    model = regressor()
    trainer = fitted(model, data, epochs=40)
    found = trainer.callback_metrics
    predictions = torch.cat(trainer.predict(model, datamodule=data)).numpy()
    sales = table()["sales"].to_numpy()
    shares = (predictions - sales) / sales

    assert float(found["val_rmspe"]) < 0.12
    assert float(found["val_rmspe"]) == pytest.approx(np.sqrt(np.mean(shares**2)), rel=1e-4)
    assert float(found["val_mae"]) == pytest.approx(np.abs(predictions - sales).mean(), rel=1e-4)
    squares = (np.log(predictions) - np.log(sales)) ** 2
    assert float(found["val_loss"]) == pytest.approx(squares.mean(), rel=1e-3)
    assert trainer.test(model, datamodule=data, verbose=False)[0]["test_rmspe"] == pytest.approx(
        float(found["val_rmspe"])
    )


@pytest.mark.parametrize("point", ["median", "mean", "min_rmspe"])
def test_a_point_of_a_distribution_is_best_at_what_it_is_for(point):
    draw = np.random.default_rng(0)
    sales = np.exp(6 + 0.3 * draw.normal(size=200_000))
    best = {
        "median": np.median(sales),
        "mean": sales.mean(),
        "min_rmspe": (1 / sales).mean() / (1 / sales**2).mean(),
    }
    shift = log_shift(point, torch.tensor(0.3**2))
    assert math.exp(6 + shift) == pytest.approx(best[point], rel=0.005)


def test_the_point_for_shares_has_the_least_percentage_error(tmp_path):
    frame = table(num_rows=512)
    noise = np.random.default_rng(1).normal(0, 0.4, len(frame))
    frame["sales"] = frame["sales"] * np.exp(noise)
    data = Tables(frame, batch_size=64)
    model = regressor(point_estimate="min_rmspe")
    trainer = fitted(model, data, epochs=30)
    # 240 steps: all but 0.99 ** 240 of the mean.
    assert model.squared_error.item() == pytest.approx(0.4**2, rel=0.25)
    found = {}
    for point in ("median", "mean", "min_rmspe"):
        model.point_estimate = point
        found[point] = trainer.validate(model, data, verbose=False)[0]
        logs = torch.tensor([5.0, 8.0])
        torch.testing.assert_close(model.logits(model.probabilities(logs)), logs)
    assert found["min_rmspe"]["val_rmspe"] < 0.95 * found["median"]["val_rmspe"]
    assert found["mean"]["val_rmse"] < found["median"]["val_rmse"]
    assert found["mean"]["val_loss"] == found["min_rmspe"]["val_loss"]  # of the logarithms
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = TabularRegressor.load_from_checkpoint(tmp_path / "model.ckpt")
    assert loaded.point_estimate == "min_rmspe"
    assert torch.equal(loaded.squared_error, model.squared_error)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_classification_learns_whatever_the_number_of_classes(classes):
    frame = table()
    frame["size"] = pd.qcut(frame["sales"], classes, labels=False).map(lambda k: f"class {k}")
    data = Tables(frame, **CLASSES)
    torch.manual_seed(0)
    metrics = {"auc": "torchmetrics.classification.MulticlassAUROC"}
    model = TabularClassifier(**SMALL, lr=0.01, metrics=metrics)
    found = (trainer := fitted(model, data, epochs=40)).callback_metrics
    probabilities = torch.cat(trainer.predict(model, dataloaders=data.val_dataloader()))

    assert float(found["val_auc"]) > 0.97
    assert probabilities.shape == (96, classes)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(96))
    assert model.classes == [f"class {k}" for k in range(classes)]
    decided = [model.classes[k] for k in probabilities.argmax(dim=1).tolist()]
    assert (np.array(decided) == frame["size"]).mean() > 0.9


def test_accuracy_is_measured_where_no_metric_is_chosen():
    trainer = fitted(TabularClassifier(**SMALL), Tables(table(), **CLASSES))
    assert set(trainer.callback_metrics) == {"train_loss", "val_loss", "val_accuracy"}


def test_metrics_are_chosen_by_class_path_and_see_the_units_of_the_user():
    seen = []

    def largest(predictions, targets):
        seen.append(targets)
        return predictions.max()

    metrics = {"mape": "torchmetrics.MeanAbsolutePercentageError", "largest": largest}
    data = Tables(table())
    trainer = fitted(regressor(metrics=metrics), data)
    found = trainer.callback_metrics
    predictions = torch.cat(trainer.predict(trainer.lightning_module, datamodule=data))
    sales = torch.tensor(table()["sales"].to_numpy(), dtype=torch.float32)
    expected = MeanAbsolutePercentageError()(predictions, sales)

    assert float(found["val_mape"]) == pytest.approx(float(expected), rel=1e-4)
    assert float(found["val_largest"]) == pytest.approx(float(predictions.max()))
    torch.testing.assert_close(seen[-1], sales)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e5])
@pytest.mark.parametrize("log_target", [False, True])
def test_the_first_prediction_is_about_the_mean_whatever_the_units(scale, log_target):
    frame = table().assign(sales=lambda rows: rows["sales"] * scale)
    data = Tables(frame, log_target=log_target)
    model = regressor(data.spec).eval()
    inputs, targets = next(iter(data.loader))
    predictions = model(inputs).detach()

    mean, spread = data.spec.target_column.mean, data.spec.target_column.std
    zero, one = (0.0, 1.0) if log_target else (mean, spread)
    torch.testing.assert_close(
        zero + one * predictions, torch.full((16,), mean), atol=0.3 * spread, rtol=0
    )
    assert float(model.loss(predictions, targets)) < 3 * (spread / one) ** 2


@pytest.mark.parametrize(
    ("y_range", "log_target", "expected"),
    [
        pytest.param("auto", True, "spec", id="logarithms"),
        pytest.param("auto", False, None, id="plain-numbers"),
        pytest.param("span", False, "spec", id="asked-for"),
        pytest.param((-3.0, 5.0), False, (-3.0, 5.0), id="given"),
        pytest.param(None, True, None, id="none"),
    ],
)
def test_predictions_stay_in_their_range(y_range, log_target, expected):
    spec = spec_of(table(), log_target=log_target)
    model = regressor(spec, y_range=y_range).eval()
    model.head.weight.data.mul_(1e4)
    predictions = model(Rows(spec, table()).inputs).detach()
    if not log_target:
        predictions = model.probabilities(predictions)
    bounds = spec.target_range if expected == "spec" else expected

    assert model.output_range == bounds
    if bounds is None:
        assert float(predictions.max() - predictions.min()) > 100
    else:
        assert float(predictions.min()) == pytest.approx(bounds[0], abs=1e-3)
        assert float(predictions.max()) == pytest.approx(bounds[1], rel=1e-3)


def test_layer_groups_hold_every_parameter_and_have_rates_of_their_own():
    model = regressor(spec_of(table()), lr=0.09, lr_ratio=3)
    groups = {group.name: group.parameters for group in model.layer_groups()}
    optimizer = model.configure_optimizers()
    found = {
        g["name"]: (g["lr"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups
    }

    assert groups["embeddings"] == ("backbone.embeddings.tables.0.weight",)
    assert {"backbone.norm.weight", "backbone.layers.0.0.weight"} <= set(groups["trunk"])
    assert groups["output"] == ("head.weight", "head.bias")
    names = [name for group in groups.values() for name in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert found == {
        "embeddings/decay": (pytest.approx(0.01), 0.01, 1),
        "trunk/decay": (pytest.approx(0.03), 0.01, 2),
        "trunk/no_decay": (pytest.approx(0.03), 0.0, 8),
        "output/decay": (0.09, 0.01, 1),
        "output/no_decay": (0.09, 0.0, 1),
    }


@pytest.mark.parametrize("given", [True, False], ids=["spec-given", "spec-of-the-datamodule"])
def test_frozen_groups_stay_bit_for_bit_and_others_learn(given):
    data = Tables(table())
    model = regressor(data.spec if given else None)
    model.freeze_to(1)
    model.set_learning_rates([0.01, 0.02])
    if not given:
        model.set_spec(data.spec)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fitted(model, data)
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}

    assert same == {"backbone.embeddings.tables.0.weight"}
    model.freeze()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.set_learning_rates(0.01)
    fitted(model, data)
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    # The error of the whole model is no weight of a group.
    assert set(before) - same == {"head.weight", "head.bias", "squared_error"}


def test_the_norm_of_continuous_columns_trains():
    data = Tables(table())
    model = regressor()
    fitted(model, data)

    assert not torch.equal(model.backbone.norm.running_mean, torch.zeros(2))
    assert not torch.equal(model.backbone.norm.weight, torch.ones(2))


@pytest.mark.parametrize("kind", [TabularRegressor, TabularClassifier])
def test_a_checkpoint_alone_predicts(kind, tmp_path):
    data = Tables(table(), **(CLASSES if kind is TabularClassifier else {}))
    model = kind(**SMALL, lr=[0.01, 0.02, 0.03])
    trainer = fitted(model, data)
    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path)
    loaded = kind.load_from_checkpoint(path, weights_only=True)
    new = table(7).assign(shop="never seen")
    rows = Rows(loaded.spec, new, has_target=False)

    assert loaded.spec == data.spec
    assert loaded.hparams.optim["lr"] == [0.01, 0.02, 0.03]
    model.eval()
    loaded.eval()
    torch.testing.assert_close(loaded(rows.inputs), model(rows.inputs), rtol=0, atol=0)
    predicted = torch.cat(pl.Trainer(**QUIET).predict(loaded, DataLoader(rows, batch_size=4)))
    assert predicted.shape == ((7, 2) if kind is TabularClassifier else (7,))
    again = kind.from_architecture(model.architecture)
    again.load_state_dict(model.state_dict())


@pytest.mark.filterwarnings("ignore:`max_epochs` should end")
def test_snapshots_predict_together_in_the_units_of_the_user(tmp_path):
    data = Tables(table())
    callbacks = [SGDR(cycle_len=1), CycleSnapshots(tmp_path)]
    fitted(regressor(), data, epochs=2, callbacks=callbacks)
    paths = sorted(tmp_path.glob("cycle-*.ckpt"))
    assert len(paths) == 2
    ensemble = Ensemble(paths, task=TabularRegressor)
    found = ensemble.predict(data.loader)
    members = [TabularRegressor.load_from_checkpoint(path).eval() for path in paths]
    with torch.inference_mode():
        inputs = next(iter(data.loader))[0]
        each = [member(inputs).exp() for member in members]
        assert not torch.allclose(*each)
        torch.testing.assert_close(found[:16], torch.stack(each).mean(dim=0))
        torch.testing.assert_close(ensemble(inputs).exp(), found[:16])
        torch.testing.assert_close(ensemble.predict([inputs]), found[:16])
        members = ensemble.predict(data.loader, members=True)
        assert members.shape == (2, len(found))
        torch.testing.assert_close(members[:, :16], torch.stack(each))
    trainer = pl.Trainer(**QUIET)
    rows = trainer.predict(Ensemble(paths, task=TabularRegressor), data.loader)
    torch.testing.assert_close(torch.cat(rows), found)
    with pytest.raises(ConfigurationError, match="`merge` must be 'probabilities' for numbers"):
        Ensemble(paths, "logits", task=TabularRegressor).predict(data.loader)


def test_classifiers_of_tables_predict_together():
    data = Tables(table(), **CLASSES)
    torch.manual_seed(0)
    members = [TabularClassifier(data.spec, **SMALL).eval() for _ in range(2)]
    with torch.inference_mode():
        inputs = next(iter(data.loader))[0]
        mean = (members[0](inputs).softmax(1) + members[1](inputs).softmax(1)) / 2
    torch.testing.assert_close(Ensemble(members).predict(data.loader)[:16], mean)


def test_a_stopped_and_resumed_fit_equals_an_uninterrupted_one(tmp_path):
    whole = regressor()
    fitted(whole, Tables(table()), epochs=3, callbacks=[SGDR(cycle_len=3)])
    first = regressor()
    with pytest.warns(UserWarning, match="should end a cycle"):
        stop = fitted(first, Tables(table()), epochs=3, callbacks=[SGDR(cycle_len=3)], max_steps=6)
    stop.save_checkpoint(tmp_path / "stopped.ckpt")
    resumed = regressor()
    trainer = pl.Trainer(max_epochs=3, callbacks=[SGDR(cycle_len=3)], **QUIET)
    trainer.fit(
        resumed,
        datamodule=Tables(table()),
        ckpt_path=tmp_path / "stopped.ckpt",
        weights_only=True,
    )
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)


def test_a_table_prepared_otherwise_is_refused_with_the_difference(tmp_path):
    model = regressor()
    trainer = fitted(model, Tables(table()))
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    other = Tables(table(num_shops=5))
    message = r"(?s)must be prepared .*'shop': values 1 only in the first \('s5'\).*`spec`"
    with pytest.raises(ConfigurationError, match=message):
        pl.Trainer(**QUIET).validate(model, datamodule=other, verbose=False)
    with pytest.raises(ConfigurationError, match=r"(?s)'shop': values 1 only in the second"):
        pl.Trainer(max_epochs=9, **QUIET).fit(
            regressor(), datamodule=other, ckpt_path=tmp_path / "model.ckpt", weights_only=True
        )


def test_what_does_not_fit_is_refused_before_training():
    data = Tables(table())
    with pytest.raises(ConfigurationError, match=r"must know the columns .* no `spec`. Give"):
        pl.Trainer(**QUIET).fit(regressor(), data.loader)
    with pytest.raises(ConfigurationError, match=r"`task` is 'classes', .* Use `TabularRegressor`"):
        TabularClassifier(data.spec)
    with pytest.raises(ConfigurationError, match=r"`task` is 'regression', .* `TabularClassifier`"):
        regressor(spec_of(table(), **CLASSES))
    with pytest.raises(
        ConfigurationError, match=r"`point_estimate='mean'` needs .* `log_target: true`"
    ):
        regressor(spec_of(table(), log_target=False), point_estimate="mean")
    one = DataLoader(Rows(data.spec, table().iloc[:1]), 1)
    with pytest.raises(ConfigurationError, match="at least 2 samples"):
        pl.Trainer(max_epochs=1, **QUIET).fit(regressor(data.spec), one)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": {"layers": (8, 0)}}, r"`layers` must be widths of at least 1, got \[8, 0\]"),
        (
            {"network": {"layers": (16, 8), "dropout": (0.1,)}},
            r"`dropout` .* each of the 2 `layers`, got \[0.1\]",
        ),
        ({"network": {"dropout": 1.0}}, r"`dropout` must lie in \[0, 1\), got \[1.0\]"),
        ({"network": {"embedding_dropout": -0.1}}, r"`embedding_dropout` must lie .* got \[-0.1\]"),
        ({"network": {"embedding_rule": "own"}}, "must be 'course' or 'fastai', but is 'own'"),
        ({"y_range": (3, 1)}, r"`y_range` must be .* got \(3, 1\)"),
        ({"y_range": "all"}, "`y_range` must be .* got 'all'"),
        (
            {"point_estimate": "mode"},
            "`point_estimate` must be one of 'median', 'mean', 'min_rmspe', got 'mode'",
        ),
        ({"norm_policy": "never"}, "`norm_policy` must be one of"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        regressor(**options)


def test_the_rule_sets_the_width_of_the_vectors():
    spec = spec_of(table())
    assert regressor(spec).embedding_weights()["shop"].shape == (7, 4)
    assert regressor(spec, network={"embedding_rule": "fastai"}).embedding_weights()[
        "shop"
    ].shape == (7, 5)


def test_single_precision_is_kept_at_the_output_under_autocast():
    spec = spec_of(table())
    model = regressor(spec).eval()
    inputs = Rows(spec, table()).inputs
    features = model.forward_features(inputs).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model.forward_head(features)

    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, model.forward_head(features), rtol=0, atol=0)


def test_the_callbacks_of_a_fit_work_on_tables(tmp_path):
    data = Tables(table(192), batch_size=64)
    snapshots = CycleSnapshots(tmp_path, cycle_len=1)
    check = InitialLossCheck()
    finder = LRFinder(min_lr=1e-5, max_lr=100.0, num_steps=60, on_refusal="raise")
    stop = OverfittingStop(patience=9, cycle_len=1, gap_patience=9)
    model = regressor(lr=1e-3, lr_ratio=2)
    trainer = fitted(
        model, data, epochs=3, callbacks=[check, finder, SGDR(cycle_len=1), snapshots, stop]
    )

    assert 1e-5 < finder.curves[0].suggestion < 100
    lrs = [group["lr"] for group in trainer.optimizers[0].param_groups]
    assert lrs[-1] / lrs[0] == pytest.approx(4)
    findings = {finding.check: finding.passed for finding in check.results}
    assert findings["gradients"] is True
    assert findings["labels"] is None
    assert len(list(tmp_path.glob("*.ckpt"))) == 3
    for path in tmp_path.glob("*.ckpt"):
        TabularRegressor.load_from_checkpoint(path, weights_only=True)


def test_the_first_loss_of_a_classifier_is_checked():
    check = InitialLossCheck(on_failure="raise")
    torch.manual_seed(0)
    model = TabularClassifier(**SMALL, lr=0.01)
    fitted(model, Tables(table(), **CLASSES), 1, callbacks=[check])

    assert {f.check: f.passed for f in check.results if f.passed is not None} == {
        "labels": True,
        "loss": True,
        "gradients": True,
        "regularisation": True,
    }


def test_the_rate_is_found_in_a_script():
    curve = lr_find(regressor(), Tables(table(192), 64), min_lr=1e-5, max_lr=100.0, num_steps=60)
    assert math.isfinite(curve.suggestion)


def test_the_clean_loss_of_tables_is_weighed_by_rows():
    data = Tables(table(91))
    stop = OverfittingStop(patience=9, cycle_len=1, gap_patience=9)
    model = regressor(data.spec)
    fitted(model, data, epochs=1, callbacks=[stop])
    model.eval()
    rows = Rows(data.spec, table(91))
    expected = float(model.loss(model(rows.inputs), rows.targets))

    assert stop.history[-1]["train_loss"] == pytest.approx(expected, rel=1e-5)


def work(rank, port, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    os.environ["LOCAL_RANK"] = str(rank)
    data = Tables(table(), 8, rank, num_processes=2)
    data.spec = spec_of(table())
    # The replicas start apart; the strategy brings them together.
    torch.manual_seed(rank)
    model = TabularRegressor(**SMALL, lr=0.01)
    two = {"devices": 2, "strategy": "ddp", "use_distributed_sampler": False}
    callbacks = [SGDR(cycle_len=1), CycleSnapshots(f"{folder}/snapshots", cycle_len=1)]
    trainer = fitted(model, data, callbacks=callbacks, **two)
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    torch.save({"weights": model.state_dict(), "found": found}, f"{folder}/{rank}.pt")


@pytest.mark.distributed
def test_two_processes_stay_equal_and_measure_all_rows(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = (port, str(tmp_path))
    torch.multiprocessing.start_processes(work, arguments, nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))

    for name, value in first["weights"].items():
        torch.testing.assert_close(second["weights"][name], value, rtol=0, atol=0)
    assert first["found"]["val_rmspe"] == second["found"]["val_rmspe"]
    model = regressor(spec_of(table()))
    model.load_state_dict(first["weights"])
    trainer = pl.Trainer(**QUIET)
    alone = trainer.validate(model, Tables(table()).val_dataloader(), verbose=False)[0]
    assert alone["val_rmspe"] == pytest.approx(first["found"]["val_rmspe"], rel=1e-5)
    assert len(list((tmp_path / "snapshots").glob("*.ckpt"))) == 2


def test_the_tasks_on_tables_ask_for_no_library_of_images():
    # torchmetrics loads torchvision where it is installed; it is our own modules that must not.
    code = """
import builtins, sys
load, asked = builtins.__import__, set()
def watched(name, globals=None, *rest, **named):
    if str((globals or {}).get("__name__")).startswith("lightning_fastrecipes"):
        asked.add(name.split(".")[0])
    return load(name, globals, *rest, **named)
builtins.__import__ = watched
import lightning_fastrecipes.tasks.tabular
assert "torchmetrics" in asked
print(sorted(asked & {"timm", "torchvision", "PIL"}), "timm" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"


@pytest.mark.parametrize(
    ("layers", "dropout"),
    [([64], [0.001]), ([64, 32, 16], [0.001, 0.01, 0.01]), ([1000, 500], [0.001, 0.01]), ([], [])],
)
def test_any_number_of_layers_has_a_dropout(layers, dropout):
    assert TabularRegressor(network={"layers": layers}).network.dropout == dropout


@pytest.mark.parametrize("options", [{}, CLASSES, {"target": ["sales", "size"], "task": TASKS}])
def test_an_ensemble_of_checkpoints_knows_what_they_predict(tmp_path, options):
    data = Tables(table(), **options)
    task = {"regression": TabularRegressor, "classes": TabularClassifier}
    torch.manual_seed(0)
    model = task.get(data.spec.task, TabularMultiTarget)(**SMALL)
    fitted(model, data).save_checkpoint(tmp_path / "a.ckpt")
    found = Ensemble([tmp_path / "a.ckpt"]).predict(data.loader)
    expected = torch.cat([model.eval().probabilities(model(rows)) for rows, _ in data.loader])
    torch.testing.assert_close(found, expected.detach())


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (BinaryAUROC(), r"`metrics.mine`: `BinaryAUROC` does not fit .* Use `MulticlassAUROC`"),
        (BinaryF1Score(), r"`BinaryF1Score` does not fit .* Use `MulticlassF1Score`"),
        (
            MeanSquaredError(),
            r"`MeanSquaredError` does not fit .* use a metric for several",
        ),
    ],
)
def test_metrics_that_do_not_fit_classes_are_refused_before_training(metric, message):
    spec = spec_of(table(), **CLASSES)
    with pytest.raises(ConfigurationError, match=message):
        TabularClassifier(spec, metrics={"mine": metric})
    both = spec_of(table(), target=["sales", "size"], task=TASKS)
    with pytest.raises(ConfigurationError, match=message):
        TabularMultiTarget(both, metrics={"size": {"mine": metric}})
    # A metric of classes is none of numbers, though it would take them.
    numbers = spec_of(table(), log_target=False)
    with pytest.raises(ConfigurationError, match=r"kind of labels\. It gets the predicted numbers"):
        TabularRegressor(numbers, metrics={"mine": BinaryAUROC()})
    with pytest.raises(ConfigurationError, match=r"`BinaryAUROC` does not fit .* use a metric"):
        TabularMultiTarget(both, metrics={"sales": {"mine": BinaryAUROC()}})
    fine = {"auc": MulticlassAUROC(2), "mine": lambda p, t: 1 / 0}
    assert len(TabularClassifier(spec, metrics=fine).phase_metrics["val_"]) == 2
