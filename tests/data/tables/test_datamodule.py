"""A table as batches: from its file to what a trainer sees, and to the rows to predict."""

import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import yaml
from jsonargparse import ArgumentParser
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import nn

from lightning_fastrecipes.batches import TableInputs
from lightning_fastrecipes.data.common.disk_room import NoRoomError
from lightning_fastrecipes.data.common.split_choice import DateSplit
from lightning_fastrecipes.data.tables import source as table_source
from lightning_fastrecipes.data.tables.columns import TableColumns
from lightning_fastrecipes.data.tables.datamodule import TabularDataModule
from lightning_fastrecipes.data.tables.loader import TableRows
from lightning_fastrecipes.errors import ConfigurationError, DataError, DataNotFoundError
from lightning_fastrecipes.protocols import HasEvalDataLoader, HasTableSpec, HasTrainTargets

pytestmark = pytest.mark.both


COLUMNS = TableColumns("sales", ["shop", "open"], ["km", "row"])


def table(num_rows: int = 40) -> pd.DataFrame:
    """A table whose scaled column `row` tells the rows apart."""
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "shop": draw.choice(list("abcd"), num_rows),
            "open": draw.integers(0, 2, num_rows),
            "km": np.where(np.arange(num_rows) % 7 == 3, np.nan, draw.integers(1, 9, num_rows)),
            "row": np.arange(num_rows),
            "sales": draw.integers(1, 100, num_rows),
            "day": pd.date_range("2014-01-01", periods=num_rows).astype(str),
        }
    )


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "train.csv"
    path.parent.mkdir()
    table().to_csv(path, index=False)
    return path


def module(source, columns: TableColumns = COLUMNS, **options) -> TabularDataModule:
    options = {"batch_size": 8, "split": DateSplit("day", val_last=0.25)} | options
    made = TabularDataModule(source, columns, **options)
    made.prepare_data()
    made.setup("fit")
    return made


def rows_of(data: TabularDataModule, inputs: TableInputs) -> list[int]:
    """Find out which rows a batch holds."""
    column = data.spec.number_columns[1]
    return (inputs.continuous[:, 1] * column.std + column.mean).round().int().tolist()


def batches(loader) -> list[tuple]:
    return [(inputs.codes, inputs.continuous, target) for inputs, target in loader]


def same(first, second) -> bool:
    pairs = list(zip(batches(first), batches(second), strict=True))
    return all(torch.equal(a, b) for one, two in pairs for a, b in zip(one, two, strict=True))


def test_batches_of_a_file_are_inputs_and_targets(csv) -> None:
    data = module(csv)
    (inputs, target), *_ = data.train_dataloader()

    assert isinstance(inputs, TableInputs)
    assert inputs.codes.shape == (8, 2)
    assert not inputs.codes.is_floating_point()
    assert inputs.continuous.shape == (8, 3)
    assert data.spec.continuous_columns == ["km", "row", "km_na"]
    assert (inputs.continuous.dtype, target.dtype) == (torch.float32, torch.float64)
    rows = rows_of(data, inputs)
    assert target.tolist() == table()["sales"].iloc[rows].tolist()
    decoded = data.spec.decode(inputs.codes)["shop"]
    masked = (inputs.codes[:, 0] == 0).numpy()
    assert decoded[~masked].tolist() == table()["shop"].iloc[rows][~masked].tolist()


def test_every_split_has_its_rows_and_evaluation_keeps_their_order(csv) -> None:
    split = DateSplit("day", val_last=0.2, test_last=0.1)
    data = module(csv, split=split, eval_batch_size=3)

    trained = [row for inputs, _ in data.train_dataloader() for row in rows_of(data, inputs)]
    assert sorted(trained) == list(range(28))
    assert trained != sorted(trained)
    for loader, expected in (
        (data.val_dataloader(), range(28, 36)),
        (data.test_dataloader(), range(36, 40)),
        (data.eval_dataloader("train"), range(28)),
    ):
        found = [row for inputs, _ in loader for row in rows_of(data, inputs)]
        assert found == list(expected)
        assert loader.batch_size == 3
    assert data.train_targets.tolist() == table()["sales"].iloc[:28].tolist()


