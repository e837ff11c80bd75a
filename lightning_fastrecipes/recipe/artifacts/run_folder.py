"""The files of a run folder, and where its snapshots lie."""

import math
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lightning_fastrecipes import plain
from lightning_fastrecipes._lightning import Callback
from lightning_fastrecipes.callbacks.snapshots import CycleSnapshots
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.nested import pairs
from lightning_fastrecipes.old_names import translate_results
from lightning_fastrecipes.recipe.artifacts.reading import RUN_CURE, read_json

BEGUN = ".begun.ckpt"
"""How the file of a checkpoint within an epoch ends."""

_NAME = plain.text("[A-Za-z0-9_-]{1,200}", "a name of letters, digits, '-' and '_'")


def _number(value: Any, key: str) -> None:
    # Earlier versions wrote NaN, where a training had gone astray.
    if type(value) not in (int, float):
        plain.number()(value, key)


def _measured(value: Any, key: str) -> None:
    # A metric may be no number, and is `null` then.
    if value is not None:
        _number(value, key)


def _stage(value: Any, key: str) -> None:
    names = ("image_size", "batch_size", "epochs", "max_epochs")
    sizes = dict.fromkeys(names, plain.whole(1)) | {
        "steps": plain.whole(0),
        "kept_epoch": plain.whole(0),
    }
    plain.keys({"name": _NAME, "seconds": _number, "metrics": plain.named(_measured)}, sizes)(
        value, key
    )
    rates = [name for name in value if str(name).endswith("_per_second")]
    plain.keys(dict.fromkeys(rates or ["rows_per_second"], _number))(value, key)


_PROGRESS = plain.keys(
    {"stages": plain.items(_stage, most=1_000)},
    {
        "recipe": plain.named(plain.anything),
        "seeds_first": plain.flag,
        "threads": plain.maybe(plain.whole(1)),
    },
)
_METRICS = plain.named(_measured)
_RESULTS = plain.keys(
    {"stages": plain.items(_stage, most=1_000), "val": _METRICS, "test": _METRICS}
)


def kept_inside(value: Any, key: str) -> None:
    """Refuse what callbacks say that they have kept if its path climbs, or is not of this disk.

    Lightning deletes kept files with all below them, once others are better.
    """
    for name, one in pairs(value):
        for text in (name, one):
            if isinstance(text, str) and (".." in re.split(r"[/\\]", text) or "://" in text):
                raise ConfigurationError(
                    f"`{key}` must name files of the run folder, but names {shown(text)}."
                )
        kept_inside(one, f"{key}.{name}")


def _with_nan(content: dict[str, Any]) -> dict[str, Any]:
    """Return what was measured with NaN for ``null``."""

    def number(value: Any) -> Any:
        return math.nan if value is None else value

    stages = [
        stage | {"metrics": {k: number(v) for k, v in stage["metrics"].items()}}
        for stage in content.get("stages", [])
    ]
    measured = {
        split: {k: number(v) for k, v in content[split].items()}
        for split in ("val", "test")
        if split in content
    }
    return content | {"stages": stages} | measured


class RunFolder:
    """The folder that a run writes to.

    ``recipe`` is the resolved one; ``metrics`` has one row per epoch, ``results`` the final
    metrics, and ``progress`` the recipe, times and metrics of the finished stages, for
    ``--resume``. ``part`` names the folder of what an earlier part of a continued run has written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.metrics = path / "metrics.csv"
        self.results = path / "results.json"
        self.progress = path / "progress.json"
        self.export = path / "export"

    def read_progress(self) -> dict[str, Any]:
        """Read ``progress.json``; a `DataError` if the file is damaged."""
        return _with_nan(read_json(self.progress, _PROGRESS, RUN_CURE))

    def read_results(self) -> dict[str, Any]:
        """Read what a finished run measured; a `DataError` if the file is damaged."""
        return _with_nan(read_json(self.results, _RESULTS, RUN_CURE, translate_results))

    def found_lr(self, stage: str) -> float | None:
        """Return the head's rate that a stage found; ``None`` if it found none."""
        path = self.path / f"lr_finder_{stage}.json"
        check = plain.keys({"suggestion": plain.maybe(plain.number(above=0.0))})
        return read_json(path, check, RUN_CURE)["suggestion"] if path.is_file() else None

    def variant(self, name: str) -> Path:
        """Return the run folder of a variant; earlier versions named their parent ``rungs``."""
        old = self.path / "rungs"
        return (old if old.is_dir() else self.path / "variants") / name

    def part(self, number: int) -> Path:
        """Return where a part's recipe, results and export lie once the run was continued."""
        return self.path / "parts" / str(number)

    def checkpoint(self, stage: str) -> Path:
        """Return the checkpoint of a stage: after its last finished epoch."""
        return self.path / "checkpoints" / f"{stage}.ckpt"

    def begun_epoch(self, stage: str) -> Path:
        """Return the checkpoint within an epoch of a stage that is being trained."""
        return self.path / "checkpoints" / f"{stage}{BEGUN}"

    def place_snapshots(self, callbacks: Iterable[Callback], stage: str) -> None:
        """Set the folder of a stage's snapshots, unless they have one."""
        for callback in callbacks:
            if isinstance(callback, CycleSnapshots) and callback.dirpath is None:
                callback.dirpath = self.path / "snapshots" / stage

    def find_snapshots(self, stages: Sequence[str]) -> dict[str, Path]:
        """Return the snapshots of the last stage that has any: name to checkpoint, oldest first."""
        for stage in reversed(stages):
            found = (self.path / "snapshots" / stage).glob("cycle-*.ckpt")
            paths = sorted(found, key=lambda path: int(path.stem.partition("-")[2]))
            if paths:
                return {path.stem: path for path in paths}
        return {}


def take_over(source: Path, target: Path, *, leave: Sequence[str] = ()) -> None:
    """Put the content of a finished run folder in place of what another folder holds of a run.

    Each file and folder is replaced as a whole, results and export last; names of ``leave`` stay.
    """
    last = [RunFolder(source).results.name, RunFolder(source).export.name]
    entries = sorted(source.iterdir(), key=lambda path: (path.name in last, path.name))
    for path in (one for one in entries if one.name not in leave):
        fresh, old = target / f".new-{path.name}", target / f".old-{path.name}"
        for left in (fresh, old):
            shutil.rmtree(left, ignore_errors=True)
        if path.is_dir():
            shutil.copytree(path, fresh)
            if (target / path.name).exists():
                (target / path.name).rename(old)
        else:
            shutil.copy2(path, fresh)
        fresh.replace(target / path.name)
        shutil.rmtree(old, ignore_errors=True)
