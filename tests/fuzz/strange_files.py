"""Write mutated files of every kind, read them, and compare what was read with an oracle.

A case is *refused* with one of our errors, or *read*. All else is a finding: ``raw`` (an error
that is not ours, or a long message), ``wrong`` (other content than the oracle's) or ``hang``.
As a script: ``strange_files.py SECTION START STOP`` prints the findings as JSON.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import posixpath
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.feather
import pyarrow.parquet
import pytorch_lightning as pl
import torch
import yaml
from PIL import Image, ImageOps
from pytorch_lightning.trainer.states import TrainerFn

sys.path.insert(0, str(Path(__file__).parent))
from mutations import mutate_bytes, mutate_text, mutate_value  # type: ignore[import-not-found]

from lightning_fastrecipes import (
    ImageFolderDataModule,
    LabelTable,
    TableColumns,
    TabularDataModule,
)
from lightning_fastrecipes.cli.main import main as command
from lightning_fastrecipes.data.images.decoding import inspect_image, load_image
from lightning_fastrecipes.data.images.table_listing import list_table
from lightning_fastrecipes.data.tables.frames import read_frames
from lightning_fastrecipes.errors import (
    ConfigurationError,
    DataError,
    DataNotFoundError,
    RecipeError,
)
from lightning_fastrecipes.recipe.artifacts.reading import file_digest
from lightning_fastrecipes.recipe.images.export import predict_files
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.tables.export import predict_tables

REFUSALS = (RecipeError, DataError, DataNotFoundError, ConfigurationError)
TESTS = Path(__file__).parents[1]
HOUSE_ONE = TESTS / "fixtures" / "house_one"
RECIPES = TESTS.parent / "recipes"
SECONDS, LONGEST = 60, 5_000
SEPARATORS = (",", "\t", ";", "|", " ")


class HangError(BaseException):
    """A case that took longer than its time."""


class WrongError(Exception):
    """Something was read that the oracle does not see."""


def expect(is_right: bool, what: object) -> None:
    if not is_right:
        raise WrongError(str(what)[:300])


# Images.

MODES = {"JPEG": "RGB", "PNG": "RGBA", "GIF": "P", "WEBP": "RGB", "TIFF": "RGB", "BMP": "RGB"}
MODES |= {"PPM": "L", "ICO": "RGBA"}


def image_bytes(draw: random.Random) -> bytes:
    kind = draw.choice([*MODES, "JPEG", "PNG"])
    mode = draw.choice(
        {"JPEG": ["RGB", "CMYK", "L"], "PNG": ["RGB", "P", "I;16", "1"]}.get(kind, [MODES[kind]])
    )
    pixels = np.random.default_rng(draw.randrange(1000)).integers(0, 256, (9, 13, 3), np.uint8)
    image = Image.fromarray(pixels)
    image = (
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
        if mode == "I;16"
        else image.convert(mode)
    )
    written = io.BytesIO()
    image.save(
        written, kind, **({"progressive": True} if kind == "JPEG" and draw.random() < 0.4 else {})
    )
    return written.getvalue()


def try_image(draw: random.Random, folder: Path) -> None:
    path = folder / "image.png"
    path.write_bytes(mutate_bytes(image_bytes(draw), draw))
    facts = inspect_image(path)
    try:
        pixels = load_image(path)
    except DataError:
        expect(bool(facts.problem), "the scan called it good, and it cannot be loaded")
        raise
    expect(not facts.problem, f"it can be loaded, and the scan said: {facts.problem}")
    expect(tuple(pixels.shape) == (3, facts.height, facts.width), pixels.shape)
    if facts.mode in ("RGB", "L", "1"):
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        if "transparency" not in image.info:
            expect(
                bool((np.asarray(upright) == pixels.permute(1, 2, 0).numpy()).all()), "other pixels"
            )


# Labels, also read as plain tables.


def label_text(draw: random.Random) -> str:
    separator = draw.choice(SEPARATORS)
    rows = [("file", "label", "note")]
    rows += [
        (f"{i}.jpg", draw.choice(("cat", "big dog", "007", '"a,b"')), str(i))
        for i in range(draw.randrange(1, 12))
    ]
    if separator == " ":
        rows = [tuple(field.replace(" ", "_") for field in row) for row in rows]
    return "".join(f"{separator.join(row)}\n" for row in rows)


def parsed(content: bytes) -> list[list[list[str]]]:
    """Return what the csv module makes of a table, for each separator that cuts all rows alike."""
    csv.field_size_limit(sys.maxsize)
    found = []
    for encoding in ("utf-8-sig", "utf-16", "latin-1"):
        try:
            text = content.decode(encoding)
        except UnicodeError:
            continue
        for separator in SEPARATORS:
            lines = io.StringIO(text, newline="")
            try:
                rows = [
                    row
                    for row in csv.reader(
                        lines, delimiter=separator, skipinitialspace=separator == " "
                    )
                    if row
                ]
            except csv.Error:
                continue
            rows = [[field.strip() for field in row] for row in rows]
            found.append([row for row in rows if any(row)])
    return found


def try_labels(draw: random.Random, folder: Path) -> None:
    path = folder / "labels.csv"
    path.write_bytes(mutate_text(label_text(draw), draw))
    listing = list_table(path, LabelTable(file_column="file", labels="label"))
    named = listing.rows[["file", "label"]].astype(str)
    ours = sorted((file.strip(), label.strip()) for file, label in named.to_numpy())

    def is_it(rows: list[list[str]]) -> bool:
        names = rows[0] if rows else []
        # A column whose name is gone may be found by what it holds.
        files = [names.index("file")] if "file" in names else range(len(names))
        labels = [names.index("label")] if "label" in names else range(len(names))
        return any(
            sorted(
                (posixpath.normpath(row[file]), row[label])
                for row in rows[1:]
                if len(row) > max(file, label)
            )
            == ours
            for file in files
            for label in labels
        )

    if listing.label_kind == "single":
        expect(any(map(is_it, parsed(path.read_bytes()))), f"other rows: {ours}")


def try_labels_as_table(draw: random.Random, folder: Path) -> None:
    path = folder / "labels.csv"
    path.write_bytes(mutate_text(label_text(draw), draw))
    frame = read_frames(path)
    shapes = {(len(rows) - 1, len(rows[0])) for rows in parsed(path.read_bytes()) if rows}
    counts = {number for number, _ in shapes}
    expect(
        len(frame) in counts or not len(frame.columns), f"{frame.shape} rows, not {sorted(shapes)}"
    )


# Recipes.


def try_recipe(draw: random.Random, folder: Path) -> None:
    sources = sorted(RECIPES.glob("*/recipe.yaml"))
    text = draw.choice(sources).read_text()
    path = folder / "recipe.yaml"
    if draw.random() < 0.35:
        path.write_bytes(mutate_text(text, draw))
    else:
        document = mutate_value(yaml.safe_load(text), draw)
        path.write_text(
            yaml.safe_dump(document, sort_keys=False), encoding="utf-8", errors="replace"
        )
    try:
        load_recipe(path)
    except RecipeError as error:
        expect(str(path) in str(error), f"the message names no file: {error}")
        raise


# Tables.

FRAME = pd.DataFrame(
    {"Shop": [1, 2, 3, 4] * 5, "Km": np.linspace(0.5, 9, 20), "State": [*"ABAB"] * 5,
     "Date": pd.date_range("2020-01-01", periods=20).strftime("%Y-%m-%d")}
)  # fmt: skip
PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}


def try_table(draw: random.Random, folder: Path) -> None:
    ending = draw.choice(
        (
            ".csv",
            ".csv",
            ".tsv",
            ".csv.gz",
            ".csv.zip",
            ".csv.bz2",
            ".csv.xz",
            ".parquet",
            ".feather",
        )
    )
    path = folder / f"table{ending}"
    if ending == ".parquet":
        FRAME.to_parquet(path)
    elif ending == ".feather":
        pyarrow.feather.write_feather(FRAME, path, compression=draw.choice(("uncompressed", "lz4")))
    else:
        FRAME.to_csv(path, index=False, sep="\t" if ending == ".tsv" else ",")
    whole = path.read_bytes()
    is_text = ending in (".csv", ".tsv") and draw.random() < 0.7
    path.write_bytes(mutate_text(whole.decode(), draw) if is_text else mutate_bytes(whole, draw))
    frame = read_frames(path)
    if ending in (".parquet", ".feather"):
        reader = pyarrow.parquet.read_table if ending == ".parquet" else pyarrow.feather.read_table
        expect(len(frame) == reader(path).num_rows, f"{len(frame)} rows")
        return
    content = path.read_bytes()
    if ending == ".csv.zip":
        with zipfile.ZipFile(path) as archive:
            content = archive.read(archive.namelist()[0])
    elif path.suffix in PACKED:
        content = PACKED[path.suffix](content)
    counts = {len(rows) - 1 for rows in parsed(content) if rows}
    expect(len(frame) in counts, f"{len(frame)} rows, not {sorted(counts)}")


# Exports.


def try_export(draw: random.Random, folder: Path) -> None:
    name = draw.choice(("digits/rungs/hidden", "tags", "photos", "sales", "kinds", "soft"))
    export = Path(
        shutil.copytree(HOUSE_ONE / "run_folders" / name / "export", folder / "run" / "export")
    )
    listed = export / "ensemble.json"
    # Where an ensemble predicts, the model beside its list does not.
    homes = [path.parent for path in export.rglob("model.json")]
    homes = [home for home in homes if home != export or not listed.is_file()]
    home = draw.choice(homes)
    described = json.loads((home / "model.json").read_text())
    described["weights_sha256"] = file_digest(home / "model.safetensors")
    kind = draw.randrange(5)
    if kind == 0:
        (home / "model.json").write_text(json.dumps(described))
        weights = home / "model.safetensors"
        before = weights.read_bytes()
        weights.write_bytes(mutate_bytes(before, draw))
    elif kind == 1:
        (home / "model.json").write_bytes(mutate_text(json.dumps(described, indent=1), draw))
    elif kind == 2 and listed.is_file():
        listed.write_text(json.dumps(mutate_value(json.loads(listed.read_text()), draw)))
    else:
        (home / "model.json").write_text(json.dumps(mutate_value(described, draw)))
    if name in ("sales", "kinds"):
        table = predict_tables([export], [HOUSE_ONE / "data" / "more_sales.csv"]).table
        rows = pd.read_csv(HOUSE_ONE / "data" / "more_sales.csv")
        expect(len(table) == len(rows), f"{len(table)} predictions of {len(rows)} rows")
    else:
        photos = sorted((HOUSE_ONE / "data" / "photos" / "red").glob("*.png"))[:3]
        table, _ = predict_files(export, photos)
        expect(table["file"].tolist() == [str(photo) for photo in photos], table["file"].tolist())
    numbers = table.select_dtypes("number").to_numpy()
    expect(bool(np.isfinite(numbers).all()), "predictions that are no numbers")
    if kind == 0:
        expect(weights.read_bytes() == before, "altered weights predicted")


# Caches.


def all_batches(data: Any) -> list[torch.Tensor]:
    # Pixels are kept where a trainer is about to read a whole split.
    data.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    data.trainer.state.fn = TrainerFn.FITTING
    data.prepare_data()
    data.setup("fit")
    batches = []
    for split in ("train", "val"):
        for inputs, targets in data.eval_dataloader(split):
            parts = inputs if isinstance(inputs, tuple) else (inputs,)
            batches += [torch.as_tensor(part).clone() for part in (*parts, targets)]
    return batches


def try_cache(draw: random.Random, folder: Path) -> None:
    cache = folder / "cache"
    is_table = draw.random() < 0.5

    def data() -> Any:
        if is_table:
            columns = TableColumns("Sales", categorical=["Shop"], continuous=["Km"])
            table = str(HOUSE_ONE / "data" / "sales.csv")
            steps = [{"join": {"table": "shops.csv", "keys": "Shop"}}]
            return TabularDataModule(table, columns, split=0.2, steps=steps, cache=str(cache))
        photos = str(HOUSE_ONE / "data" / "photos")
        return ImageFolderDataModule(
            photos, image_size=8, split=0.2, batch_size=8, num_workers=0, cache=str(cache)
        )

    before = all_batches(data())
    files = sorted(path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock")
    expect(bool(files), "nothing was cached")
    path = draw.choice(files)
    path.write_bytes(mutate_bytes(path.read_bytes(), draw))
    after = all_batches(data())
    same = len(before) == len(after) and all(map(torch.equal, before, after))
    expect(same, f"other batches after {path.name} was changed")


# Resumed runs.


def try_resume(draw: random.Random, folder: Path) -> None:
    house = Path(shutil.copytree(HOUSE_ONE, folder / "house"))
    os.chdir(house)
    run = (
        house
        / "run_folders"
        / draw.choice(("photos_between_stages", "tags_in_a_stage", "sales_in_a_stage"))
    )
    files = [
        path
        for path in run.rglob("*")
        if path.is_file() and path.suffix in (".ckpt", ".json", ".csv", ".yaml")
    ]
    path = draw.choice(sorted(files))
    if path.suffix == ".json" and draw.random() < 0.6:
        path.write_text(json.dumps(mutate_value(json.loads(path.read_text()), draw)))
    elif path.suffix == ".ckpt" and draw.random() < 0.6:
        state = torch.load(path, weights_only=True)
        weights = {"state_dict": state.pop("state_dict")}
        torch.save(mutate_value(state, draw) | weights, path)
    else:
        path.write_bytes(mutate_bytes(path.read_bytes(), draw))
    said = io.StringIO()
    sys.stderr, stderr = said, sys.stderr
    try:
        code = command(["run", "--resume", str(run)])
    finally:
        sys.stderr = stderr
    expect(code in (0, 1, 2), code)


SECTIONS: dict[str, tuple[int, Callable[[random.Random, Path], None]]] = {
    "images": (457, try_image),
    "labels": (360, try_labels),
    "labels_as_tables": (360, try_labels_as_table),
    "recipes": (352, try_recipe),
    "tables": (241, try_table),
    "exports": (154, try_export),
    "caches": (76, try_cache),
    "resumes": (15, try_resume),
}
"""How many files of each kind, and what reads them."""


def try_one(section: str, seed: int) -> tuple[str, str]:
    """Return the outcome of one case, and what was said."""

    def ring(*_: object) -> None:
        raise HangError

    before = os.getcwd()
    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            SECTIONS[section][1](random.Random(f"{section} {seed}"), Path(folder))
    except REFUSALS as error:
        is_short = len(str(error)) < LONGEST
        return (
            ("refused", "") if is_short else ("raw", f"a message of {len(str(error))} characters")
        )
    except HangError:
        return "hang", f"more than {SECONDS} s"
    except WrongError as error:
        return "wrong", str(error)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames if _is_ours(frame)]
        return "raw", f"{type(error).__name__}: {error}"[:300] + f" at {own[-1:]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        os.chdir(before)
    return "read", ""


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return "lightning_fastrecipes" in frame.filename or frame.filename == __file__


def try_all(section: str, seeds: range) -> dict[str, Any]:
    """Return counts of the outcomes, findings, and how much the memory grew in MB."""
    counts: Counter[str] = Counter()
    findings = []
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in seeds:
        outcome, said = try_one(section, seed)
        counts[outcome] += 1
        if outcome not in ("refused", "read"):
            findings.append(f"{section} {seed}: {outcome}: {said}")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
    return {"counts": counts, "findings": findings, "grown_mb": grown / 1024}


if __name__ == "__main__":
    torch.set_num_threads(1)
    name, start, stop = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(try_all(name, range(start, stop))))  # noqa: T201