def test_a_split_that_is_not_there_gives_no_batches_or_is_named(csv) -> None:
    data = module(csv, split=0.0)

    assert data.val_dataloader() == data.test_dataloader() == []
    with pytest.raises(DataError, match="no split 'val', only 'train'"):
        data.eval_dataloader("val")


def test_the_seams_to_tasks_and_callbacks_are_kept(csv) -> None:
    data = module(csv)

    assert isinstance(data, HasTableSpec)
    assert isinstance(data, HasTrainTargets)
    assert isinstance(data, HasEvalDataLoader)


def test_validation_rows_change_nothing_in_training() -> None:
    frame = table()
    other = frame.copy()
    other.loc[30:, ["shop", "open", "km", "sales"]] = ["zoo", 7, 1e5, 1e5]
    other.loc[35:, "km"] = np.nan
    one, two = module(frame), module(other)

    assert one.spec == two.spec
    assert same(one.train_dataloader(), two.train_dataloader())
    assert not same(one.val_dataloader(), two.val_dataloader())


def test_codes_are_masked_in_training_batches_alone(csv) -> None:
    data = module(csv, mask_fraction=0.5)
    unmasked = module(csv, mask_fraction=0.0)

    masked = torch.cat([inputs.codes for inputs, _ in data.train_dataloader()]) == 0
    assert 0.2 < masked.float().mean() < 0.8
    for loader in (
        data.val_dataloader(), data.eval_dataloader("train"), unmasked.train_dataloader(),
    ):  # fmt: skip
        assert all((inputs.codes > 0).all() for inputs, _ in loader)


def test_another_seed_is_another_order(csv) -> None:
    assert same(module(csv).train_dataloader(), module(csv).train_dataloader())
    assert not same(module(csv).train_dataloader(), module(csv, seed=1).train_dataloader())


def test_targets_are_transformed_and_classes_are_numbers() -> None:
    logs = module(table(), TableColumns("sales", ["shop"], log_target=True))
    classes = module(table(), TableColumns("shop", ["open"], ["km"], task="classes"))

    expected = np.log(table()["sales"].iloc[:30]).to_numpy(np.float32)
    assert logs.train_targets.numpy() == pytest.approx(expected)
    assert classes.train_targets.dtype == torch.int64
    names = [classes.spec.classes[index] for index in classes.train_targets]
    assert names == table()["shop"].iloc[:30].tolist()


def test_columns_that_are_derived_and_rows_that_are_filtered(csv) -> None:
    steps = [{"derive": {"double": "sales * 2"}}]
    data = module(csv, TableColumns("double", ["shop"], ["row"]), steps=steps, where="sales > 50")

    expected = table().query("sales > 50")["sales"] * 2
    found = torch.cat([target for _, target in data.eval_dataloader("train")])
    assert found.tolist() == expected.iloc[: len(found)].tolist()
    assert sum(data.report.num_rows.values()) == len(expected)


def two_files(folder: Path, second: str = "b/train.csv") -> list[Path]:
    """Write the table as one file of 25 rows, and one of 15."""
    paths = [folder / "a" / "train.csv", folder / second]
    for path, part in zip(paths, (table()[:25], table()[25:]), strict=True):
        path.parent.mkdir(exist_ok=True)
        part.to_csv(path, index=False)
    return paths


