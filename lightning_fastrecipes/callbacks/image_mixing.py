"""MixUp and CutMix: every image of a batch mixed with another one, and so their targets."""

from collections.abc import MutableMapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.aggregation import BaseAggregator
from torchvision.transforms import v2

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError, rank_zero_warn
from lightning_fastrecipes.errors import ConfigurationError, check_at_least, check_choice
from lightning_fastrecipes.functional.images.batches import by_name, target_key
from lightning_fastrecipes.functional.labels.targets import known_labels
from lightning_fastrecipes.messages import name_some
from lightning_fastrecipes.protocols import HasInputSpec

Method = Literal["mixup", "cutmix"]
_MIXED = (
    "With `ImageMixing`, targets in `training_step` are probabilities (batch, num_classes), no"
    " class indices. Its loss must take them, as `cross_entropy` does; measure in validation, or"
    " with `targets.argmax(1)`."
)


class ImageMixing(pl.OwnCallback):
    """Mix the images of each training batch, by torchvision's ``MixUp`` or ``CutMix``.

    Targets become probabilities, ``(batch, num_classes)``, in the same shares; the loss and metrics
    of ``training_step`` must take them, as ``torch.nn.functional.cross_entropy`` does. Numbers are
    mixed in the same shares, by ``mixup`` alone. ``uint8`` images are normalised first, by the
    module's ``input_spec``, since bytes cannot be mixed.

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
        self._counts: dict[str, int] | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Mix the batch in place, or refuse one that cannot be mixed, before it is trained on."""
        keys, (images, targets, *weights) = self._parts(batch)
        batch = by_name(batch)
        shape = targets.shape
        is_number = getattr(pl_module, "label_kind", None) == "numbers"
        self._check_targets(targets, pl_module, is_number=is_number)
        if len(images) < 2:
            return
        if batch_idx == 0 and not targets.is_floating_point() and trainer.current_epoch == 0:
            self._counts = _update_counts(pl_module)
        if images.dtype == torch.uint8:
            if not isinstance(pl_module, HasInputSpec):
                raise SetupError(
                    "`ImageMixing` got `uint8` images, but the module does not say how it"
                    " normalises them. Give it an `input_spec`, or normalise in the loader."
                )
            images = pl_module.input_spec.normalised(images)
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
        mixed: tuple[Tensor, ...]
        if weights:
            mixed = self._weighted(mix(alpha=self.alpha), images, targets, weights[0], pl_module)
        elif targets.is_floating_point():
            mixed = mix(alpha=self.alpha)(images, targets)
        else:
            num_classes = self._num_classes(pl_module)
            mixed = mix(alpha=self.alpha, num_classes=num_classes)(images, targets.long())
        for key, part in zip(keys, mixed, strict=True):
            batch[key] = part
        if is_number:
            batch[keys[1]] = batch[keys[1]].view(shape)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        """Warn of metrics that the first step has updated with mixed targets."""
        before, self._counts = self._counts, None
        if before is None:
            return
        counts = _update_counts(pl_module).items()
        measured = [name for name, count in counts if count > before.get(name, 0)]
        if measured:
            rank_zero_warn(f"`training_step` updates the metrics {name_some(measured)}. {_MIXED}")

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Add to an error of the first step that its targets are probabilities now."""
        if self._counts is not None and trainer.training and isinstance(exception, Exception):
            exception.add_note(_MIXED)

    def _check_targets(self, targets: Tensor, module: Any, *, is_number: bool) -> None:
        """Refuse targets that no mixture has, before torchvision and torch do in their words."""
        shape = tuple(targets.shape)
        if targets.is_floating_point():
            if targets.ndim == 2 or is_number:
                return
            cure = "Serve one yes or no an image as (batch, 1)" if targets.ndim == 1 else "Drop it"
            raise SetupError(
                "`ImageMixing` mixes class indices (batch,), or numbers (batch, columns), but"
                f" targets are floats of shape {shape}. {cure}."
            )
        if targets.ndim != 1:
            what = "masks or boxes cannot be mixed: drop this callback"
            cure = "make them float" if targets.ndim == 2 else what
            raise SetupError(
                "`ImageMixing` mixes class indices (batch,), or numbers (batch, columns), but"
                f" targets are whole numbers of shape {shape}; {cure}."
            )
        num_classes = self._num_classes(module)
        low, high = (int(end) for end in targets.aminmax()) if len(targets) else (0, 0)
        if low < 0 or high >= num_classes:
            raise SetupError(
                f"`ImageMixing` needs class indices from 0 to {num_classes - 1}, but targets reach"
                f" from {low} to {high}. Check `num_classes`."
            )

    def _weighted(
        self, mix: Any, images: Tensor, targets: Tensor, weights: Tensor, module: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mix a batch whose rows count differently: a mixed row counts as its two parts do."""
        if not targets.is_floating_point():
            targets = functional.one_hot(targets.long(), self._num_classes(module)).float()
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

    def _parts(self, batch: Any) -> tuple[list[Any], list[Tensor]]:
        """Return where images, targets and any weights of rows are in a batch, and them."""
        keys: list[Any] = []
        named = by_name(batch)
        if isinstance(named, MutableMapping):
            images = [key for key, part in named.items() if _is_images(part)]
            keys = [*images[:1], target_key(named)]
        elif isinstance(named, list):
            keys = list(range(len(named)))
        parts = [named[key] for key in keys if key is not None]
        has_pair = len(parts) in (2, 3) and _is_images(parts[0]) and isinstance(parts[1], Tensor)
        if has_pair and all(_are_weights(part, parts[1]) for part in parts[2:]):
            return keys, parts
        raise SetupError(
            "`ImageMixing` needs batches that are lists of images (batch, channels, height, width),"
            " targets and, if rows are weighed, one float a row; or dictionaries or dataclasses of"
            f" images and `target` or `label`; but got {type(batch).__name__}. Precomputed features"
            " cannot be mixed; other batches need a list in place of a tuple."
        )


def _update_counts(module: pl.LightningModule) -> dict[str, int]:
    """Return how often each metric of a module was updated; means of losses take no targets."""
    return {
        name: part.update_count
        for name, part in module.named_modules()
        if isinstance(part, Metric) and not isinstance(part, BaseAggregator)
    }


def _is_images(part: Any) -> bool:
    return isinstance(part, Tensor) and part.ndim == 4


def _are_weights(part: Any, targets: Tensor) -> bool:
    is_float = isinstance(part, Tensor) and part.is_floating_point()
    return bool(is_float and part.shape == targets.shape[:1])
