"""What an export of a model of images holds besides its weights: written, and checked when read."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from lightning_fastrecipes import plain
from lightning_fastrecipes.data.images.decoding import WHITE
from lightning_fastrecipes.data.images.geometry import MAX_CHANNELS, EvalTransform, Geometry
from lightning_fastrecipes.data.images.module import ImageDataModule
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.functional.labels.numbers import check_targets
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.old_names import has_whole_views
from lightning_fastrecipes.protocols import ClassKind, InputSpec
from lightning_fastrecipes.recipe.artifacts.export_files import THRESHOLDS, read_description
from lightning_fastrecipes.recipe.config.bounds import MOST, MOST_OF_A_TRANSFORM
from lightning_fastrecipes.tasks.image import ImageClassifier
from lightning_fastrecipes.tasks.image_regressor import ImageRegressor

TASK, NUMBERS_TASK = "image classification", "image regression"
Model = ImageClassifier | ImageRegressor
_FAR = 1e9
"""Pixels are from 0 to 1: their means are nearer to 0, and deviations not so far from 1."""
_SIDE = plain.whole(1, MOST["image_size"])
_VIEWS = plain.maybe(
    plain.keys(
        {"preset": plain.text()},
        {
            "n": plain.maybe(plain.whole(1, MOST["views"])),
            "max_zoom": plain.number(1, 100),
            "max_angle": plain.number(0, 360),
            "plain_weight": plain.maybe(plain.number(0, 1)),
            "seed": plain.whole(0, (1 << 63) - 1),
            "transforms": plain.items(plain.modest(MOST_OF_A_TRANSFORM), most=100),
        },
    )
)
_CLASS = plain.text(r"[^\ud800-\udfff]{1,1000}", "text")
_OF_CLASSES = {
    "architecture": plain.keys({"num_classes": plain.whole(2, MOST["num_classes"])}),
    "classes": plain.items(_CLASS, 2, MOST["num_classes"], unique=True),
    "label_kind": plain.choice(*get_args(ClassKind)),
    "thresholds": THRESHOLDS,
}
_OF_NUMBERS = {"numbers": check_targets}
_DESCRIPTION = {
    "input": plain.all_of(
        plain.keys(
            {
                "mean": plain.items(plain.number(-_FAR, _FAR), 1, MAX_CHANNELS),
                "std": plain.items(plain.number(1 / _FAR, _FAR), 1, MAX_CHANNELS),
            }
        ),
        plain.built(InputSpec),
    ),
    "geometry": plain.all_of(
        plain.keys(
            {"image_size": _SIDE, "crop_fraction": plain.number(above=0, most=1)},
            {
                "background": plain.text(),
                "max_megapixels": plain.number(above=0, most=MOST["max_megapixels"]),
                "white_level": plain.whole(1, WHITE),
                "channels": plain.whole(1, MAX_CHANNELS),
            },
        ),
        plain.built(lambda image_size, **geometry: Geometry(**geometry)),
    ),
    "batch_size": plain.whole(1, MOST["batch_size"]),
}
_MEAN_IMAGE = plain.maybe(plain.items(plain.whole(1, MOST["image_size"]), 3, 3))


def describe_model(model: Model, images: ImageDataModule) -> dict[str, Any]:
    """Return what ``load_export`` must know of a model besides its weights, as plain values.

    The thresholds of several labels are filled in by the evaluation. The data need not be read.
    Raise `ConfigurationError` if the model does not know what it predicts.
    """
    spec = model.input_spec
    predicted: dict[str, Any]
    loss = None
    if isinstance(model, ImageRegressor):
        numbers = [asdict(number) for number in model.require_numbers()]
        predicted = {"task": NUMBERS_TASK, "numbers": numbers}
    else:
        if model.classes is None:
            raise ConfigurationError(
                f"`{type(model).__name__}` must know the names of its classes, but was not trained"
                " on a datamodule that has them. Call `model.set_classes([...])`, in the order of"
                " the class indices."
            )
        predicted = {"task": TASK, "classes": model.classes, "label_kind": model.label_kind}
        predicted["thresholds"] = None
        loss = model.exported_loss(model.labels.loss)
    return {
        **predicted,
        "architecture": model.architecture | ({} if loss is None else {"labels": {"loss": loss}}),
        "input": {k: v for k, v in spec.plain_values().items() if k != "mean_image"},
        "mean_image": None if spec.mean_image is None else list(spec.mean_image.shape),
        "geometry": EvalTransform(
            images.eval_image_size or images.image_size, images.geometry, spec
        ).key(),
        "batch_size": images.batch_size,
    }


def read_image_description(folder: Path) -> dict[str, Any]:
    """Read and check the description of an exported classifier."""

    def check(description: dict[str, Any], key: str) -> None:
        if description["task"] not in (TASK, NUMBERS_TASK):
            raise DataError(
                f"The export in {folder} must be of a model of images, but is of a"
                f" {shown(description['task'])}. Give it a table to predict."
            )
        tuned = {"plain_thresholds": THRESHOLDS, "tta": _views, "training_views": _views}
        is_classifier = description["task"] == TASK
        needed = {**_DESCRIPTION, **(_OF_CLASSES if is_classifier else _OF_NUMBERS)}
        plain.keys(needed, {**tuned, "mean_image": _MEAN_IMAGE})(description, key)
        geometry = description["geometry"]
        plain.number(1, 4 * MOST["image_size"])(
            geometry["image_size"] / geometry["crop_fraction"],
            "geometry: image_size / crop_fraction",
        )
        if not is_classifier:
            return
        classes = description["classes"]
        plain.choice(description["architecture"]["num_classes"])(
            len(classes), "number of `classes`"
        )
        needs = plain.named(plain.anything, classes)
        is_multi = description["label_kind"] == "multi"
        (needs if is_multi else plain.choice(None))(description["thresholds"], "thresholds")
        plain.maybe(needs)(description.get("plain_thresholds"), "plain_thresholds")

    return read_description(folder, check)


def _views(value: Any, key: str) -> None:
    if not has_whole_views(value):
        _VIEWS(value, key)
