"""MixUp and CutMix: every image of a batch mixed with another one, and so their targets."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError
from lightning_fastrecipes.errors import ConfigurationError, check_at_least, check_choice
from lightning_fastrecipes.functional.labels.targets import known_labels
from lightning_fastrecipes.protocols import HasInputSpec

Method = Literal["mixup", "cutmix"]


class ImageMixing(pl.Callback):
    """Mix the images of each training batch, by torchvision's ``MixUp`` or ``CutMix``.

    Targets become probabilities, ``(batch, num_classes)``, in the same shares; the loss must take
    them, as ``torch.nn.functional.cross_entropy`` does. Numbers are mixed in the same shares, by
    ``mixup`` alone. ``uint8`` images are normalised first, by
    the module's ``input_spec``, since bytes cannot be mixed.

    Args:
        method: ``mixup`` lays one image over the other; ``cutmix`` puts a part of one into it.
        alpha: Of the Beta distribution that the share is drawn from, above 0: small values leave
            most images nearly as they are, at 1 all shares are as frequent.
        num_classes: Number of classes; ``num_classes`` of the module if ``None``.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> ImageMixing("cutmix", alpha=0.5).method
        'cutmix'

    References:
        Zhang et al., *mixup: Beyond Empirical Risk Minimization* (2018); Yun et al., *CutMix:
        Regularization Strategy to Train Strong Classifiers* (2019).
    """

    def __init__(
        self, method: Method = "mixup", alpha: float = 1.0, num_classes: int | None = None
    ) -> None:
        check_choice("method", method, get_args(Method))
        if not alpha > 0:
            raise ConfigurationError(f"`alpha` must be above 0, got {alpha}.")
        if num_classes is not None:
            check_at_least("num_classes", num_classes, 2)
        self.method: Method = method
        self.alpha = alpha
        self.num_classes = num_classes

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Mix the batch in place, or refuse one that is no list of images and targets."""
        images, targets, *weights = self._parts(batch)
        shape = targets.shape
        if len(images) < 2:
            return
        if images.dtype == torch.uint8:
            if not isinstance(pl_module, HasInputSpec):
                raise SetupError(
                    "`ImageMixing` got `uint8` images, but the module does not say how it"
                    " normalises them. Give it an `input_spec`, or normalise in the loader."
                )
            images = pl_module.input_spec.normalised(images)
        is_number = getattr(pl_module, "label_kind", None) == "numbers"
        if is_number and self.method == "cutmix":
            raise SetupError(
                "`ImageMixing('cutmix')` shares classes out by area, which numbers are not. Use"
                " `ImageMixing('mixup')`, which mixes the numbers as it does the images."
            )
        mix = v2.MixUp if self.method == "mixup" else v2.CutMix
        if is_number and targets.ndim == 1:
            targets = targets[:, None]
        elif targets.is_floating_point() and not is_number:
            # Mixed with -1, a label that is unknown would seem to be known.
            targets = targets.where(known_labels(targets), torch.nan)
        if weights:
            batch[:] = self._weighted(mix(alpha=self.alpha), images, targets, weights[0], pl_module)
        elif targets.is_floating_point():
            batch[:] = mix(alpha=self.alpha)(images, targets)
        else:
            num_classes = self._num_classes(pl_module)
            batch[:] = mix(alpha=self.alpha, num_classes=num_classes)(images, targets)
        if is_number:
            batch[1] = batch[1].view(shape)

    def _weighted(
        self, mix: Any, images: Tensor, targets: Tensor, weights: Tensor, module: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mix a batch whose rows count differently: a mixed row counts as its two parts do."""
        if not targets.is_floating_point():
            targets = functional.one_hot(targets, self._num_classes(module)).float()
        counted = torch.cat([targets, torch.ones_like(targets[:, :1])], 1) * weights[:, None]
        images, mixed = mix(images, counted)
        total = mixed[:, -1]
        return images, mixed[:, :-1] / total.clamp_min(1e-12)[:, None], total

    def _num_classes(self, module: Any) -> int:
        num_classes: int | None = self.num_classes or getattr(module, "num_classes", None)
        if num_classes is None:
            raise SetupError(
                "`ImageMixing` needs the number of classes, which the module does not say."
                " Write `ImageMixing(num_classes=...)`."
            )
        return num_classes

    def _parts(self, batch: Any) -> list[Tensor]:
        """Return images and targets, and the weights of the rows if there are any."""
        is_known = isinstance(batch, list) and len(batch) in (2, 3)
        if is_known and all(isinstance(part, Tensor) for part in batch) and batch[0].ndim == 4:
            return list(batch)
        raise SetupError(
            "`ImageMixing` needs batches that are lists of images (batch, channels, height,"
            f" width) and targets, but got {type(batch).__name__}. Precomputed features cannot be"
            " mixed; other batches need a list in place of a tuple."
        )
