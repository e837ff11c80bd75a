"""Image regression by transfer learning: one or several numbers per image."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from typing_extensions import override

from lightning_fastrecipes import plain
from lightning_fastrecipes._lightning import rank_zero_info
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.labels.numbers import (
    NumberTarget,
    as_doubles,
    by_column,
    describe_targets,
    plain_names,
    read_targets,
    refuse_other_numbers,
)
from lightning_fastrecipes.functional.training.group_rates import Rates
from lightning_fastrecipes.functional.training.layer_groups import NormPolicy
from lightning_fastrecipes.nn.heads import Layout
from lightning_fastrecipes.nn.number_metric import Measure, NumberMetric
from lightning_fastrecipes.protocols import HasClasses, HasNumbers, LabelKind
from lightning_fastrecipes.tasks.base import CHECKPOINT_KEY
from lightning_fastrecipes.tasks.building import (
    MetricSpec,
    check_metric_names,
    load_class,
    plain_values,
)
from lightning_fastrecipes.tasks.image_task import Head, ImageTask
from lightning_fastrecipes.tasks.metric_checks import Example, check_metrics, number_example
from lightning_fastrecipes.tasks.numbers import PredictsNumbers
from lightning_fastrecipes.tasks.optim import Optim
from lightning_fastrecipes.tasks.saved_arguments import save_arguments

LossName = Literal["mse", "mae", "huber"]
_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": F.mse_loss,
    "mae": F.l1_loss,
    "huber": F.huber_loss,
}


class ImageRegressor(PredictsNumbers, ImageTask):
    """Predict one or several numbers for each image with a pretrained backbone.

    Takes images, and trains layer group by layer group, as ``ImageClassifier``. ``forward`` returns
    how many deviations each number, or with ``log`` its logarithm, lies above the mean of the
    training images, in shape ``(batch,)`` of one number and ``(batch, numbers)`` of several. The
    loss is of that: ``val_loss`` of ``mse`` is a share of the variance, 1 for a model that always
    predicts the mean. Metrics and ``predict_step`` are in the units of the data, computed in 64
    bits, on the CPU where the device has no such numbers.

    Args:
        backbone: Name of a timm model, a module, or a mapping, as of ``ImageClassifier``.
        numbers: What is predicted, for loaders of your own: a mapping with ``name``, and ``mean``
            and ``std`` of the training targets, or of their logarithms with ``log: true``, for each
            number; if ``None``, as the trainer's datamodule has them.
        weights: Path of a ``.safetensors``, ``.pth`` or ``.ckpt`` file, also of another run and of
            other classes, whose head is left out; or ``package:efficientnet-lite0``.
        pretrained: Whether to load timm's weights from the model hub.
        head: ``"course"``, ``"linear"``, or a ``Head`` with its width and dropout.
        num_groups: Number of layer groups, the head included, at least 2.
        norm_policy: Batch norm of the backbone, as of ``ImageClassifier``.
        lr: Learning rate of the head, an array or a range, as for ``Optim``; replaces ``optim.lr``.
        lr_ratio: How many times smaller each earlier group's rate is; replaces ``optim.lr_ratio``.
        optim: Optimizer, rates and weight decay: an ``Optim``.
        metrics: Name to metric, class path or plain function of ``(predictions, targets)`` in the
            units of the data; if ``None``, ``mae``, ``rmse`` and ``r2``, of several numbers each by
            its name, such as ``mae_age``.
        loss: ``mse``, ``mae`` or ``huber``, of deviations; or a module of ``(predictions,
            targets)``, or ``{"class_path": ..., "init_args": {...}}`` of one.

    Raises:
        ValueError: If a number is out of range or a model is unknown.
        DataNotFoundError: If weights are not to be had; the message names the alternatives.

    Example:
        >>> model = ImageRegressor("resnet18", [{"name": "age", "mean": 40.0, "std": 12.0}])
        >>> model.loss(torch.tensor([0.5]), torch.tensor([46.0])).item()
        0.0

    Note:
        With ``log`` the prediction is the median: the predicted logarithm undone.

    References:
        fast.ai course (2018), lessons 1 and 8.
    """

    label_kind: LabelKind = "numbers"

    def __init__(
        self,
        backbone: str | Mapping[str, Any] | nn.Module,
        numbers: Sequence[Mapping[str, Any]] | None = None,
        *,
        weights: str | None = None,
        pretrained: bool = False,
        head: Layout | Head | Mapping[str, Any] = "course",
        num_groups: int = 3,
        norm_policy: NormPolicy | None = None,
        lr: Rates | None = None,
        lr_ratio: float | None = None,
        optim: Optim | Mapping[str, Any] | None = None,
        metrics: Mapping[str, MetricSpec] | None = None,
        loss: LossName | Mapping[str, Any] | nn.Module = "mse",
    ) -> None:
        criterion = _build_loss(loss)
        super().__init__(
            backbone,
            weights=weights,
            pretrained=pretrained,
            head=head,
            num_groups=num_groups,
            norm_policy=norm_policy,
            metrics={},
            metric_defaults={},
            optim=optim,
            lr=lr,
            lr_ratio=lr_ratio,
        )
        self.numbers: tuple[NumberTarget, ...] = ()
        self._chosen_metrics = check_metric_names(metrics)
        self._criterion = (criterion,)  # no part of the model
        self.finish(**({} if isinstance(loss, nn.Module) else {"loss": plain_values(loss)}))
        if numbers is not None:
            self.set_numbers(numbers)

    def set_numbers(self, numbers: Sequence[NumberTarget | Mapping[str, Any]]) -> None:
        """Set what is predicted, in order, saved in every checkpoint; builds the head.

        Args:
            numbers: For each a mapping as of the constructor, or a ``NumberTarget``.

        Raises:
            ConfigurationError: If they are settled already and have other names, or one is wrong.
        """
        found = read_targets(numbers)
        if self.numbers:
            self._refuse_others(found)
            return
        self._keep(found)
        self.set_head(len(found))
        chosen = self._chosen_metrics
        self.set_metrics(_default_metrics(found) if chosen is None else chosen, {})
        check_metrics(self)
        self.phase_metrics.to(self.part_device())

    def adopt_targets(self, datamodule: Any) -> None:
        """Take the numbers of a datamodule, or compare them with the model's own.

        Raise `ConfigurationError` if they differ, or it has classes.
        """
        if isinstance(datamodule, HasNumbers) and datamodule.number_targets:
            self.set_numbers(datamodule.number_targets)
        elif isinstance(datamodule, HasClasses):
            raise ConfigurationError(
                f"`{type(self).__name__}` predicts numbers, but {type(datamodule).__name__} has"
                " classes: give `labels=Numbers(...)` if its labels are numbers, or use"
                " `ImageClassifier`."
            )

    def require_numbers(self) -> tuple[NumberTarget, ...]:
        """Return what is predicted, or raise a ConfigurationError if it is not known yet."""
        if not self.numbers:
            raise ConfigurationError(
                f"`{type(self).__name__}` must know what numbers it predicts, but was built without"
                " `numbers`. Give them, call `set_numbers`, or use a datamodule whose labels are"
                " `Numbers`."
            )
        return self.numbers

    @property
    @override
    def number_names(self) -> list[str]:
        return [target.name for target in self.require_numbers()]

    @override
    def example(self) -> Example:
        return number_example(len(self.require_numbers()))

    @override
    def setup(self, stage: str) -> None:
        """Take the numbers of the datamodule, or compare them with the model's own."""
        super().setup(stage)
        was_open = not self.numbers
        self.adopt_targets(getattr(self.trainer, "datamodule", None))
        found = self.require_numbers()
        if was_open:
            rank_zero_info(
                f"{type(self).__name__}: {describe_targets(found)}. Metrics are in these units;"
                " the loss is of deviations from the mean."
            )

    @override
    def forward_head(self, features: Tensor) -> Tensor:
        targets = self.require_numbers()
        # Rounded to 8 bits, a number would be off by half a per cent of a deviation.
        with torch.autocast(features.device.type, enabled=False):
            weight = next(self.head.parameters())
            raw = cast(Tensor, self.head(features.to(weight.dtype))).float()
        return raw.squeeze(1) if len(targets) == 1 else raw

    @override
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        wanted = by_column(NumberTarget.to_model, self.require_numbers(), self._checked(targets))
        return self._criterion[0](logits, wanted.to(logits))

    def initial_loss(self, targets: Tensor) -> Tensor:
        """Return the loss of a model that predicts the mean of the training images for all."""
        return self.loss(torch.zeros(targets.shape, device=targets.device), targets)

    @override
    def probabilities(self, logits: Tensor) -> Tensor:
        """Return predictions in the units of the data, in the shape of the logits, in 64 bits."""
        return by_column(NumberTarget.from_model, self.require_numbers(), logits)

    @override
    def logits(self, probabilities: Tensor) -> Tensor:
        return by_column(NumberTarget.to_model, self.require_numbers(), probabilities)

    @override
    def metric_targets(self, targets: Tensor) -> Tensor:
        return as_doubles(self._checked(targets))

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what is predicted, as plain values."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY] |= {"numbers": [asdict(x) for x in self.require_numbers()]}

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what is predicted, and refuse a checkpoint of other numbers or of classes."""
        super().on_load_checkpoint(checkpoint)
        saved = checkpoint.get(CHECKPOINT_KEY)
        if saved is None:
            return
        if "classes" in saved:
            raise ConfigurationError(
                f"`{type(self).__name__}` predicts numbers, but the checkpoint is of a model of"
                " classes. Load it with `ImageClassifier`, or start a new model."
            )
        plain.keys({"numbers": plain.anything})(saved, CHECKPOINT_KEY)
        found = read_targets(saved["numbers"])
        self.set_numbers(found)
        self._keep(found)  # in whose units the weights are

    def _keep(self, numbers: tuple[NumberTarget, ...]) -> None:
        self.numbers = numbers
        save_arguments(self, {"numbers": [asdict(target) for target in numbers]})

    def _refuse_others(self, found: Sequence[NumberTarget]) -> None:
        def names(targets: Sequence[NumberTarget]) -> list[str]:
            return [f"{target.name}{' (log)' * target.log}" for target in targets]

        refuse_other_numbers(names(self.numbers), names(found))

    def _checked(self, targets: Tensor) -> Tensor:
        count = len(self.require_numbers())
        wanted = (len(targets),) if count == 1 else (len(targets), count)
        if count == 1 and targets.shape == (len(targets), 1):
            return targets[:, 0]
        if targets.shape != wanted:
            raise ConfigurationError(
                f"Targets must be {count} {'number' if count == 1 else 'numbers'} per image, of"
                f" shape {wanted}, but have shape {tuple(targets.shape)}."
            )
        return targets


def _build_loss(
    spec: str | Mapping[str, Any] | nn.Module,
) -> Callable[[Tensor, Tensor], Tensor]:
    if isinstance(spec, str) and spec in _LOSSES:
        return _LOSSES[spec]
    if isinstance(spec, Mapping):
        hint = "{'class_path': 'torch.nn.SmoothL1Loss'}"
        cls, path, init_args = load_class(spec, "torch.nn.Module", "loss", hint)
        try:
            return cast(nn.Module, cls(**init_args))
        except TypeError as error:
            raise ConfigurationError(
                f"`loss`: `{path}` does not take {init_args}: {error}."
            ) from error
    if isinstance(spec, nn.Module):
        return spec
    raise ConfigurationError(
        f"`loss` must be one of {', '.join(map(repr, _LOSSES))}, a module, or"
        f" `{{'class_path': ...}}` of one, got {spec!r}."
    )


def _default_metrics(targets: Sequence[NumberTarget]) -> dict[str, MetricSpec]:
    """Return error and explained variance of each number, those of several by its name."""
    if len(targets) == 1:
        centre = targets[0].centre
        return {name: NumberMetric(name, None, centre) for name in get_args(Measure)}
    names = plain_names(target.name for target in targets)
    return {
        f"{measure}_{name}": NumberMetric(measure, place, target.centre)
        for place, (name, target) in enumerate(zip(names, targets, strict=True))
        for measure in get_args(Measure)
    }
