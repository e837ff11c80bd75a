"""A trained model is evaluated, trained further and asked about tables that it has never seen."""

import csv

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from helpers.trainers import QUIET

import lightning_fastrecipes as fr
from lightning_fastrecipes import (
    TableColumns,
    TabularClassifier,
    TabularDataModule,
    TabularRegressor,
)
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import ConfigurationError, DataError

NETWORK = {"layers": [8], "dropout": 0.0}


def table(seed=0, n=120):
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame({"id": [f"r{seed}-{i}" for i in range(n)], "a": draw.normal(size=n)})
    frame["kind"] = draw.choice(list("xyz"), n)
    frame["y"] = frame["a"] * 3 + frame["kind"].map({"x": 0, "y": 5, "z": 9})
    frame["size"] = np.where(frame["y"] > 4, "large", "small")
    return frame


def trained(task="regression", epochs=8):
    target = "y" if task == "regression" else "size"
    columns = TableColumns(target, ["kind"], ["twice"], task=task)
    steps = [{"derive": {"twice": "a * 2"}}]
    data = TabularDataModule(table(), columns, steps=steps, batch_size=16, cache="off")
    torch.manual_seed(0)
    kind = TabularRegressor if task == "regression" else TabularClassifier
    model = kind(network=NETWORK, lr=0.02)
    pl.Trainer(max_epochs=epochs, **QUIET).fit(model, data)
    return model, data


def test_a_second_table_is_evaluated_whole_with_the_spec_of_the_first():
    model, data = trained()
    second = table(1)
    other = TabularDataModule.from_spec(model.spec, second, steps=data.steps, eval_batch_size=50)
    trainer = pl.Trainer(**QUIET)
    found = trainer.test(model, datamodule=other, verbose=False)[0]
    predictions = torch.cat(trainer.predict(model, datamodule=other)).numpy()
    errors = predictions - second["y"].to_numpy()
    assert len(predictions) == 120
    assert found["test_rmse"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-6)
    gone = TabularDataModule.from_spec(model.spec, second.drop(columns="y"), steps=data.steps)
    with pytest.raises(DataError, match="must have the columns 'y'"):
        trainer.test(model, datamodule=gone, verbose=False)


@pytest.mark.parametrize("cache", ["off", "folder"])
def test_a_model_is_trained_further_on_a_second_table(tmp_path, cache):
    model, data = trained(epochs=1)
    second = table(1).assign(a=lambda rows: rows["a"] * 9 + 40)
    second.to_csv(tmp_path / "second.csv", index=False)
    cache = cache if cache == "off" else tmp_path / "cache"
    other = TabularDataModule(
        tmp_path / "second.csv", spec=model.spec, steps=data.steps, batch_size=16, cache=cache
    )
    before = model.head.weight.clone()
    trainer = pl.Trainer(max_epochs=2, **QUIET)
    trainer.fit(model, other)
    assert other.spec == model.spec == data.spec
    assert not torch.equal(model.head.weight, before)
    assert other.num_rows("val") == 24
    own = TabularDataModule(
        tmp_path / "second.csv", data.columns, steps=data.steps, batch_size=16, cache=cache
    )
    with pytest.raises(ConfigurationError, match="Prepare the data with the model's `spec`"):
        trainer.fit(model, own)
    with pytest.raises(ConfigurationError, match="`columns` must say what the columns"):
        TabularDataModule(second)
    with pytest.raises(ConfigurationError, match=r"got 'sales'\. Give `TableColumns\(target"):
        TabularDataModule(second, "sales")


@pytest.mark.parametrize("task", ["regression", "classes"])
def test_a_model_predicts_frames_mappings_and_single_rows(task):
    model, data = trained(task)
    rows = table(2).assign(twice=lambda frame: frame["a"] * 2).set_index("id")
    found = model.train().predict(rows, batch_size=7)
    assert model.training
    loader = TabularDataModule.from_spec(model.spec, rows, steps=data.steps)
    expected = torch.cat(pl.Trainer(**QUIET).predict(model, datamodule=loader)).double().numpy()
    assert found.index.equals(rows.index)
    if task == "classes":
        assert found.columns.tolist() == ["prediction", "large", "small"]
        np.testing.assert_allclose(found[["large", "small"]], expected, atol=1e-6)
        right = (found["prediction"] == rows["size"]).mean()
        assert right > 0.9
    else:
        np.testing.assert_allclose(found["prediction"], expected, atol=1e-5)
    first = rows.iloc[0]
    for one in (first.to_dict(), first, rows[:1], [first.to_dict()], rows[:1].to_dict("list")):
        alone = model.predict(one)
        assert alone.iloc[0, -1] == pytest.approx(found.iloc[0, -1], abs=1e-5)
    with pytest.raises(DataError, match="must have the columns 'twice'"):
        model.predict(table(2))
    with pytest.raises(DataError, match="must have rows to predict"):
        model.predict(rows[:0])


def test_columns_are_kept_beside_the_predictions():
    model, data = trained(epochs=1)
    other = TabularDataModule.from_spec(model.spec, table(3), steps=data.steps)
    other.predict_dataloader(keep=["id", "twice"])
    assert other.predict_rows.columns.tolist() == ["row", "id", "twice"]
    assert other.predict_rows["id"].tolist() == table(3)["id"].tolist()
    with pytest.raises(DataError, match="must have one column 'nothing'"):
        other.predict_dataloader(keep=["nothing"])
    with pytest.raises(DataError, match="must not be called 'row'"):
        other.predict_dataloader(keep=["row"])


def test_rows_whose_days_since_an_event_lack_their_history_are_told_so(caplog):
    rows = table()[["a", "y"]].assign(
        day=pd.date_range("2020-01-01", periods=120).astype(str), promo=[1, 0, 0, 0] * 30
    )
    steps = [{"elapsed": {"columns": "promo", "date": "day"}}]
    columns = TableColumns("y", [], ["a", "Afterpromo"])
    data = TabularDataModule(rows, columns, steps=steps, cache="off")
    with caplog.at_level("INFO"):
        data.setup("fit")
        assert "elapsed:" not in caplog.text
        one = TabularDataModule.from_spec(data.spec, rows[6:7], steps=steps)
        one.predict_dataloader()
    assert "elapsed: days are counted among these rows alone" in caplog.text


@pytest.mark.parametrize(
    "ids", [["007", "010"], ["1E3", "2E5"], ["12345678901234567", ""], ["1.10", "1.1"],
            ["NA", "b"], ["True", "false"], ["123456.789", "0.1"], ["2014-01-02", ""], ["7", ""],
            ["=1+1", " x"], ["7", "8"]], ids=str,
)  # fmt: skip
def test_what_is_kept_of_a_file_is_as_it_is_written(tmp_path, ids):
    model, _ = trained(epochs=1)
    export = fr.export(model, tmp_path / "export")
    lines = [f"{one},{number}.5,x" for number, one in enumerate(ids)]
    (tmp_path / "new.csv").write_text("\n".join(["id,a,kind", *lines]) + "\n")
    assert main(["predict", str(tmp_path / "export"), str(tmp_path / "new.csv"), "--keep=id",
                 "--keep=a", "--keep=twice", f"--out={tmp_path / 'out.csv'}"]) == 0  # fmt: skip
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ids
    assert [row["a"] for row in rows] == ["0.5", "1.5"]
    assert [float(row["twice"]) for row in rows] == [1, 3]
    table = pd.DataFrame({"id": [7, 8], "a": [0.5, 1.5], "kind": "x"})
    assert export.predict(table, keep=["id"])["id"].tolist() == [7, 8]
