"""What a datamodule of images is told, and the transforms that follow from it."""

from typing import Literal, get_args

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import TrainerFn
from lightning_fastrecipes.data.common.cache_choice import Cache
from lightning_fastrecipes.data.common.settings import (
    Choice,
    Instance,
    MaybeWholeNumber,
    WholeNumber,
)
from lightning_fastrecipes.data.images.assembly import OnBadFile, Split, SplitPlan
from lightning_fastrecipes.data.images.geometry import CachedSize, EvalTransform, Geometry
from lightning_fastrecipes.data.images.pixel_stores import PixelStores
from lightning_fastrecipes.data.images.train_transform import TrainTransform
from lightning_fastrecipes.functional.images.augment import Preset
from lightning_fastrecipes.protocols import GrowsImages, HasInputSpec, InputSpec

AugmentOn = Literal["loader", "device"]


class ImageSettings(pl.LightningDataModule):
    """Hold what is said of images, and bring them to what the model and the settings want.

    ``image_size``, ``eval_image_size``, ``batch_size``, ``augmentation`` and ``seed`` may be
    assigned between two fits: the next loaders use them.

    Args:
        image_size: Side of the square images in pixels, at least 1.
        batch_size: Images per step and process, at least 1.
        augmentation: Preset for training images; ``none`` gives those of the evaluation.
        val_fraction: Share to validate on, in [0, 1), if the data bring no such split.
        test_fraction: Share to test on, in [0, 1), if the data bring no such split.
        split_seed: Another seed draws other splits.
        seed: Of shuffling and augmentation, at least 0.
        on_bad_file: ``raise`` refuses to start with unreadable files; ``skip`` leaves them out.
        num_workers: Loader processes, at least 0; from the machine and the data if not given.
        geometry: How images are resized and cropped; the defaults if not given.
        cache: Where decoded images are kept: ``auto`` or true in the cache folder if there is
            room, ``off`` or false nowhere, or a folder.
        augment_on: Whether each image is augmented by the ``loader``, or a whole batch on the
            ``device``, after the transfer by a trainer: quicker, and other draws of the same law.
        balance: Whether training images are drawn, with replacement, so that rare labels are
            seen as often as common ones; see ``functional.labels.balance.balancing_weights``.

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: If one is of the wrong type.

    Attributes:
        largest_image_size: The largest that ``image_size`` will be, so that images of a fit are
            decoded once for all sizes; ``image_size`` itself if it is larger. A fit's
            ``ProgressiveResizing`` is heeded as well.
        input_spec: What the model expects of a image; adopted from the module in ``setup``.
    """

    image_size = WholeNumber(at_least=1)
    eval_image_size = MaybeWholeNumber(at_least=1)
    batch_size = WholeNumber(at_least=1)
    seed = WholeNumber(at_least=0)
    num_workers = MaybeWholeNumber(at_least=0)
    augmentation: Choice[Preset] = Choice(get_args(Preset))
    augment_on: Choice[AugmentOn] = Choice(get_args(AugmentOn))
    on_bad_file: Choice[OnBadFile] = Choice(get_args(OnBadFile))
    geometry = Instance(Geometry)

    def __init__(
        self,
        *,
        image_size: int = 224,
        batch_size: int = 32,
        augmentation: Preset = "none",
        val_fraction: float = 0.2,
        test_fraction: float = 0.0,
        split_seed: int = 0,
        seed: int = 0,
        on_bad_file: OnBadFile = "raise",
        num_workers: int | None = None,
        geometry: Geometry | None = None,
        cache: Cache = "auto",
        augment_on: AugmentOn = "loader",
        balance: bool = False,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.eval_image_size = None
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.seed = seed
        self.split_plan = SplitPlan(val_fraction, test_fraction, split_seed)
        self.on_bad_file = on_bad_file
        self.augment_on = augment_on
        self.num_workers = num_workers
        self.geometry = Geometry() if geometry is None else geometry
        self.largest_image_size = 0
        self.balance = balance
        self.input_spec: InputSpec | None = None
        self._stores = PixelStores(cache)

    def eval_transform_key(self) -> dict[str, str | int | float]:
        """Describe the geometry of the evaluation, for the key of a cache or for an export.

        Returns:
            Plain values by the names of ``prediction_dataset``'s arguments.
        """
        return self._eval_transform().key()

    def _adopt_input_spec(self) -> None:
        if self.trainer is not None and isinstance(self.trainer.lightning_module, HasInputSpec):
            self.input_spec = self.trainer.lightning_module.input_spec

    def _eval_transform(self, image_size: int | None = None) -> EvalTransform:
        size = image_size or self.eval_image_size or self.image_size
        return EvalTransform(size, self.geometry, self.input_spec or InputSpec())

    def _cached_size(self, split: Split) -> CachedSize:
        """Return the smallest form that a split's images can be kept in, for all sizes to come."""
        callbacks = [] if self.trainer is None else getattr(self.trainer, "callbacks", [])
        growing = [c.largest_image_size for c in callbacks if isinstance(c, GrowsImages)]
        if split == "train":
            largest = max(self.image_size, self.largest_image_size, *growing)
            return self._train_transform(largest).cached_size()
        fitted = self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        size = self.eval_image_size or self.image_size
        largest = max(size, self.largest_image_size, *growing) if fitted else size
        return self._eval_transform(largest).cached_size()

    def _train_transform(self, image_size: int) -> TrainTransform:
        return TrainTransform(
            image_size,
            self.geometry,
            self.input_spec or InputSpec(),
            augmentation=self.augmentation,
            seed=self.seed,
        )
