"""The files of a run folder, and where its snapshots lie."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from lightning_fastrecipes._lightning import Callback
from lightning_fastrecipes.callbacks.snapshots import CycleSnapshots


class RunFolder:
    """The folder that a run writes to.

    ``recipe`` is the resolved one; ``metrics`` has one row per epoch, ``results`` the final
    metrics, and ``progress`` times and metrics of the finished stages, for ``--resume``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.metrics = path / "metrics.csv"
        self.results = path / "results.json"
        self.progress = path / "progress.json"
        self.export = path / "export"

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
