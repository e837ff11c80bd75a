"""What a datamodule knows of its images once they are read."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from typing_extensions import override

from lightning_fastrecipes.data.common.self_description import DescribesItself, say_how_to_see
from lightning_fastrecipes.data.common.settings import Instance
from lightning_fastrecipes.data.images.assembly import Images
from lightning_fastrecipes.data.images.geometry import Geometry
from lightning_fastrecipes.data.images.label_table import Numbers
from lightning_fastrecipes.data.images.listing import ImageSplit
from lightning_fastrecipes.errors import ConfigurationError, check_at_least
from lightning_fastrecipes.functional.labels.numbers import NumberTarget
from lightning_fastrecipes.protocols import InputSpec, LabelKind

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class KnownImages(DescribesItself):
    """The class map, the kind of labels, and what was found, of images that ``setup`` reads."""

    _images: Images | None
    geometry: Instance[Geometry]

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the target, from the training split; read if needed."""
        if self._images is None:
            self._read()
        return list(self._assembled.classes)

    @property
    def label_kind(self) -> LabelKind:
        """What a target is: a class index, a probability per class, 0 or 1 per label, or numbers.

        Numbers are of 64 bits, one per image or a row of several.
        """
        if self._images is not None:
            return self._images.label_kind
        return "single" if self._asked_numbers() is None else "numbers"

    def _asked_numbers(self) -> Numbers | None:
        """Return what numbers the user says that images have; ``None`` if they have classes."""
        return None

    @property
    def number_targets(self) -> tuple[NumberTarget, ...]:
        """The numbers of each image, with mean and deviation in training; none of classes."""
        return self._assembled.number_targets

    @property
    def label_reason(self) -> str:
        """Why labels are of this kind; empty where there was nothing to decide."""
        return self._assembled.label_reason

    @property
    def reading(self) -> str:
        """How a folder or table was read, and what is left unused; empty if that is plain."""
        return self._assembled.reading

    @property
    def num_channels(self) -> int:
        """Channels of the images that are served: 3, or as ``geometry`` says."""
        return self.geometry.decoding.channels

    @property
    def train_targets(self) -> Tensor:
        """Targets of the training split, in the order of its files."""
        return torch.from_numpy(self._assembled.splits["train"].targets)

    @property
    def train_weights(self) -> Tensor | None:
        """How much each training image counts, 1 on average; ``None`` if all count the same."""
        weights = self._assembled.splits["train"].weights
        return None if weights is None else torch.from_numpy(weights)

    @property
    def skipped_files(self) -> list[tuple[str, str]]:
        """Path and reason of each unreadable file that was left out."""
        return list(self._assembled.skipped_files)

    @override
    def _about(self) -> dict[str, str]:
        if self._images is None:
            return {"": "not read yet"}
        counts = {split: len(part.targets) for split, part in self._images.splits.items()}
        found = {str(split): f"{count:,} images" for split, count in counts.items() if count}
        names = self.classes or [number.name for number in self.number_targets]
        few = f"{', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
        found[f"{len(names)} {'classes' if self.classes else 'numbers'}"] = few
        own: Any = self
        found["image size"] = f"{own.image_size} px"
        found["augmentation"] = str(own.augmentation)
        return found

    def show_batch(
        self, num_images: int = 6, num_epochs: int = 5, path: str | Path | None = None
    ) -> "Figure":
        """Draw some training images: plain, and as each of the first epochs augments them.

        Args:
            num_images: How many images, at least 1.
            num_epochs: How many epochs, at least 0.
            path: Where the figure goes, PNG without a suffix; nothing is written if ``None``.

        Returns:
            The figure, which a notebook shows; in a script give ``path``.

        Raises:
            ConfigurationError: If a number is out of its range.
        """
        # Imported here, so that data alone import no library of figures.
        from lightning_fastrecipes.data.images.showing import draw_training_images

        check_at_least("num_images", num_images, 1)
        check_at_least("num_epochs", num_epochs, 0)
        self._read()
        if path is None:
            say_how_to_see()
        return draw_training_images(self, path, num_images, num_epochs)

    def float_dataloader(self, split: ImageSplit) -> "FloatLoader":
        """Return the batches of a split for a module that does not normalise, without a trainer.

        Args:
            split: ``train``, ``val``, ``test`` or ``predict``, in order and without augmentation.

        Returns:
            Batches as those of ``eval_dataloader``, with ``float32`` images, normalised as a
            trainer with this datamodule does for such a module.
        """
        own: Any = self
        return FloatLoader(own.eval_dataloader(split), own._spec)

    def _read(self) -> None:
        own: Any = self
        own.prepare_data()
        own.setup("fit")

    @property
    def _assembled(self) -> Images:
        if self._images is None:
            raise ConfigurationError(
                "The images have not been read yet. Call `setup('fit')`, or let a Trainer do so."
            )
        return self._images


class FloatLoader:
    """Batches of a loader, with images normalised."""

    def __init__(self, loader: Any, spec: InputSpec) -> None:
        self.loader = loader
        self.spec = spec

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[Tensor]]:
        for images, *others in self.loader:
            yield [self.spec.normalised(images), *others]