@pytest.mark.parametrize("cache", ["auto", "off"])
@pytest.mark.parametrize("where", [None, "sales > 50 and km > 2"])
def test_rows_are_numbered_as_in_their_files_whatever_is_left_out(tmp_path, where, cache) -> None:
    paths = two_files(tmp_path, "b/new.csv")
    files = {path.name: pd.read_csv(path) for path in paths}
    for _ in range(2):  # the second comes from the cache
        data = module(paths, where=where, cache=cache)
        for split in ("train", "val"):
            named = data.row_names(split)
            pairs = zip(named["file"], named["row"], strict=True)
            held = [r for inputs, _ in data.eval_dataloader(split) for r in rows_of(data, inputs)]
            assert [files[file]["row"][row] for file, row in pairs] == held
        assert named.columns.tolist() == ["file", "row"]
        assert set(named["file"]) == {"new.csv"}
    alone = module(table(), where=where, cache=cache).row_names("val")
    assert alone.to_dict("list") == {"row": held}


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path, monkeypatch) -> None:
    two_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    named = module(["a/train.csv", "b/train.csv"]).row_names("train")
    assert named["file"].tolist() == ["a/train.csv"] * 25 + ["b/train.csv"] * 5
    assert named["row"].tolist() == [*range(25), *range(5)]


@pytest.mark.parametrize(
    ("column", "bad", "split", "message"),
    [
        pytest.param("km", np.inf, DateSplit("day", val_last=0.2), "infinite .* 20", id="train"),
        pytest.param("km", np.inf, "other", "infinite .* in row 20", id="validation"),
        pytest.param("part", "no", "part", "'no' in row 20", id="names-of-splits"),
        pytest.param("day", "no", {"column": "day", "val_last": 0.5}, "'no' in row 20", id="dates"),
        pytest.param(
            "km", 1.0, {"column": "day", "val_from": "2014-01-21", "test_until": "2014-01-21"},
            "both hold row 20", id="ranges",
        ),
    ],
)  # fmt: skip
def test_messages_number_rows_as_in_the_source(column, bad, split, message) -> None:
    frame = table().assign(part=["train"] * 30 + ["val"] * 10)
    frame["other"] = np.where(frame["row"] == 20, "val", "train")
    frame.loc[20, column] = bad
    with pytest.raises(DataError, match=message):
        module(frame, where="row >= 15", split=split)


def test_a_column_of_one_value_is_warned_of() -> None:
    frame = table().assign(flat=1.0, flatter=2)

    with pytest.warns(UserWarning, match="'flat', 'flatter' have one value in all training rows"):
        module(frame, TableColumns("sales", ["shop"], ["flat", "km", "flatter"]))


def test_what_was_found_is_logged_once_and_kept(caplog) -> None:
    frame = table()
    frame.loc[31:33, "shop"] = "zoo"
    caplog.set_level(logging.INFO)
    data = module(frame)
    data.setup("test")

    assert data.report.unknown == {"train": {}, "val": {"shop": 3}}
    assert data.report.filled["train"] == {"km": 4}
    logged = [record.getMessage() for record in caplog.records]
    assert sum("values unknown to training: 'shop' 3" in message for message in logged) == 1


@pytest.mark.parametrize(("free", "is_copied"), [(10**6, True), (10, False)], ids=["fits", "not"])
def test_a_split_lives_on_the_accelerator_if_it_fits(csv, monkeypatch, free, is_copied) -> None:
    copied: list[torch.device] = []

    def to(rows: TableRows, device: torch.device) -> TableRows:
        copied.append(device)
        return TableRows(rows.codes, rows.continuous, rows.targets)

    data, device = module(csv), torch.device("cuda", 0)
    data.trainer = SimpleNamespace(
        strategy=SingleDeviceStrategy(device),
        fit_loop=SimpleNamespace(
            epoch_progress=SimpleNamespace(current=SimpleNamespace(processed=0))
        ),
    )
    monkeypatch.setattr(TableRows, "to", to)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))

    loaders = [data.train_dataloader(), data.train_dataloader(), data.val_dataloader()]

    assert copied == ([device] * 2 if is_copied else [])  # one for each split
    assert loaders[0].dataset is loaders[1].dataset
    data.teardown("fit")
    data.train_dataloader()
    assert len(copied) == (3 if is_copied else 0)


# The cache.


def _never(*args, **kwargs):
    raise AssertionError("the cache should have been used")


