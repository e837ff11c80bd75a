"""Where a run keeps what it writes."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what it writes.

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
        """Final figures."""
        return self.path / "results.json"

    @property
    def progress(self) -> Path:
        """Figures of the finished stages, for ``--resume``."""
        return self.path / "progress.json"

    def variant(self, name: str) -> Path:
        """Return the run folder of a variant; runs of old versions name their parent ``rungs``."""
        old = self.path / "rungs"
        return (old if old.is_dir() else self.path / "variants") / name

    def checkpoint(self, stage: str) -> Path:
        """Return the checkpoint of a stage: after its last finished epoch."""
        return self.path / "checkpoints" / f"{stage}.ckpt"
