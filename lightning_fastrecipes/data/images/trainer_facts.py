"""What a trainer is about to do with images: the one place that reads a trainer's parts."""

from dataclasses import dataclass

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import TrainerFn
from lightning_fastrecipes.data.common.samplers import upcoming_epoch
from lightning_fastrecipes.data.images.listing import ImageSplit
from lightning_fastrecipes.functional.images.views import Views
from lightning_fastrecipes.protocols import GrowsImages, HasInputSpec, InputSpec, LoadsViews

_SPLITS_READ: dict[str, tuple[ImageSplit, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
}


@dataclass(frozen=True)
class TrainerFacts:
    """What a datamodule must know of its trainer; the defaults hold without one.

    ``input_spec`` is ``None`` if the model does not normalise images by itself;
    ``largest_image_size`` is the largest that a callback will ask for, 0 if none does. ``splits``
    are about to be read as a whole, none in a trial of a few batches. A trainer that
    ``is_attached`` finishes batches on the device. ``epoch`` is that of the next training loader.
    ``views`` are those that a callback asks to be loaded beside the images of an evaluation.
    """

    input_spec: InputSpec | None = None
    largest_image_size: int = 0
    splits: tuple[ImageSplit, ...] = ()
    is_attached: bool = False
    is_fitting: bool = False
    epoch: int = 0
    on_cpu: bool = False
    num_local_processes: int = 1
    views: Views | None = None


def read_trainer(trainer: pl.Trainer | None) -> TrainerFacts:
    """Read what a trainer, its module and its callbacks want at this moment.

    A plain script tells its datamodule nothing, and Lightning calls ``prepare_data`` and ``setup``
    of a datamodule before any hook of a callback or module, so that they cannot tell it either.
    """
    if trainer is None:
        return TrainerFacts()
    module, task = trainer.lightning_module, trainer.state.fn
    callbacks = getattr(trainer, "callbacks", [])  # missing in Lightning's types
    is_fitting = task == TrainerFn.FITTING
    asked = [c.loaded_views(is_fitting=is_fitting) for c in callbacks if isinstance(c, LoadsViews)]
    sizes = [c.largest_image_size for c in callbacks if isinstance(c, GrowsImages)]
    return TrainerFacts(
        input_spec=module.input_spec if isinstance(module, HasInputSpec) else None,
        largest_image_size=max(sizes, default=0),
        splits=()
        if pl.is_fast_dev_run(trainer) or task is None
        else _SPLITS_READ.get(task.value, ()),
        is_attached=True,
        is_fitting=is_fitting,
        epoch=upcoming_epoch(trainer),
        on_cpu=trainer.strategy.root_device.type == "cpu",
        num_local_processes=trainer.num_devices,
        views=next((views for views in asked if views is not None), None),
    )