def test_the_second_start_reads_nothing_and_gives_the_same(csv, monkeypatch) -> None:
    first = module(csv)
    monkeypatch.setattr(table_source, "read_files", _never)
    second = module(csv)

    assert second.spec == first.spec
    assert second.report == first.report
    for name in ("train_dataloader", "val_dataloader"):
        assert same(getattr(first, name)(), getattr(second, name)())


def test_another_split_or_other_columns_use_the_kept_table(csv, monkeypatch) -> None:
    split = DateSplit("day", val_last=0.5)
    module(csv)
    monkeypatch.setattr(table_source, "read_files", _never)

    assert module(csv, split=split).report.num_rows == {"train": 20, "val": 20}
    swapped = TableColumns("sales", ["shop", "open"], ["km", "row"], log_target=True, min_count=2)
    assert module(csv, swapped).spec.log_target


def test_a_changed_file_is_read_anew_with_a_warning(csv) -> None:
    module(csv)
    table().assign(sales=7).to_csv(csv, index=False)

    with pytest.warns(UserWarning, match=r"stale: .*train\.csv' changed"):
        data = module(csv)
    assert set(data.train_targets.tolist()) == {7}


def test_a_damaged_cache_is_built_anew_with_a_warning(csv, tmp_path) -> None:
    expected = [
        target.tolist() for _, target in module(csv, cache=tmp_path / "kept").train_dataloader()
    ]
    for file in (tmp_path / "kept").glob("*/*"):
        if file.suffix in (".npy", ".feather"):
            file.write_bytes(file.read_bytes()[:-3])

    with pytest.warns(UserWarning, match="damaged: the length of"):
        data = module(csv, cache=tmp_path / "kept")
    assert [target.tolist() for _, target in data.train_dataloader()] == expected


def test_frames_are_kept_by_what_is_in_them(monkeypatch) -> None:
    module(table())
    monkeypatch.setattr(table_source, "narrow_frame", _never)

    module(table().set_axis(range(100, 140)))
    with pytest.raises(AssertionError, match="should have been used"):
        module(table().assign(sales=1))


def test_without_a_cache_nothing_is_written_and_batches_are_the_same(csv, tmp_path, monkeypatch):
    expected = module(csv)
    monkeypatch.setenv("FASTRECIPES_CACHE", str(tmp_path / "none"))
    data = module(csv, cache="off")

    assert same(data.train_dataloader(), expected.train_dataloader())
    assert not (tmp_path / "none").exists()


