"""The fast.ai course's way of training, for PyTorch Lightning."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_fastrecipes.callbacks.sgdr import SGDR
    from lightning_fastrecipes.data.image import ImageCSVDataModule, ImageFolderDataModule
    from lightning_fastrecipes.tasks.image import ImageClassifier

__version__ = "0.1.0"

# Resolved on first use, so that importing the package stays light.
_HOMES = {
    "ImageCSVDataModule": "lightning_fastrecipes.data.image",
    "ImageClassifier": "lightning_fastrecipes.tasks.image",
    "ImageFolderDataModule": "lightning_fastrecipes.data.image",
    "SGDR": "lightning_fastrecipes.callbacks.sgdr",
}

__all__ = ["SGDR", "ImageCSVDataModule", "ImageClassifier", "ImageFolderDataModule"]


def __getattr__(name: str) -> Any:
    """Import a public class where it lives, the first time it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted([*globals(), *__all__])
