"""An image as a finished run sees it."""

from pathlib import Path

from torch import Tensor

from lightning_fastrecipes.data.common.sources import resolve_source
from lightning_fastrecipes.data.images.dataset import prediction_dataset
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.recipe.artifacts.export_files import member_folders, read_description
from lightning_fastrecipes.recipe.images.description import read_image_description


def served_image(run: str | Path, image: str | Path) -> Tensor:
    """Return a batch of one image, ``uint8``, as the first model of a run or export is to see it.

    Raise `DataNotFoundError` if there is no export or no such file, `DataError` if the export is
    not one of images, or the file is no image.
    """
    folder = member_folders(Path(run))[0]
    if str(read_description(folder)["task"]).startswith("table "):
        raise DataError(
            f"{shown(str(run))} must be of images, but is of a table. Name a run of images; what a"
            " run of a table has learned is shown by `fastrecipes report`."
        )
    path = resolve_source(image, "image")
    if path.is_dir():
        raise DataError(f"`image` must be one image, but {shown(str(path))} is a folder.")
    dataset, bad = prediction_dataset([path], **read_image_description(folder)["geometry"])
    if bad:
        raise DataError(f"The image cannot be read: {': '.join(bad[0])}. Give another.")
    return dataset[0][0][None]