def test_without_room_a_table_is_prepared_at_every_start_unless_a_folder_was_asked_for(
    csv, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("lightning_fastrecipes.data.common.disk_room.SPARE", 1 << 60)
    with pytest.warns(UserWarning, match=r"cache needs .* prepared at every start"):
        data = module(csv)
    assert len(data.train_dataloader()) == 4
    with pytest.raises(NoRoomError, match="cache needs"):
        module(csv, cache=tmp_path / "kept")


# Rows to predict.


def test_rows_to_predict_need_no_target_and_are_all_kept(csv) -> None:
    data = module(csv, where="sales > 50", steps=[{"derive": {"far": "km * 2"}}])
    new = table(5).drop(columns=["sales"]).assign(shop=["a", "zoo", None, "b", "zoo"])

    loader = data.predict_dataloader(new)
    (batch,) = list(loader)

    assert len(batch) == 1
    assert rows_of(data, batch[0]) == [0, 1, 2, 3, 4]
    assert (batch[0].codes[:, 0] == 0).tolist() == [False, True, True, False, True]
    assert data.report.unknown["predict"] == {"shop": 2}
    assert data.report.num_rows["predict"] == 5


def test_a_spec_alone_serves_rows_to_predict(csv, tmp_path) -> None:
    data = module(csv)
    table(5).drop(columns="sales").to_csv(tmp_path / "new.csv", index=False)
    new = TabularDataModule.from_spec(data.spec, tmp_path / "new.csv", eval_batch_size=2)
    new.prepare_data()
    new.setup("predict")

    found = [row for (inputs,) in new.predict_dataloader() for row in rows_of(data, inputs)]
    assert found == [0, 1, 2, 3, 4]
    with pytest.raises(ConfigurationError, match="is for prediction alone"):
        new.train_dataloader()


def test_rows_to_predict_that_are_not_there_or_not_alike_are_named(csv) -> None:
    data = module(csv)

    with pytest.raises(DataError, match="There are no rows to predict"):
        data.predict_dataloader()
    with pytest.raises(DataError, match="must have rows to predict, but has none"):
        data.predict_dataloader(table().iloc[:0])
    with pytest.raises(DataError, match="'shop'"):
        data.predict_dataloader(table().drop(columns="shop"))
    with pytest.raises(ConfigurationError, match="has not been read yet"):
        TabularDataModule(csv, COLUMNS).predict_dataloader(table())


# What is refused.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": TableColumns("sales", ["shop"], ["kmm"])}, "'kmm'.*near: 'km'"),
        ({"where": "sales >"}, "`where` must be a condition"),
        ({"where": "price > 3"}, "`where` must be a condition .* got 'price > 3'.*'shop'"),
        ({"where": "sales > 1000"}, "`where` must leave rows, but of 40 none is"),
        ({"split": "part"}, "'part'"),
    ],
    ids=["column", "syntax", "unknown-name", "nothing-left", "split-column"],
)
def test_tables_that_cannot_be_used_are_refused(csv, change, message) -> None:
    with pytest.raises(DataError, match=message):
        module(csv, **change)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_fraction": 1.0}, r"`mask_fraction` must lie in \[0, 1\), got 1.0"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"seed": -1}, "`seed` must be at least 0"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused(csv, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        TabularDataModule(csv, COLUMNS, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "a", "categorical": ["a"]}, "named twice"),
        ({"target": "a"}, "must name at least one column"),
        (
            {"target": "a", "categorical": ["b"], "task": "sorting"},
            "`task` must be 'regr",
        ),
        ({"target": "a", "categorical": ["b"], "min_count": 0}, "`min_count` must be at least 1"),
        (
            {"target": "a", "categorical": ["b"], "task": "classes", "log_target": True},
            "`log_target` must be False",
        ),
    ],
    ids=str,
)
def test_columns_that_cannot_be_meant_are_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        TableColumns(**arguments)


def test_a_file_that_is_not_there_is_named_at_once(tmp_path) -> None:
    with pytest.raises(DataNotFoundError, match=r"none\.csv"):
        TabularDataModule(tmp_path / "none.csv", COLUMNS)


def test_splits_before_setup_are_refused(csv) -> None:
    with pytest.raises(ConfigurationError, match="has not read its table yet"):
        TabularDataModule(csv, COLUMNS).train_dataloader()


def test_a_checkpoint_of_another_table_is_refused_and_says_how(csv) -> None:
    data = module(csv)
    state = data.state_dict()
    module(csv).load_state_dict(state)
    other = module(table().assign(shop=lambda t: t["shop"].replace("a", "x")))

    with pytest.raises(ConfigurationError, match=r"(?s)differ from those of the checkpoint.*shop"):
        other.load_state_dict(state)


def test_yaml_describes_the_whole_datamodule(csv) -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(TabularDataModule, "data")
    document = f"""
        class_path: lightning_fastrecipes.data.tables.datamodule.TabularDataModule
        init_args:
          source: {csv}
          columns: {{target: sales, categorical: [shop], continuous: [km], log_target: true}}
          split: {{column: day, val_from: 2014-02-01, past_only: true}}
          steps: [{{derive: {{far: km * 2}}}}]
          where: sales > 0
          batch_size: 4
    """
    parsed = parser.parse_object({"data": yaml.safe_load(document)})
    data = parser.instantiate(parsed).data
    data.prepare_data()
    data.setup("fit")

    assert data.report.num_rows == {"train": 31, "val": 9}
    assert data.spec.log_target


