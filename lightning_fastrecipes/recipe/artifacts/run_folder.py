"""The files of a run folder, and where its snapshots lie."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_fastrecipes._lightning import Callback
from lightning_fastrecipes.callbacks.snapshots import CycleSnapshots


@dataclass(frozen=True)
class RunFolder:
    """The folder that a run writes to.

    Args:
        path: The folder itself.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def metrics(self) -> Path:
        """One row per epoch."""
        return self.path / "metrics.csv"

    @property
    def results(self) -> Path:
        """Final metrics."""
        return self.path / "results.json"

    @property
    def progress(self) -> Path:
        """Times and metrics of the finished stages, for ``--resume``."""
        return self.path / "progress.json"

    @property
    def export(self) -> Path:
        """The exported model."""
        return self.path / "export"

    def variant(self, name: str) -> Path:
        """Return the run folder of a variant; earlier versions named their parent ``rungs``."""
        old = self.path / "rungs"
        return (old if old.is_dir() else self.path / "variants") / name

    def checkpoint(self, stage: str) -> Path:
        """Return the checkpoint of a stage: after its last finished epoch."""
        return self.path / "checkpoints" / f"{stage}.ckpt"

    def place_snapshots(self, callbacks: Iterable[Callback], stage: str) -> None:
        """Give the snapshots of a stage a folder of their own, unless they have one."""
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
