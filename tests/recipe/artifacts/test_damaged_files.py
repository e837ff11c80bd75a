"""Exports and run folders that are damaged or hostile: refused by file and key, never a guess."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.data.common.files import MOST_JSON_BYTES
from lightning_fastrecipes.errors import DataError, DataNotFoundError
from lightning_fastrecipes.recipe.artifacts.history import read_history
from lightning_fastrecipes.recipe.artifacts.reading import file_digest, read_json, write_sealed
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder
from lightning_fastrecipes.recipe.images.export import load_export, predict_files
from lightning_fastrecipes.recipe.tables.export import load_table_export, predict_tables

HOUSE_ONE = Path(__file__).parents[2] / "fixtures" / "house_one"
RUNS = HOUSE_ONE / "run_folders"
DEEP = "[" * 5000 + "]" * 5000


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUNS / "tags" / "export", tmp_path / "tags"))


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUNS / "sales" / "export", tmp_path / "sales"))


def change(folder: Path, key: str, value: object, name: str = "model.json") -> None:
    """Set a dotted key of a JSON file; `...` removes it."""
    document = json.loads((folder / name).read_text())
    *above, last = key.split(".")
    part = document
    for one in above:
        part = part[int(one) if isinstance(part, list) else one]
    if value is ...:
        del part[last]
    else:
        part[int(last) if isinstance(part, list) else last] = value
    (folder / name).write_text(json.dumps(document))


WRONG = {
    # Those that predicted without a word.
    "input.std": [[0, 0, 0], [-1, 1, 1], ["a", 1, 1], [], None, 3],
    "classes": [[*"aabc"], [*"abc"], "abcd", [1, 2, 3, 4], [*"abc\ud800"]],
    "label_kind": ["zz", None, ["multi"]],
    "input.interpolation": ["zz", None],
    "format_version": [-1, True, 0, "1", 1.0, None],
    "input.mean": [[0.5, 0.5], 3, [0, 0, []], [float("nan")] * 3],
    # Those that were raw tracebacks, or took the machine down.
    "input": [None, {}, [], {"mean": 3}],
    "thresholds": [{"cat": 0.5}, 3, {"blue": "x"}, {"blue": 2, "even": 0, "late": 0, "red": 0}],
    "geometry": [{}, None, [], {"image_size": 12, "crop_fraction": 1, "zz": 1}],
    "geometry.image_size": ["a", -3, 0, 10**7, 1.5, True],
    "geometry.crop_fraction": [1e-9, 0, 2, "x"],
    "geometry.background": [{}, "no colour"],
    "tta": [5, [], {"preset": "zz"}],
    "tta.n": [10**9, 0, "2"],
    "training_views.max_zoom": [1e9, "x", 0],
    "batch_size": [0, -1, 10**12, "4", ...],
    "architecture": [None, [], "resnet18", ...],
    "architecture.num_classes": [5, 10**9, "4"],
    "architecture.num_groups": [0, 10**9, "x"],
    "architecture.norm_policy": ["zz", []],
    "architecture.backbone": [3, {}, {"class_path": "torch.nn.Linear"}],
    "architecture.backbone.init_args.channels": [[10**6], [-1], "x", [4] * 3, [4, 4]],
    "architecture.backbone.init_args.hidden": [10**12, 0, "x"],
    "architecture.backbone.init_args.batch_norm": [10**9, 10**30, float("inf")],
    "architecture.head": [None, 3, {"kind": "zz"}],
    "architecture.head.dropout": [2, "x"],
    "task": [3, "zz", None],
    "weights_sha256": ["0" * 64, 5],
}  # fmt: skip
WRONG_TABLES = {
    "architecture.spec.target_column.std": [..., -1, "x", float("inf")],
    "architecture.spec.target_column.name": [{}, float("nan")],
    "architecture.spec.target_column.task": ["classes", 3],
    "architecture.spec.number_columns.0.has_flag": ["", 1],
    "architecture.spec.number_columns.0.name": ["Noise", 3],
    "architecture.spec.category_columns.0.kind": [[], "zz", "text"],
    "architecture.spec.category_columns.0.values": [[1, 2, 3, 4, 4], 3, [1, 2], [*"12345"]],
    "architecture.spec.version": [9, "1"],
    "architecture.layers": [[10**9], [8], "x", [[]]],
    "architecture.y_range": ["zz", [1, 0]],
    "steps": [[None], {}, "x", [{"zz": {}}], [{"derive": 3}], [{"join": {"table": 3, "on": "a"}}]],
    "batch_size": [..., "x"],
    "folder": [3, ...],
    "package": [3],
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [pytest.param(k, v, id=f"{k}-{str(v)[:30]}") for k, values in WRONG.items() for v in values],
)
def test_a_wrong_value_in_an_export_of_images_is_refused(images, key, value) -> None:
    change(images, key, value)
    with pytest.raises(DataError) as raised:
        predict_files(images, [])
    said = str(raised.value)
    assert str(images) in said
    assert len(said) < 1000


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param(k, v, id=f"{k}-{str(v)[:30]}")
        for k, values in WRONG_TABLES.items()
        for v in values
    ],
)
def test_a_wrong_value_in_an_export_of_a_table_is_refused(sales, key, value) -> None:
    change(sales, key, value)
    with pytest.raises(DataError) as raised:
        load_table_export(sales)
    said = str(raised.value)
    assert str(sales) in said
    assert len(said) < 1000


@pytest.mark.parametrize("name", ["model.json", "ensemble.json"])
@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "3", "{}", DEEP, '{"a":' * 3000, '{"a": 1, "a": 1}',
     '{"a": 1' + "0" * 5000 + "}", b'{"a": "\xe9"}', '{"a": 1}'.encode("utf-16"),
     '{"members": null}', '{"members": [1]}', '{"members": []}',
     '{"members": ["' + "x" * 5000 + '"]}', '{"members": ["a\\u0000b"]}', '{"members": ["gone"]}'],
    ids=lambda content: str(content)[:20],
)  # fmt: skip
def test_a_file_that_is_no_description_is_refused(images, sales, name, content) -> None:
    for folder, table in ((images, None), (sales, HOUSE_ONE / "data" / "more_sales.csv")):
        write = (
            (folder / name).write_bytes
            if isinstance(content, bytes)
            else (folder / name).write_text
        )
        write(content)
        with pytest.raises((DataError, DataNotFoundError)) as raised:
            predict_files(folder, []) if table is None else predict_tables([folder], [table])
        assert str(folder) in str(raised.value)
        assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("place", [0, 4, 30, -1])
def test_damaged_weights_are_refused(images, place) -> None:
    weights = images / "model.safetensors"
    content = bytearray(weights.read_bytes())
    change(images, "weights_sha256", file_digest(weights))
    load_export(images)
    content[place] ^= 0x10
    weights.write_bytes(content)
    with pytest.raises(DataError, match="must hold what was exported"):
        load_export(images)
    change(images, "weights_sha256", ...)
    if place >= 0:  # in the header, which is looked at even without a digest
        with pytest.raises(DataError, match=re.escape(str(images))):
            load_export(images)
    for cut in (weights.read_bytes()[:100], b"", b"\xff" * 64):
        weights.write_bytes(cut)
        with pytest.raises(DataError, match=re.escape(str(weights))):
            load_export(images)


def test_weights_of_another_shape_or_name_are_refused_before_memory_is_taken(images) -> None:
    weights = images / "model.safetensors"
    tensors = load_file(weights)
    first = next(name for name in tensors if tensors[name].ndim)
    for other in (
        {**tensors, first: torch.zeros(1)},
        {name: value for name, value in tensors.items() if name != first},
        {**tensors, "more": torch.zeros(1)},
    ):
        save_file(other, weights)
        with pytest.raises(DataError, match="the weights must fit the network"):
            load_export(images)


def test_a_description_that_was_changed_is_refused_unless_its_digest_is_removed(tmp_path) -> None:
    path = tmp_path / "a.json"
    write_sealed(path, {"value": 0.1, "items": (1, 2), "name": "\ud800"})
    assert read_json(path, lambda value, key: None, "")["items"] == [1, 2]
    change(tmp_path, "value", 0.2, "a.json")
    with pytest.raises(DataError, match="digest differs"):
        read_json(path, lambda value, key: None, "")
    change(tmp_path, "sha256", ..., "a.json")
    assert read_json(path, lambda value, key: None, "")["value"] == 0.2


def test_json_longer_than_ours_ever_is_is_refused_before_it_is_parsed(images, tmp_path) -> None:
    content = (images / "model.json").read_text()
    padded = content + " " * (MOST_JSON_BYTES - len(content.encode()))
    (images / "model.json").write_text(padded)
    load_export(images)
    (images / "model.json").write_text(padded + " ")
    with pytest.raises(DataError, match=r"at most 33,554,432 bytes, but has 33,554,433"):
        load_export(images)
    progress = RunFolder(tmp_path).progress
    progress.write_text(json.dumps({"stages": [STAGE], "x": "y" * MOST_JSON_BYTES}))
    with pytest.raises(DataError, match="at most 33,554,432 bytes"):
        RunFolder(tmp_path).read_progress()


# Run folders.

STAGE = {"name": "all", "seconds": 1.0, "images_per_second": 2.0, "metrics": {"loss": 0.5}}


NO_PROGRESS = ["", "[]", "{}", "null", DEEP]
NO_STAGES = [3, ["a"], [{}], [None], [{"name": "all"}]]
NO_STAGE = [
    {"image_size": "x"}, {"image_size": -1}, {"name": "../x"}, {"name": 3}, {"seconds": "x"},
    {"metrics": []}, {"metrics": {"loss": "x"}}, {"images_per_second": None},
]  # fmt: skip
NO_HISTORY = [
    "", "a\n", "\x00", "all,0\n", "all,x,1,1\n", "all,0,x,1\n", 'all,0,1,1,1\n,"\n',
    "all,0.5,1,1\n",
]  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        *NO_PROGRESS,
        *(json.dumps({"stages": stages}) for stages in NO_STAGES),
        *(json.dumps({"stages": [STAGE | wrong]}) for wrong in NO_STAGE),
    ],
    ids=lambda content: content[-40:],
)
def test_damaged_progress_is_refused(tmp_path, content) -> None:
    folder = RunFolder(tmp_path)
    folder.progress.write_text(json.dumps({"stages": [STAGE]}))
    assert folder.read_progress() == {"stages": [STAGE]}
    folder.progress.write_text(content)
    folder.results.write_text(content)
    with pytest.raises(DataError, match=re.escape(str(folder.progress))):
        folder.read_progress()
    with pytest.raises(DataError, match=re.escape(str(folder.results))):
        folder.read_results()


@pytest.mark.parametrize("content", NO_HISTORY)
def test_a_damaged_history_is_refused(tmp_path, content) -> None:
    path, header = tmp_path / "metrics.csv", "stage,epoch,train_loss,val_loss\n"
    path.write_text(content if content in NO_HISTORY[:4] else header + content)
    with pytest.raises(DataError, match=re.escape(str(path))):
        read_history(path)
    path.write_text(f"{header}all,0,1,\n")
    assert pd.isna(read_history(path)["val_loss"][0])


class _Evil:
    def __reduce__(self):
        return print, ("ran",)


def with_state(path: Path, **changes: object) -> None:
    state = torch.load(path, weights_only=True)
    torch.save({k: v for k, v in {**state, **changes}.items() if v is not ...}, path)


CHECKPOINTS = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("hello"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:2000]),
    "zip": lambda path: zipfile.ZipFile(path, "w").close(),
    "pickle": lambda path: torch.save({"state_dict": _Evil()}, path),
    "list": lambda path: torch.save([1, 2], path),
    "no weights": lambda path: with_state(path, state_dict=...),
    "weights, a list": lambda path: with_state(path, state_dict=[1]),
    "weights, numbers": lambda path: with_state(path, state_dict={"a": 3}),
    "other weights": lambda path: with_state(path, state_dict={"a": torch.zeros(2)}),
    "what the task saved": lambda path: with_state(path, fastrecipes=3),
    "frozen": lambda path: with_state(path, fastrecipes={"num_frozen": "x"}),
}
UNFINISHED = {
    "epoch": lambda path: with_state(path, epoch="x"),
    "loops": lambda path: with_state(path, loops=3),
    "inner loops": lambda path: with_state(path, loops={"fit_loop": 3}),
    "optimizer": lambda path: with_state(path, optimizer_states=[{}]),
    "optimizer, other shapes": lambda path: with_optimizer(path, lambda t: t.new_zeros(3, 1, 2)),
    "optimizer, larger": lambda path: with_optimizer(path, lambda t: torch.cat([t, t])),
    "optimizer, no tensors": lambda path: with_optimizer(path, lambda t: "x", of_all=True),
    "optimizer, other groups": lambda path: with_optimizer(path, None),
    "callbacks": lambda path: with_state(path, callbacks=[1]),
    "version": lambda path: with_state(path, **{"pytorch-lightning_version": "zz"}),
}


def with_optimizer(path: Path, change, *, of_all: bool = False) -> None:
    """Change the tensors of an optimizer's state, or the size of its groups."""
    [saved] = torch.load(path, weights_only=True)["optimizer_states"]
    for state in saved["state"].values() if change else ():
        for name, value in state.items():
            if of_all or value.numel() > 1:
                state[name] = change(value)
    if change is None:
        saved["param_groups"][0]["params"] = saved["param_groups"][0]["params"][1:]
    with_state(path, optimizer_states=[saved])


@pytest.mark.parametrize("run", ["photos_between_stages", "tags_in_a_stage"])
@pytest.mark.parametrize("how", [*CHECKPOINTS, *UNFINISHED])
def test_a_damaged_checkpoint_is_refused(tmp_path, monkeypatch, capsys, run, how) -> None:
    if how in UNFINISHED and run == "photos_between_stages":
        pytest.skip("only the weights of a finished stage are read")
    house = shutil.copytree(HOUSE_ONE, tmp_path / "house")
    monkeypatch.chdir(house)
    [checkpoint] = (house / "run_folders" / run / "checkpoints").glob("*.ckpt")
    (CHECKPOINTS | UNFINISHED)[how](checkpoint)
    assert main(["run", "--resume", f"run_folders/{run}"]) == 1
    said = capsys.readouterr()
    assert checkpoint.name in said.err
    assert "Traceback" not in said.err
    assert "ran" not in said.out