def test_tables_need_neither_timm_nor_torchvision() -> None:
    """Lightning's metrics import torchvision where it is installed: here it cannot be."""
    script = (
        "import sys, pytorch_lightning;"
        "sys.modules |= {'timm': None, 'torchvision': None};"
        "import lightning_fastrecipes.data.tables.datamodule"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=300, check=False)
    assert done.returncode == 0


# With a trainer.


class Tiny(pl.LightningModule):
    """Learn a little, and remember which batches came."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.ModuleList([nn.Embedding(9, 2), nn.Embedding(9, 2)])
        self.output = nn.Linear(7, 1)
        self.seen: list[tuple] = []

    def forward(self, inputs: TableInputs) -> torch.Tensor:
        vectors = [one(inputs.codes[:, i].int()) for i, one in enumerate(self.vectors)]
        return self.output(torch.cat([*vectors, inputs.continuous], 1))[:, 0]

    def training_step(self, batch, batch_idx):
        inputs, target = batch
        self.seen.append((self.current_epoch, inputs.codes.tolist(), target.tolist()))
        return nn.functional.mse_loss(self(inputs), target.float())

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.mse_loss(self(batch[0]), batch[1].float()))

    def predict_step(self, batch, batch_idx):
        return self(batch[0])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


def run(tmp_path, data, ckpt_path=None, **options) -> Tiny:
    pl.seed_everything(0)
    model = Tiny()
    saving = pl.callbacks.ModelCheckpoint(
        tmp_path / "saved", every_n_train_steps=1, save_top_k=-1, filename="{step}"
    )
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[saving] if ckpt_path is None else [], enable_checkpointing=ckpt_path is None,
        **{"max_epochs": 3} | options,
    )  # fmt: skip
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return model


@pytest.mark.parametrize("step", [1, 3, 4, 6, 9], ids=lambda step: f"after-step-{step}")
@pytest.mark.parametrize("options", [{}, {"limit_train_batches": 3}], ids=["whole", "limited"])
def test_a_resumed_run_sees_what_the_uninterrupted_one_did(csv, tmp_path, step, options) -> None:
    """An epoch has four steps, or three if limited."""
    whole = run(tmp_path, module(csv, mask_fraction=0.3), **options)
    resumed = run(
        tmp_path,
        module(csv, mask_fraction=0.3),
        tmp_path / "saved" / f"step={step}.ckpt",
        **options,
    )

    assert [epoch for epoch, *_ in whole.seen[:5]] == (
        [0, 0, 0, 1, 1] if options else [0] * 4 + [1]
    )
    assert resumed.seen == whole.seen[step:]
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_run_is_not_resumed_on_another_table(csv, tmp_path) -> None:
    run(tmp_path, module(csv), max_epochs=1)
    other = module(table().assign(km=lambda t: t["km"] * 2))

    with pytest.raises(ConfigurationError, match="differ from those of the checkpoint"):
        run(tmp_path, other, tmp_path / "saved" / "step=2.ckpt")


def test_overfitting_on_purpose_repeats_the_first_batches(csv, tmp_path) -> None:
    model = run(tmp_path, module(csv, mask_fraction=0.3), overfit_batches=2, max_epochs=2)

    assert [one[1:] for one in model.seen[:2]] == [one[1:] for one in model.seen[2:]]


def test_a_trainer_predicts_every_row_in_order(csv, tmp_path) -> None:
    data = module(csv)
    model = run(tmp_path, data, max_epochs=1)
    rows = data.predict_dataloader(table(11))
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    by_loader = torch.cat(trainer.predict(model, rows))
    by_module = trainer.predict(
        model, datamodule=TabularDataModule.from_spec(data.spec, table(11), eval_batch_size=4)
    )

    (batch,) = rows
    assert torch.allclose(by_loader, model(batch[0]))
    assert torch.allclose(torch.cat(by_module), by_loader)
