"""The plain prediction of a batch and the mean of its views, for any module."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError, rank_zero_info
from lightning_fastrecipes.callbacks.engine.state_keeping import preserved_state
from lightning_fastrecipes.callbacks.engine.stepping import call_step
from lightning_fastrecipes.callbacks.engine.view_metrics import batch_images
from lightning_fastrecipes.callbacks.engine.view_outputs import (
    OutputRule,
    Outputs,
    Part,
    read_outputs,
    rule_of_protocol,
)
from lightning_fastrecipes.functional.images.batches import by_name, targets_of
from lightning_fastrecipes.functional.images.views import Views, mean_of_views
from lightning_fastrecipes.functional.labels.merging import weight_losses
from lightning_fastrecipes.functional.labels.output_losses import PredictionKind
from lightning_fastrecipes.messages import name_some
from lightning_fastrecipes.protocols import HasInputSpec, HasProbabilities, InputSpec


class ViewPredictor:
    """Predict batches and their views, by what the first batch shows the outputs to be.

    ``outputs`` and ``part`` are the arguments of ``TestTimeAugmentation``.
    """

    def __init__(self, outputs: Outputs | None, part: Part) -> None:
        self.outputs = outputs
        self.part = part
        self._rule: OutputRule | None = None

    def clear(self) -> None:
        """Forget an earlier run through the data."""
        self._rule = None

    def rule(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        batch: Any,
        *,
        given: Any = None,
    ) -> OutputRule:
        """Decide on the first batch what outputs are, before anything is merged.

        ``given`` is what ``predict_step`` has returned for the batch or, of a module with
        ``probabilities``, those that another step has. A ``SetupError`` if it cannot be known.
        """
        if self._rule is None:
            images = batch_images(batch)
            if isinstance(module, HasProbabilities):
                output = None if isinstance(given, Tensor) else self._first(trainer, module, images)
                self._rule = rule_of_protocol(module, output, images, given, self.part)
            else:
                self._rule = read_outputs(
                    module,
                    self._first(trainer, module, images),
                    images,
                    returned=given if trainer.predicting else _returned(trainer, module, batch),
                    must_match=trainer.predicting,
                    targets=targets_of(batch),
                    asked=self.outputs,
                    part=self.part,
                )
            if trainer.predicting:
                _say_what_stays(given, self._rule.slot)
        return self._rule

    def predict(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        views: Views,
        images: Tensor,
        *,
        plain: Tensor | None,
        loaded: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the plain predictions, and the mean of those of the views."""
        rule = cast(OutputRule, self._rule)

        def predict(photos: Tensor) -> Tensor:
            return rule.predictions(module, self._forward(trainer, module, photos))

        plain = predict(images) if plain is None else plain[: len(images)]
        plain = plain if plain.dtype == torch.float64 else plain.float()
        if not len(images):
            return plain, plain
        spec = _input_spec(trainer, module)
        loaded = None if loaded is None else loaded[: len(images)]
        try:
            mean = mean_of_views(views, predict, images, spec, loaded, turn_back=rule.is_map)
        except ValueError as error:
            raise SetupError(f"`TestTimeAugmentation`: {error}") from error
        return plain, mean

    def _first(self, trainer: pl.Trainer, module: pl.LightningModule, images: Tensor) -> Any:
        """Return the first outputs, or refuse a module whose ``forward`` takes no images."""
        try:
            return self._forward(trainer, module, images)
        except torch.cuda.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise SetupError(
                f"`TestTimeAugmentation` calls `forward` of `{type(module).__name__}` with the"
                f" images of a batch, {tuple(images.shape)}, but it fails: {error}. Drop this"
                " callback, or let `forward` take images."
            ) from error

    def _forward(self, trainer: pl.Trainer, module: pl.LightningModule, images: Tensor) -> Any:
        with trainer.precision_plugin.forward_context():
            return module(images)


def losses_by_weight(
    plain: Tensor,
    views: Tensor,
    targets: Tensor,
    kind: PredictionKind,
    total_loss: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the losses to learn the weight from, or refuse predictions without a log loss."""
    if total_loss is not None:
        return weight_losses(plain, views, targets, total_loss=total_loss)
    if plain.ndim > 2 or kind not in ("classes", "yes_no"):
        raise SetupError(
            "`plain_weight='learn'` needs probabilities of classes or labels, but the outputs are"
            f" numbers or maps of shape {tuple(plain.shape)}. Give a number, or leave it out."
        )
    multi_label = kind == "yes_no"
    if multi_label:
        plain, views = (one.reshape(len(one), -1) for one in (plain, views))
        targets = targets.reshape(plain.shape)
    return weight_losses(plain, views, targets, multi_label=multi_label)


def _say_what_stays(returned: Any, slot: Part) -> None:
    """Inform that merged predictions leave the other tensors of ``predict_step`` as they are."""
    if slot is None:
        return
    named = by_name(returned)
    parts = named.items() if isinstance(named, Mapping) else enumerate(named)
    others = [str(name) for name, one in parts if isinstance(one, Tensor) and name != slot]
    if others:
        rank_zero_info(
            f"TestTimeAugmentation: merged predictions replace '{slot}' of what `predict_step`"
            f" returns. Those of the plain images stay in {name_some(others)}."
        )


def _returned(trainer: pl.Trainer, module: pl.LightningModule, batch: Any) -> Any:
    """Return what ``predict_step`` returns for a batch of a validation, or ``None``.

    Of the batch, or of its images alone where it takes no other. Nothing else changes.
    """
    if type(module).predict_step is pl.LightningModule.predict_step:
        return None
    for one in (batch, batch_images(batch)):
        with preserved_state(trainer, module):
            try:
                return call_step(trainer, "predict_step", one, 0)
            except Exception:  # a step of strangers, which need not take it
                continue
    return None


def _input_spec(trainer: pl.Trainer, module: pl.LightningModule) -> InputSpec | None:
    """Return how float images were normalised, if the module or the data say so."""
    if isinstance(module, HasInputSpec):
        return module.input_spec
    datamodule = pl.datamodule_of(trainer)
    if isinstance(datamodule, HasInputSpec):
        return datamodule.input_spec or InputSpec()
    return None
