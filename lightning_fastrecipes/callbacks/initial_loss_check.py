"""Look at the first batch before any training: is the loss what an untrained model must have?"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import MisconfigurationException, rank_zero_info
from lightning_fastrecipes.callbacks.engine.state_keeping import preserved_state
from lightning_fastrecipes.callbacks.engine.stepping import (
    call_step,
    loss_of,
    mean_over_processes,
)
from lightning_fastrecipes.callbacks.engine.sweeping import reference_lrs
from lightning_fastrecipes.functional.training.initial_loss import (
    expected_initial_loss,
    label_problem,
    pixel_problem,
)
from lightning_fastrecipes.protocols import HasInputSpec

NUM_STEPS = 10
"""Steps on one batch after which regularisation must show."""

_STRONG_DECAY = 0.5


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Args:
        check: Name of the check.
        passed: Whether all is well; ``None`` if the check does not apply.
        message: What was found, and what to do if it is wrong.
    """

    check: str
    passed: bool | None
    message: str


class InitialLossCheck(pl.Callback):
    """Check a model and its data on one batch before the first training step.

    - ``labels``: every label is a class that the model knows.
    - ``pixels``: images are normalised as the weights expect.
    - ``loss``: the loss of an untrained head is near ``log(num_classes)``, or ``log(2)`` where
      several labels may hold at once; of a trained head it is not far above.
    - ``gradients``: every trained parameter group gets a gradient.
    - ``regularisation``: with the weight decay turned up, the loss after a few steps on the batch
      is higher than without.

    Everything that the checks touch is put back: weights, optimizer, random numbers, modes.
    Skipped when a fit resumes from a checkpoint.

    Args:
        num_classes: Number of classes; ``num_classes`` of the module if ``None``, and if it has
            none, ``labels`` and ``loss`` are left out.
        multi_label: Whether several labels may hold at once; as ``label_kind`` of the module says
            if ``None``.
        untrained_head: Whether the head is new, so that too low a loss is suspicious as well.
        tolerance: How far from the expected loss is far, as a share of it, above 0.
        on_failure: ``warn``, or ``raise``.

    Attributes:
        findings: What the last fit's checks found.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> InitialLossCheck(num_classes=10).findings
        []

    References:
        Stanford CS231n, *Neural Networks Part 3*, "sanity checks"; Karpathy, *A Recipe for
        Training Neural Networks* (2019).
    """

    def __init__(
        self,
        num_classes: int | None = None,
        multi_label: bool | None = None,
        untrained_head: bool = True,
        tolerance: float = 0.5,
        on_failure: Literal["warn", "raise"] = "warn",
    ) -> None:
        if num_classes is not None and num_classes < 1:
            raise ValueError(f"`num_classes` must be at least 1, got {num_classes}.")
        if not tolerance > 0:
            raise ValueError(f"`tolerance` must be above 0, got {tolerance}.")
        if on_failure not in ("warn", "raise"):
            raise ValueError(f"`on_failure` must be 'warn' or 'raise', got {on_failure!r}.")
        self.num_classes = num_classes
        self.multi_label = multi_label
        self.untrained_head = untrained_head
        self.tolerance = tolerance
        self.on_failure = on_failure
        self.findings: list[Finding] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Check on the first batch of the first epoch, once all other hooks have prepared it."""
        # Lightning's stub has no `fast_dev_run`.
        is_rehearsal = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
        if trainer.global_step or batch_idx or trainer.ckpt_path is not None or is_rehearsal:
            return
        with preserved_state(trainer, pl_module):
            torch.manual_seed(trainer.global_rank)
            self.findings = self._check(trainer, pl_module, batch)
        failed = [finding for finding in self.findings if finding.passed is False]
        text = " ".join(f"[{finding.check}] {finding.message}" for finding in failed)
        # A batch may be wrong in one process alone; the others must not wait for it for ever.
        any_failed = trainer.strategy.reduce_boolean_decision(bool(failed), all=False)
        if any_failed and self.on_failure == "raise":
            text = text or "another process found something wrong; see its message."
            raise MisconfigurationException(f"`InitialLossCheck` failed: {text}")
        if failed:
            # By every process that finds something: it may be one batch alone.
            warnings.warn(f"`InitialLossCheck`: {text}", stacklevel=2)
        elif not any_failed:
            checks = [finding.check for finding in self.findings if finding.passed]
            rank_zero_info(f"InitialLossCheck: fine ({', '.join(checks)})")

    def _check(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any
    ) -> list[Finding]:
        num_classes = self.num_classes or getattr(pl_module, "num_classes", None)
        is_multi_label = self.multi_label
        if is_multi_label is None:
            is_multi_label = getattr(pl_module, "label_kind", None) == "multi"
        findings = [
            self._labels(batch, num_classes, is_multi_label),
            self._pixels(batch, pl_module),
        ]
        # A wrong label ends the loss with an error of its own, on a card with one that stays.
        if trainer.strategy.reduce_boolean_decision(findings[0].passed is False, all=False):
            return findings
        findings.append(self._loss(trainer, batch, num_classes, is_multi_label))
        manual = not pl_module.automatic_optimization or len(trainer.optimizers) != 1
        if manual:
            why = "needs one optimizer that Lightning steps by itself"
            return [*findings, *(Finding(n, None, why) for n in ("gradients", "regularisation"))]
        return [*findings, self._gradients(trainer, batch), self._regularisation(trainer, batch)]

    def _labels(self, batch: Any, num_classes: int | None, is_multi_label: bool) -> Finding:
        targets = _second(batch)
        if targets is None or num_classes is None:
            return Finding("labels", None, "needs batches of inputs and targets, and num_classes")
        problem = label_problem(targets, num_classes, multi_label=is_multi_label)
        return Finding("labels", problem is None, problem or "all labels are known classes")

    def _pixels(self, batch: Any, pl_module: pl.LightningModule) -> Finding:
        inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
        if not isinstance(inputs, Tensor) or inputs.ndim != 4:
            return Finding("pixels", None, "needs batches of images")
        if inputs.dtype == torch.uint8:
            if not isinstance(pl_module, HasInputSpec):
                return Finding("pixels", None, "the module does not say how it normalises bytes")
            inputs = pl_module.input_spec.normalised(inputs)
        problem = pixel_problem(inputs)
        return Finding("pixels", problem is None, problem or "the images are normalised")

    def _loss(
        self, trainer: pl.Trainer, batch: Any, num_classes: int | None, is_multi_label: bool
    ) -> Finding:
        if num_classes is None:
            return Finding("loss", None, "needs num_classes")
        with torch.no_grad():
            loss = mean_over_processes(trainer, _step_loss(trainer, batch))
        rules = getattr(trainer.lightning_module, "rules", None)
        expected = expected_initial_loss(
            num_classes,
            multi_label=is_multi_label,
            targets=_second(batch),
            pos_weight=getattr(rules, "pos_weight", None),
        )
        found = f"the loss at the start is {loss:.3g}, of even probabilities {expected:.3g}"
        too_high = not loss <= expected * (1 + self.tolerance)
        too_low = self.untrained_head and loss < expected * (1 - self.tolerance)
        if too_high:
            advice = " Check labels, normalisation, and how the last layer starts."
        elif too_low:
            advice = " Check that targets do not leak into the inputs, and `num_classes`."
        else:
            advice = ""
        return Finding("loss", not (too_high or too_low), f"{found}.{advice}")

    def _gradients(self, trainer: pl.Trainer, batch: Any) -> Finding:
        optimizer = trainer.optimizers[0]
        optimizer.zero_grad()
        trainer.strategy.backward(_step_loss(trainer, batch), optimizer)
        missing = []
        for index, group in enumerate(optimizer.param_groups):
            trained = [p for p in group["params"] if p.requires_grad]
            reached = [p for p in trained if p.grad is not None and bool(p.grad.any())]
            if trained and not reached:
                missing.append(str(group.get("name", f"group {index}")))
        if missing:
            return Finding(
                "gradients",
                False,
                f"no gradient reaches {', '.join(missing)}. Check that the forward pass uses these"
                " layers, and that nothing detaches their output.",
            )
        return Finding("gradients", True, "every trained group gets a gradient")

    def _regularisation(self, trainer: pl.Trainer, batch: Any) -> Finding:
        groups = trainer.optimizers[0].param_groups
        decayed = [group for group in groups if group.get("weight_decay")]
        if not decayed:
            return Finding("regularisation", None, "the optimizer has no weight decay")
        plain = self._loss_after_steps(trainer, batch, lambda group: 0.0)
        strong = self._loss_after_steps(
            trainer, batch, lambda group: _STRONG_DECAY / group["lr"] if group["lr"] else 0.0
        )
        found = f"{NUM_STEPS} steps on one batch end at {plain:.3g}, with strong decay at"
        if strong > plain:
            return Finding("regularisation", True, f"{found} {strong:.3g}")
        return Finding(
            "regularisation",
            False,
            f"{found} {strong:.3g}, although decay should hold the loss up. Check that the rate is"
            " high enough to learn, and that the optimizer decays the layers that it trains.",
        )

    def _loss_after_steps(
        self, trainer: pl.Trainer, batch: Any, decay: Callable[[dict[str, Any]], float]
    ) -> float:
        module, optimizer = trainer.lightning_module, trainer.optimizers[0]
        with preserved_state(trainer, module):
            torch.manual_seed(trainer.global_rank)
            # A warm-up may stand at a rate of 0 now.
            for group, lr in zip(optimizer.param_groups, reference_lrs(trainer), strict=True):
                group["lr"] = lr
                if group.get("weight_decay"):
                    group["weight_decay"] = decay(group)
            losses: list[Tensor] = []

            def closure() -> Tensor:
                optimizer.zero_grad()
                loss = _step_loss(trainer, batch)
                losses.append(loss.detach())
                trainer.strategy.backward(loss, optimizer)
                return loss

            for _ in range(NUM_STEPS):
                trainer.strategy.optimizer_step(optimizer, closure, model=module)
            return mean_over_processes(trainer, losses[-1].float())


def _step_loss(trainer: pl.Trainer, batch: Any) -> Tensor:
    loss = loss_of(call_step(trainer, "training_step", batch, 0))
    if loss is None:
        raise MisconfigurationException(
            "`training_step` must give a loss for `InitialLossCheck`, but gave none. Return a"
            " tensor, or a mapping with the key `loss`."
        )
    return loss


def _second(batch: Any) -> Tensor | None:
    is_pair = isinstance(batch, Sequence) and len(batch) > 1
    return batch[1] if is_pair and isinstance(batch[1], Tensor) else None
