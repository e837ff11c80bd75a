"""What a datamodule knows of its images once they are read."""

import torch
from torch import Tensor

from lightning_fastrecipes.data.common.settings import Instance
from lightning_fastrecipes.data.images.assembly import Images
from lightning_fastrecipes.data.images.geometry import Geometry
from lightning_fastrecipes.data.images.label_table import Numbers
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.labels.numbers import NumberTarget
from lightning_fastrecipes.protocols import LabelKind


class KnownImages:
    """The class map, the kind of labels, and what was found, of images that ``setup`` reads."""

    _images: Images | None
    geometry: Instance[Geometry]

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the target, from the training split."""
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

    @property
    def _assembled(self) -> Images:
        if self._images is None:
            raise ConfigurationError(
                "The images have not been read yet. Call `setup('fit')`, or let a Trainer do so."
            )
        return self._images
