"""Whole pictures, for test-time views of what the evaluation crops."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import (  # type: ignore[attr-defined]
    MisconfigurationException,
)
from torch import Tensor, nn

from lightning_fastrecipes.functional.batches import WholeBatch
from lightning_fastrecipes.functional.views import Views
from lightning_fastrecipes.nn.probing import taken_sizes
from lightning_fastrecipes.protocols import ServesWhole


def view_sizes(views: Views, module: nn.Module, image_size: int, whole_size: int) -> list[int]:
    """Round the sizes of views of whole pictures to what a module takes, trying each of them out.

    Args:
        views: Views that see whole pictures.
        module: The module that predicts.
        image_size: Side of what is evaluated in pixels.
        whole_size: Side of the whole pictures that it is the middle of.

    Returns:
        Side of each view in pixels.

    Raises:
        ValueError: If the module does not take a size, or there is nothing around the middle.
    """
    if image_size == whole_size:
        raise ValueError(
            "the preset `whole` must have something to show that the evaluation crops, but it crops"
            f" nothing ({image_size} px of {whole_size}). Evaluate a crop, as with"
            " `Geometry(crop_fraction=0.875)`, or take another preset, such as `scales`."
        )
    return taken_sizes(module, views.sizes(whole_size))


class WholePictures:
    """Let a run's datamodule serve whole pictures beside the evaluated ones, and know their views.

    Args:
        views: Views that see whole pictures.
    """

    def __init__(self, views: Views) -> None:
        self._views = views
        self._sizes: dict[int, list[int]] = {}

    def begin(self, trainer: pl.Trainer, module: nn.Module) -> None:
        """Ask for whole pictures, if the module takes their views.

        Args:
            trainer: Before it asks for loaders.
            module: The module that predicts.

        Raises:
            MisconfigurationException: If there are no whole pictures, or the module does not take
                them.
        """
        datamodule = getattr(trainer, "datamodule", None)
        if not isinstance(datamodule, ServesWhole):
            found = "loaders" if datamodule is None else type(datamodule).__name__
            raise MisconfigurationException(
                "`TestTimeAugmentation(preset='whole')` needs a datamodule that serves whole"
                f" pictures, but the run has {found}. Use an `ImageFolderDataModule`, or take"
                " another preset, such as `scales`."
            )
        self._sizes.clear()
        size = datamodule.eval_image_size or datamodule.image_size
        self.sizes(module, size, datamodule.whole_image_size)
        datamodule.serves_whole = True

    def end(self, trainer: pl.Trainer) -> None:
        """Let the datamodule serve what is evaluated alone, as before.

        Args:
            trainer: The same.
        """
        datamodule = getattr(trainer, "datamodule", None)
        if isinstance(datamodule, ServesWhole):
            datamodule.serves_whole = False

    def sizes(self, module: nn.Module, image_size: int, whole_size: int) -> list[int]:
        """Give what :func:`view_sizes` gives, worked out once for each size.

        Args:
            module: The module that predicts.
            image_size: Side of what is evaluated in pixels.
            whole_size: Side of the whole pictures.

        Returns:
            Side of each view in pixels.

        Raises:
            MisconfigurationException: As ``view_sizes`` raises a ValueError.
        """
        if whole_size not in self._sizes:
            try:
                sizes = view_sizes(self._views, module, image_size, whole_size)
            except ValueError as error:
                raise MisconfigurationException(f"`TestTimeAugmentation`: {error}") from error
            self._sizes[whole_size] = sizes
        return self._sizes[whole_size]


def wholes_of(batch: Any) -> Tensor:
    """Find the whole pictures of a batch.

    Args:
        batch: What the datamodule gave after the transfer.

    Returns:
        Shape ``(batch, channels, side, side)``.

    Raises:
        MisconfigurationException: If it has none.
    """
    if not isinstance(batch, WholeBatch):
        raise MisconfigurationException(
            "A datamodule that `serves_whole` must give each batch as a `WholeBatch`, but gave a"
            f" {type(batch).__name__}. Make one in its `on_after_batch_transfer`."
        )
    return batch.wholes
