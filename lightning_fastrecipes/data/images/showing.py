"""Draw training images, and what an augmentation may do to them."""

from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.images.extremes import extremes
from lightning_fastrecipes.functional.images.transform_list import name_of
from lightning_fastrecipes.plots.images import draw_batch


def show_transforms(data: Any, path: str | Path, index: int = 0) -> Figure:
    """Draw each transform of the training augmentation alone, at its extremes.

    So one sees whether the label survives: a class that changes under a transform, such as a 6 that
    is turned, asks for less of it.

    Args:
        data: A datamodule of images that is set up.
        path: Where the PNG goes.
        index: Which training image is shown, from 0.

    Returns:
        The figure: a row for each transform, with the plain image on the left.

    Raises:
        ConfigurationError: If training images are not augmented, or there is no such image.
    """
    augmentation = data.augmentation
    if augmentation.is_none:
        raise ConfigurationError(
            "There must be an augmentation to show, but `augmentation` is 'none'. Set a preset or"
            " a list of transforms."
        )
    dataset = data.eval_dataset("train")
    if not 0 <= index < len(dataset):
        raise ConfigurationError(f"`index` must lie in [0, {len(dataset)}), got {index}.")
    image = dataset[index][0]
    found = extremes(
        augmentation.preset,
        augmentation.max_zoom,
        augmentation.max_angle,
        augmentation.listed,
        [name_of(spec) for spec in augmentation.transforms],
    )
    rows, names, titles = [], [], []
    for name, group in groupby(found, key=lambda one: one.transform):
        shown = list(group)
        names.append(name)
        rows.append([image, *(one.apply(image) for one in shown)])
        titles.append(["not augmented", *(one.label for one in shown)])
    title = f"Training image {index}: each transform alone, at its extremes"
    return draw_batch(rows, names, path, titles, title=title)


def draw_training_images(
    data: Any, path: str | Path | None, num_images: int, num_epochs: int, where: str = ""
) -> Figure:
    """Draw some training images of a datamodule: plain, and as the first epochs augment them.

    Nothing is written if ``path`` is ``None``. ``where`` ends the title, such as ``of stage all``.
    Without an augmentation every epoch has the plain images, which are drawn once.
    """
    plain, trained = data.eval_dataset("train"), data.train_dataloader().dataset
    count = len(plain)
    places = np.unique(np.linspace(0, count - 1, num_images).round().astype(int)).tolist()
    augmentation = data.augmentation
    epochs = range(0 if augmentation.is_none else num_epochs)
    rows = [
        [plain[place][0], *(trained[epoch * count + place][0] for epoch in epochs)]
        for place in places
    ]
    names = [name_of(spec) for spec in augmentation.transforms]
    parts = [augmentation.preset] if augmentation.preset != "none" or not names else []
    said = f"augmentation {', '.join([*parts, *names])}"
    if augmentation.is_none:
        said += ", so all epochs are the same"
    title = f"Training images{where}: {said}"
    labels = [_label(data, plain.targets[place]) for place in places]
    return draw_batch(rows, labels, path, title=title)


def _label(images: Any, target: torch.Tensor) -> str:
    if images.number_targets:
        pairs = zip(images.number_targets, target.reshape(-1).tolist(), strict=True)
        return ", ".join(f"{number.name} {value:.4g}" for number, value in pairs)
    classes: list[str] = images.classes
    if target.ndim == 0:
        return classes[int(target)]
    known = target.nan_to_num(0.0)  # NaN and -1 are unknown
    chosen = known >= max(min(0.5, float(known.max())), 1e-6)
    names = [name for name, is_on in zip(classes, chosen, strict=True) if is_on]
    return ", ".join(names) or "(no label)"
