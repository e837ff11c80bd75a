"""The classes that a run folder already has a trained model of, in its order."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lightning_fastrecipes.errors import DataError, DataNotFoundError
from lightning_fastrecipes.nn.weights import read_checkpoint
from lightning_fastrecipes.recipe.artifacts.export_files import read_description
from lightning_fastrecipes.tasks.base import CHECKPOINT_KEY

_RUNS = ("", "seed-*", "fold-*", "variants/*", "rungs/*", "variants/*/seed-*", "variants/*/fold-*")
"""Where runs lie in the folder of a run, of several seeds, folds or variants too."""


def stored_classes(home: Path) -> list[str] | None:
    """Return the class names of a trained model in a run folder; ``None`` if there is none.

    A file that cannot be read is passed over: whoever needs it says so.
    """
    for classes in _all_stored(home):
        if isinstance(classes, list) and all(isinstance(name, str) for name in classes):
            return list(classes)
    return None


def _all_stored(home: Path) -> Iterator[object]:
    runs = [run for pattern in _RUNS for run in ([home] if not pattern else home.glob(pattern))]
    for run in runs:
        with suppress(DataError, DataNotFoundError, OSError):
            yield read_description(run / "export").get("classes")
        for path in sorted((run / "checkpoints").glob("*.ckpt")):
            with suppress(DataError, DataNotFoundError, OSError, AttributeError):
                yield (read_checkpoint(path, mmap=True).get(CHECKPOINT_KEY) or {}).get("classes")
