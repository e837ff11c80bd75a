"""Whole images, for test-time views of what the evaluation crops."""

from typing import Any

from torch import Tensor, nn

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import MisconfigurationException, rank_zero_info
from lightning_fastrecipes.functional.images.batches import WholeBatch
from lightning_fastrecipes.functional.images.views import Views
from lightning_fastrecipes.nn.probing import taken_sizes
from lightning_fastrecipes.protocols import ServesWhole


def view_sizes(views: Views, module: nn.Module, image_size: int, whole_size: int) -> list[int]:
    """Round the sizes of views of whole images to what a module takes, trying each of them out.

    Args:
        views: Views that see whole images.
        module: The module that predicts.
        image_size: Side of what is evaluated in pixels.
        whole_size: Side of the whole images that it is the middle of.

    Returns:
        Side of each view in pixels.

    Raises:
        ValueError: If the module does not take a size, takes two of them as one, or there is
            nothing around the middle.
    """
    if image_size == whole_size:
        raise ValueError(
            "the preset `whole` must have something to show that the evaluation crops, but it crops"
            f" nothing ({image_size} px of {whole_size}). Evaluate a crop, as with"
            " `Geometry(crop_fraction=0.875)`, or take another preset, such as `scales`."
        )
    wanted = views.sizes(whole_size)
    try:
        taken = taken_sizes(module, wanted)
    except ValueError as error:
        raise ValueError(
            f"the preset `whole` predicts images of {', '.join(map(str, wanted))} px. {error}"
            " Or take another preset, such as `scales`."
        ) from error
    if len(set(taken)) < len(taken):
        raise ValueError(
            f"the views of `whole` must differ in size, but {', '.join(map(str, wanted))} px become"
            f" {', '.join(map(str, taken))} px, which {type(module).__name__} takes. Take fewer"
            " views, larger images, or another preset, such as `scales`."
        )
    return taken


class WholeImages:
    """Let a run's datamodule serve whole images beside the evaluated ones, and know their views.

    Args:
        views: Views that see whole images.
    """

    def __init__(self, views: Views) -> None:
        self._views = views
        self._sizes: dict[tuple[int, int], list[int]] = {}
        self._served_before: bool | None = None

    def begin(self, trainer: pl.Trainer) -> None:
        """Ask for whole images.

        Args:
            trainer: Before it asks for loaders.

        Raises:
            MisconfigurationException: If its data have none.
        """
        datamodule = _datamodule(trainer)
        self._sizes.clear()
        self._served_before = datamodule.serves_whole
        datamodule.serves_whole = True

    def end(self, trainer: pl.Trainer) -> None:
        """Let the datamodule serve as before.

        Args:
            trainer: The same, whether or not it has asked.
        """
        if self._served_before is not None:
            _datamodule(trainer).serves_whole = self._served_before
            self._served_before = None

    def check(self, trainer: pl.Trainer, module: nn.Module) -> None:
        """Refuse a module that does not take the views, before anything is predicted.

        Args:
            trainer: The same.
            module: The module that predicts, ready to do so.

        Raises:
            MisconfigurationException: As ``view_sizes`` raises a ValueError.
        """
        datamodule = _datamodule(trainer)
        size = datamodule.eval_image_size or datamodule.image_size
        self.sizes(module, size, datamodule.whole_image_size)

    def sizes(self, module: nn.Module, image_size: int, whole_size: int) -> list[int]:
        """Return what :func:`view_sizes` gives, worked out once for each size.

        Args:
            module: The module that predicts.
            image_size: Side of what is evaluated in pixels.
            whole_size: Side of the whole images.

        Returns:
            Side of each view in pixels.

        Raises:
            MisconfigurationException: As ``view_sizes`` raises a ValueError.
        """
        key = image_size, whole_size
        if key not in self._sizes:
            try:
                self._sizes[key] = view_sizes(self._views, module, image_size, whole_size)
            except ValueError as error:
                raise MisconfigurationException(f"`TestTimeAugmentation`: {error}") from error
            wanted = self._views.sizes(whole_size)
            if self._sizes[key] != wanted:
                rank_zero_info(
                    f"TestTimeAugmentation: views of {', '.join(map(str, wanted))} px become"
                    f" {', '.join(map(str, self._sizes[key]))} px, which {type(module).__name__}"
                    " takes."
                )
        return self._sizes[key]


def wholes_of(batch: Any) -> Tensor:
    """Find the whole images of a batch.

    Args:
        batch: What the datamodule gave after the transfer.

    Returns:
        Shape ``(batch, channels, side, side)``.

    Raises:
        MisconfigurationException: If it has none, or they are not square.
    """
    if not isinstance(batch, WholeBatch):
        raise MisconfigurationException(
            "`TestTimeAugmentation(preset='whole')` needs batches that are a `WholeBatch`, but got"
            f" a {type(batch).__name__}. Let the datamodule make its loaders with"
            " `eval_dataloader(split, whole=self.serves_whole)`, and keep what its"
            " `on_after_batch_transfer` returns."
        )
    height, width = batch.wholes.shape[-2:]
    if height != width:
        raise MisconfigurationException(
            f"`TestTimeAugmentation`: whole images must be square, but are {height} x {width}"
            " (height x width). Crop them to their shorter side."
        )
    return batch.wholes


def _datamodule(trainer: pl.Trainer) -> ServesWhole:
    datamodule = getattr(trainer, "datamodule", None)
    if not isinstance(datamodule, ServesWhole):
        found = "loaders" if datamodule is None else type(datamodule).__name__
        raise MisconfigurationException(
            "`TestTimeAugmentation(preset='whole')` needs a datamodule that serves whole images,"
            f" but the run has {found}. Use an `ImageFolderDataModule`, or take another preset,"
            " such as `scales`."
        )
    return datamodule
