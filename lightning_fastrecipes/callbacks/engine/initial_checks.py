"""Checks of a model and its data on one batch; call them within ``preserved_state``."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, cast

import torch
from torch import Tensor

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.callbacks.engine.state_keeping import preserved_state
from lightning_fastrecipes.callbacks.engine.stepping import (
    call_step,
    mean_over_processes,
    step_loss,
    take_step,
    training_loss,
)
from lightning_fastrecipes.callbacks.engine.sweeping import reference_lrs
from lightning_fastrecipes.functional.images.batches import images_of, targets_of
from lightning_fastrecipes.functional.training.initial_loss import (
    expected_initial_loss,
    label_problem,
    normalisation_problem,
    pixel_problem,
)
from lightning_fastrecipes.nn.label_rules import LabelRules
from lightning_fastrecipes.protocols import HasInitialLoss, HasInputSpec

NUM_STEPS = 10
"""Steps on one batch after which regularisation must show."""

NO_LOSS = "`training_step` returns no loss for this batch"
_STRONG_DECAY = 0.5
_NO_NUMBER = "targets must be finite numbers, but some are not. Leave such samples out."


@dataclass(frozen=True)
class CheckResult:
    """What one check found, and in its message what to do if it is wrong.

    ``passed`` is ``None`` if the check does not apply.
    """

    check: str
    passed: bool | None
    message: str


def check_labels(
    batch: Any, num_classes: int | None, *, multi_label: bool, is_number: bool = False
) -> CheckResult:
    """Check that every label is a class that the model knows, or a finite number."""
    targets = targets_of(batch)
    if is_number and targets is not None:
        problem = None if bool(targets.isfinite().all()) else _NO_NUMBER
        return CheckResult("labels", problem is None, problem or "all targets are finite numbers")
    if targets is None or num_classes is None:
        return CheckResult("labels", None, "needs batches of inputs and targets, and num_classes")
    problem = label_problem(targets, num_classes, multi_label=multi_label)
    return CheckResult("labels", problem is None, problem or "all labels are known classes")


def check_pixels(batch: Any, module: pl.LightningModule) -> CheckResult:
    """Check that images are normalised as the weights expect."""
    try:
        inputs = images_of(batch)
    except ValueError:
        return CheckResult("pixels", None, "needs batches of images")
    spec = module.input_spec if isinstance(module, HasInputSpec) else None
    problem = None
    if inputs.dtype == torch.uint8:
        if spec is None:
            return CheckResult("pixels", None, "the module does not say how it normalises bytes")
        inputs = spec.normalised(inputs)
    elif spec is not None:
        problem = normalisation_problem(inputs, spec)
    problem = problem or pixel_problem(inputs)
    if problem is None and spec is None and 0 <= float(inputs.min()) <= float(inputs.max()) <= 1:
        why = "they lie in 0 to 1, and the module has no `input_spec` to say what its weights want"
        return CheckResult("pixels", None, why)
    return CheckResult("pixels", problem is None, problem or "the images are normalised")


def check_loss(
    trainer: pl.Trainer,
    batch: Any,
    num_classes: int | None,
    *,
    multi_label: bool,
    untrained_head: bool,
    tolerance: float,
) -> CheckResult:
    """Check that the loss is near that of even probabilities, or of the mean for all."""
    module, targets = trainer.lightning_module, targets_of(batch)
    of_mean = None
    if isinstance(module, HasInitialLoss) and targets is not None:
        of_mean = mean_over_processes(trainer, module.initial_loss(targets))
    if num_classes is None and of_mean is None:
        return CheckResult("loss", None, "needs num_classes")
    # A step that optimizes by itself needs gradients.
    with torch.set_grad_enabled(not trainer.lightning_module.automatic_optimization):
        first = step_loss(call_step(trainer, "training_step", batch, 0))
    if trainer.strategy.reduce_boolean_decision(first is None, all=False):
        return CheckResult("loss", None, NO_LOSS)
    loss = mean_over_processes(trainer, cast(Tensor, first))
    rules, of = getattr(module, "rules", None), "of even probabilities"
    weights = batch[2:3] if isinstance(batch, Sequence) else ()
    is_plain = not isinstance(rules, LabelRules) or (rules.has_plain_loss and not weights)
    if of_mean is not None:
        counted = mean_over_processes(trainer, weights[0].mean()) if weights else 1.0
        expected, of = of_mean * counted, "of the mean for all"
    elif isinstance(rules, LabelRules) and not is_plain and targets is not None:
        # That of a loss with options, of another one, or of rows that count differently.
        even = torch.zeros(len(targets), num_classes or 1, device=targets.device)
        loss_of = rules.weighted_loss if weights else rules.loss
        expected = mean_over_processes(trainer, loss_of(even, targets, *weights))
        if not 0 < expected < math.inf:
            return CheckResult("loss", None, "not checked: even probabilities have a loss of 0")
    else:
        expected = expected_initial_loss(
            num_classes or 1,
            multi_label=multi_label,
            targets=targets,
            pos_weight=getattr(rules, "pos_weight", None),
        )
    # Targets of a small batch may all be near the mean, so that its loss is next to nothing.
    scale = expected if of_mean is None else max(expected, 1.0)
    too_high = not loss <= expected + tolerance * scale
    too_low = untrained_head and loss < expected * (1 - tolerance)
    advice = ""
    if too_high:
        advice = " Check labels, normalisation, and how the last layer starts."
    elif too_low:
        advice = " Check that targets do not leak into the inputs"
        advice += ", and `num_classes`." if of_mean is None else "."
    found = f"the loss at the start is {loss:.3g}, {of} {expected:.3g}"
    return CheckResult("loss", not (too_high or too_low), f"{found}.{advice}")


def check_gradients(trainer: pl.Trainer, batch: Any) -> CheckResult:
    """Check that every trained parameter group gets a gradient."""
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
        message = (
            f"no gradient reaches {', '.join(missing)}. Check that the forward pass uses these"
            " layers, and that nothing detaches their output."
        )
        return CheckResult("gradients", False, message)
    return CheckResult("gradients", True, "every trained group gets a gradient")


def check_regularisation(trainer: pl.Trainer, batch: Any) -> CheckResult:
    """Check that a strong weight decay holds the loss up."""
    groups = trainer.optimizers[0].param_groups
    if not any(group.get("weight_decay") for group in groups):
        return CheckResult("regularisation", None, "the optimizer has no weight decay")
    plain = _loss_after_steps(trainer, batch, lambda group: 0.0)
    strong = _loss_after_steps(
        trainer, batch, lambda group: _STRONG_DECAY / group["lr"] if group["lr"] else 0.0
    )
    found = f"{NUM_STEPS} steps on one batch end at {plain:.3g}, with strong decay at {strong:.3g}"
    if strong > plain:
        return CheckResult("regularisation", True, found)
    message = (
        f"{found}, although decay should hold the loss up. Check that the rate is high enough to"
        " learn, and that the optimizer decays the layers that it trains."
    )
    return CheckResult("regularisation", False, message)


def _loss_after_steps(
    trainer: pl.Trainer, batch: Any, decay: Callable[[dict[str, Any]], float]
) -> float:
    with preserved_state(trainer, trainer.lightning_module):
        torch.manual_seed(trainer.global_rank)
        # A warm-up may stand at a rate of 0 now.
        for group, lr in zip(
            trainer.optimizers[0].param_groups, reference_lrs(trainer), strict=True
        ):
            group["lr"] = lr
            if group.get("weight_decay"):
                group["weight_decay"] = decay(group)
        for _ in range(NUM_STEPS):
            loss, _ = take_step(trainer, repeat(batch))
        return mean_over_processes(trainer, loss)


def _step_loss(trainer: pl.Trainer, batch: Any) -> Tensor:
    return training_loss(call_step(trainer, "training_step", batch, 0))
