"""Look at the first batch before any training: is the loss what an untrained model must have?"""

import warnings
from typing import Any, Literal

import torch

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError, rank_zero_info
from lightning_fastrecipes.callbacks.engine.initial_checks import (
    NO_LOSS,
    CheckResult,
    check_gradients,
    check_labels,
    check_loss,
    check_pixels,
    check_regularisation,
)
from lightning_fastrecipes.callbacks.engine.state_keeping import preserved_state
from lightning_fastrecipes.errors import ConfigurationError, check_at_least, check_choice
from lightning_fastrecipes.protocols import HasInitialLoss


class InitialLossCheck(pl.OwnCallback):
    """Check a model and its data on one batch before the first training step.

    - ``labels``: every label is a class that the model knows, or a finite number.
    - ``pixels``: images are normalised as the weights expect; of floats, by the range that the
      ``input_spec`` of the module makes of pixels.
    - ``loss``: the loss of an untrained head is near ``log(num_classes)``, or ``log(2)`` where
      several labels may hold at once, or of numbers near that of their mean for all; of a trained
      head it is not far above.
    - ``gradients``: every trained parameter group gets a gradient.
    - ``regularisation``: with the weight decay turned up, the loss after a few steps on the batch
      is higher than without.

    Everything that the checks touch is put back: weights, optimizer, random numbers, modes.
    What was not checked is said, with the reason. Batches are lists or tuples of inputs and
    targets, or dictionaries with ``target``, ``label``, ``mask`` or ``y``. Skipped when a fit
    resumes from a checkpoint.

    Args:
        num_classes: Number of classes; ``num_classes`` of the module if ``None``, and if it has
            none, ``labels`` and ``loss`` are left out.
        multi_label: Whether several labels may hold at once; as ``label_kind`` of the module says
            if ``None``.
        untrained_head: Whether the head is new, so that too low a loss is suspicious as well.
        tolerance: How far from the expected loss is far, as a share of it, above 0.
        on_failure: ``warn``, or ``raise``.

    Attributes:
        results: What the last fit's checks found.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> InitialLossCheck(num_classes=10).results
        []

    References:
        Stanford CS231n, *Neural Networks Part 3*, "sanity checks"; Karpathy, *A Recipe for
        Training Neural Networks* (2019).
    """

    def __init__(
        self,
        num_classes: int | None = None,
        *,
        multi_label: bool | None = None,
        untrained_head: bool = True,
        tolerance: float = 0.5,
        on_failure: Literal["warn", "raise"] = "warn",
    ) -> None:
        if num_classes is not None:
            check_at_least("num_classes", num_classes, 1)
        if not tolerance > 0:
            raise ConfigurationError(f"`tolerance` must be above 0, got {tolerance}.")
        check_choice("on_failure", on_failure, ("warn", "raise"))
        self.num_classes = num_classes
        self.multi_label = multi_label
        self.untrained_head = untrained_head
        self.tolerance = tolerance
        self.on_failure = on_failure
        self.results: list[CheckResult] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Check on the first batch of the first epoch, once all other hooks have prepared it."""
        is_begun = trainer.global_step or batch_idx or trainer.ckpt_path is not None
        if is_begun or pl.is_fast_dev_run(trainer):
            return
        with preserved_state(trainer, pl_module):
            torch.manual_seed(trainer.global_rank)
            self.results = self._check(trainer, pl_module, batch)
        failed = [result for result in self.results if result.passed is False]
        text = " ".join(f"[{result.check}] {result.message}" for result in failed)
        # A batch may be wrong in one process alone; the others must not wait for it for ever.
        any_failed = trainer.strategy.reduce_boolean_decision(bool(failed), all=False)
        if any_failed and self.on_failure == "raise":
            text = text or "another process found something wrong; see its message."
            raise SetupError(f"`InitialLossCheck` failed: {text}")
        if failed:
            # By every process that finds something: it may be one batch alone.
            warnings.warn(f"`InitialLossCheck`: {text}", stacklevel=2)
        elif not any_failed:
            rank_zero_info(f"InitialLossCheck: {_summary(self.results)}")

    def _check(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any
    ) -> list[CheckResult]:
        num_classes = self.num_classes or getattr(pl_module, "num_classes", None)
        multi_label = self.multi_label
        if multi_label is None:
            multi_label = getattr(pl_module, "label_kind", None) == "multi"
        is_number = isinstance(pl_module, HasInitialLoss)
        labels = check_labels(batch, num_classes, multi_label=multi_label, is_number=is_number)
        results = [labels, check_pixels(batch, pl_module)]
        # A wrong label ends the loss with an error of its own; on a GPU no later step would work.
        if trainer.strategy.reduce_boolean_decision(labels.passed is False, all=False):
            return results
        loss = check_loss(
            trainer,
            batch,
            num_classes,
            multi_label=multi_label,
            untrained_head=self.untrained_head,
            tolerance=self.tolerance,
        )
        results.append(loss)
        why = "needs one optimizer that Lightning steps by itself"
        if pl_module.automatic_optimization and loss.message == NO_LOSS:
            why = NO_LOSS
        if (
            not pl_module.automatic_optimization
            or len(trainer.optimizers) != 1
            or loss.message == NO_LOSS
        ):
            return [*results, *(CheckResult(n, None, why) for n in ("gradients", "regularisation"))]
        return [*results, check_gradients(trainer, batch), check_regularisation(trainer, batch)]


def _summary(results: list[CheckResult]) -> str:
    """Describe what was checked, and what was not and why."""
    checked = ", ".join(result.check for result in results if result.passed)
    left = "; ".join(f"{one.check}: {one.message}" for one in results if one.passed is None)
    if not checked:
        return f"nothing was checked ({left})"
    return f"fine ({checked})" + (f"; not checked ({left})" if left else "")
