"""What others have put into a cache, checksums included, runs no code and changes no number."""

import json
import pickle
import re
import shutil
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn

from lightning_fastrecipes import (
    FeatureDataModule,
    ImageClassifier,
    ImageFolderDataModule,
    TableColumns,
    TabularDataModule,
)
from lightning_fastrecipes.data.common.cache_entry import _SEAL
from lightning_fastrecipes.nn.small import SmallMLP


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def npy(array: Any) -> bytes:
    written = BytesIO()
    np.save(written, array, allow_pickle=True)
    return written.getvalue()


def feather(change) -> Any:
    def poison(content: bytes) -> bytes:
        frame = pd.read_feather(BytesIO(content))
        written = BytesIO()
        change(frame).to_feather(written)
        return written.getvalue()

    return poison


def array(change) -> Any:
    return lambda content: npy(change(np.load(BytesIO(content))))


ANY = {
    "pickle": lambda _: pickle.dumps(Evil()),
    "empty": lambda _: b"",
    "zeros": lambda content: bytes(len(content)),
    "json": lambda _: b'{"a": 1}',
}
ARRAYS = {
    "objects": lambda _: npy(np.array([Evil()], dtype=object)),
    "doubles": array(lambda values: values.astype(np.float16)),
    "fewer rows": array(lambda values: values[:-1]),
    "no axis": array(lambda values: values.ravel()[0]),
    "other axes": array(lambda values: values[..., None]),
    "huge": lambda content: content.replace(b"(", b"(9999999999", 1),
    "text": array(lambda values: values.astype(str)),
}
FRAMES = {
    "fewer columns": feather(lambda frame: frame.iloc[:, 1:]),
    "text": feather(lambda frame: frame.astype(str)),
    "gaps": feather(lambda frame: frame.mask(np.ones(frame.shape, bool))),
    "twice": feather(lambda frame: pd.concat([frame, frame], ignore_index=True)),
}
FEWER = {"fewer columns": FRAMES["fewer columns"]}
CODES = ANY | ARRAYS | {"another category": array(lambda values: values + 100)}
NUMBERS = {"nan": array(lambda values: values * np.float32("nan"))}
SIDES = {"huge sides": feather(lambda frame: frame.assign(height=1 << 40))}
CASES = [
    ("manifest", "images.feather", ANY | FRAMES),
    ("pixel", "index.feather", ANY | FRAMES | SIDES),
    ("feature", "features.npy", ANY | ARRAYS),
    ("table", "table.feather", ANY | FEWER),
    ("encoded", "train-codes.npy", CODES),
    ("encoded", "train-target.npy", ANY | ARRAYS),
    ("encoded", "val-continuous.npy", NUMBERS),
    ("encoded", "spec.json", ANY),
]
NOTES = [
    ("encoded", {"splits": ["train", "../x"]}),
    ("encoded", {"splits": []}),
    ("encoded", {"splits": 3}),
    ("encoded", {"report": {"zz": 1}}),
    ("encoded", {"report": {"num_rows": {"train": "many"}}}),
    ("encoded", {"file_rows": ["x"]}),
    ("table", {"file_rows": [-1]}),
    ("table", {"steps": [3]}),
    ("table", {"text": 3}),
    ("table", {"side_text": [[{}]]}),
]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("FASTRECIPES_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def batches(data: Any, train: Any = None) -> list[torch.Tensor]:
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.state.fn = TrainerFn.FITTING  # pixels are kept where training is about to begin
    data.trainer = trainer
    data.prepare_data()
    data.setup("fit")
    found = []
    for batch in data.val_dataloader():
        inputs, *rest = batch
        parts = inputs if isinstance(inputs, tuple) else (inputs,)
        found += [torch.as_tensor(part).clone() for part in (*parts, *rest)]
    return found


def read(kind: str, tmp_path: Path) -> list[torch.Tensor]:
    """Read what a kind of cache keeps, by a new datamodule."""
    if kind[:5] in ("table", "encod"):
        frame = pd.DataFrame({"shop": [*"abcd"] * 5, "km": range(20), "y": range(20)})
        (tmp_path / "t.csv").exists() or frame.to_csv(tmp_path / "t.csv", index=False)
        columns = TableColumns("y", ["shop"], ["km"])
        if kind[:5] == "table":  # else the encoded splits are read in its place
            for path in [*(tmp_path / "cache").rglob("encoded-*/")]:
                shutil.rmtree(path)
        return batches(TabularDataModule(tmp_path / "t.csv", columns))
    images = ImageFolderDataModule(
        tmp_path / "pets", image_size=8, batch_size=64, split=0.4, num_workers=0
    )
    if kind[:7] != "feature":
        return batches(images)
    torch.manual_seed(0)
    model = ImageClassifier(SmallMLP(8, [4]), 2, num_groups=2)
    model.freeze()
    return batches(FeatureDataModule(images, model))


def seal(entry: Path, name: str = "", content: bytes = b"", **changes: Any) -> None:
    """Write a file of an entry, or change what it says, as the entry itself would have."""
    manifest = json.loads((entry / "manifest.json").read_text())
    manifest.pop(_SEAL, None)  # as of versions that had none
    if name:
        (entry / name).write_bytes(content)
        manifest["files"][name] = [len(content), zlib.crc32(content)]
    manifest["notes"] |= changes
    (entry / "manifest.json").write_text(json.dumps(manifest))


def check_rebuilt(kind: str, tmp_path: Path, before: list[torch.Tensor], what: str) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        after = read(kind, tmp_path)
    pattern = f"The {kind} cache .* is damaged: .* It is rebuilt"
    assert any(re.search(pattern, str(one.message)) for one in said), what
    assert len(before) == len(after), what
    assert all(map(torch.equal, before, after)), what
    assert not Path("ran").exists(), what


@pytest.mark.parametrize(("kind", "name", "poisons"), CASES, ids=lambda part: str(part)[:20])
def test_a_poisoned_file_is_built_anew(cache, tmp_path, pets, kind, name, poisons) -> None:
    before = read(kind, tmp_path)
    for what, poison in poisons.items():
        for path in [*cache.rglob(f"{kind}-*/{name}")]:
            seal(path.parent, name, poison(path.read_bytes()))
        check_rebuilt(kind, tmp_path, before, what)


def test_poisoned_notes_are_built_anew(cache, tmp_path) -> None:
    for kind, notes in NOTES:
        before = read(kind, tmp_path)
        for path in [*cache.rglob(f"{kind}-*/manifest.json")]:
            seal(path.parent, **notes)
        check_rebuilt(kind, tmp_path, before, str(notes))


def test_a_manifest_that_is_none_is_built_anew(cache, tmp_path) -> None:
    before = read("encoded", tmp_path)
    for content in ("[" * 5000 + "]" * 5000, "[]", "3", '{"key": 3}', " " * (1 << 25) + "{}"):
        for path in [*cache.rglob("encoded-*/manifest.json")]:
            path.write_text(content)
        check_rebuilt("encoded", tmp_path, before, content[:20])
