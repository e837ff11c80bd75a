"""How a task is optimised: the optimizer, its learning rates and its weight decay."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from lightning_fastrecipes import plain
from lightning_fastrecipes.errors import ConfigurationError, check_at_least
from lightning_fastrecipes.functional.training.group_rates import (
    Rates,
    plain_rates,
    resolve_group_lrs,
)
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.tasks.building import load_class
from lightning_fastrecipes.typed import from_mapping

_ELEMENTWISE = ("AdamW", "Adam", "SGD", "RMSprop", "NAdam", "RAdam", "Adamax", "Adagrad")


@dataclass(frozen=True)
class Optim:
    """The optimizer of a task, with discriminative learning rates.

    Args:
        lr: Learning rate of the head, above 0; or an array, ``[..., head]``: as many rates as
            trained layer groups, from the input side, else the last is the head's and the others
            are spread evenly over the remaining groups; or a range, ``(low, high)`` or in YAML
            ``{low: 1e-5, high: 1e-3}``, spread over them by equal factors. See
            ``functional.training.group_rates.resolve_group_lrs``.
        lr_ratio: With one rate, how many times smaller the rate of each earlier group is, at
            least 1.
        weight_decay: Weight decay of matrices and kernels, at least 0; norms and biases get none.
        optimizer: Class path, or ``{"class_path": ..., "init_args": {...}}``.

    Raises:
        ValueError: If a number is out of its range, or several rates come with an ``lr_ratio``.

    Example:
        >>> Optim(lr=1e-3, optimizer="torch.optim.SGD").weight_decay
        0.01
    """

    lr: Rates = 1e-3
    lr_ratio: float = 1.0
    weight_decay: float = 1e-2
    optimizer: str | Mapping[str, Any] = "torch.optim.AdamW"

    def __post_init__(self) -> None:
        check_at_least("weight_decay", self.weight_decay, 0)
        object.__setattr__(self, "lr", plain_rates(self.lr))
        # What no number of layer groups makes right is refused here, not when a fit begins.
        resolve_group_lrs(self.lr, self.lr_ratio, num_groups=1, num_frozen=0)


def as_optim(
    optim: Optim | Mapping[str, Any] | None, lr: Rates | None, lr_ratio: float | None
) -> Optim:
    """Return the options of a task; ``lr`` and ``lr_ratio`` replace those of ``optim``."""
    chosen = optim if isinstance(optim, Optim) else from_mapping(Optim, optim or {}, "optim")
    given: dict[str, Any] = {"lr": lr, "lr_ratio": lr_ratio}
    return replace(chosen, **{name: value for name, value in given.items() if value is not None})


def build_optimizer(
    spec: str | Mapping[str, Any], groups: Sequence[dict[str, Any]]
) -> torch.optim.Optimizer:
    """Build an optimizer over named parameter groups with rates and weight decay of their own.

    Raises ConfigurationError if the class is no optimizer, or cannot take these groups.
    """
    cls, path, init_args = load_class(
        spec, "torch.optim.Optimizer", "optimizer", "'torch.optim.AdamW'"
    )
    clash = sorted({"lr", "weight_decay", "params"} & set(init_args))
    if clash:
        raise ConfigurationError(
            f"`optimizer.init_args` must not hold {clash}: the layer groups carry their own rates"
            " and decay. Use the arguments `lr`, `lr_ratio` and `weight_decay` of the model."
        )
    takes_decay = "weight_decay" in inspect.signature(cls).parameters
    kept = [
        {k: v for k, v in group.items() if takes_decay or k != "weight_decay"} for group in groups
    ]
    try:
        optimizer: torch.optim.Optimizer = cls(kept, **init_args)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"`{path}` cannot train these layer groups: {error}. Choose an optimizer that takes"
            " several parameter groups, or mend `optimizer.init_args`."
        ) from error
    if isinstance(optimizer, torch.optim.SparseAdam):
        raise ConfigurationError(
            "`torch.optim.SparseAdam` needs sparse gradients, which no layer here gives."
            " Use 'torch.optim.AdamW'."
        )
    _fuse_on_cpu(optimizer)
    return optimizer


def check_optimizer_state(saved: Any, optimizer: torch.optim.Optimizer) -> None:
    """Raise a ConfigurationError if a saved state is not of an optimizer's parameters.

    torch loads states of other shapes, and fails in the first step.
    """
    groups = [group["params"] for group in optimizer.param_groups]
    plain.keys(
        {
            "state": _states,
            "param_groups": plain.items(
                plain.keys({"params": plain.items(plain.whole(0))}), len(groups), len(groups)
            ),
        }
    )(saved, "optimizer_states")
    sizes = [len(group["params"]) for group in saved["param_groups"]]
    if sizes != [len(group) for group in groups]:
        raise ConfigurationError(
            f"the optimizer must have groups of {[len(group) for group in groups]} parameters, but"
            f" its saved state has groups of {sizes}"
        )
    # Others, such as Adafactor, keep sums of rows and columns.
    is_elementwise = type(optimizer).__name__ in _ELEMENTWISE
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    shapes = dict(zip(numbers, (p.shape for group in groups for p in group), strict=True))
    for number, state in saved["state"].items():
        for name, value in state.items():
            is_single = not isinstance(value, torch.Tensor) or value.numel() == 1
            if is_elementwise and not is_single and value.shape != shapes.get(number):
                raise ConfigurationError(
                    f"`{name}` of the optimizer must have the shape of its parameter,"
                    f" {tuple(shapes.get(number, ()))}, but has {tuple(value.shape)}"
                )


def _states(value: Any, key: str) -> None:
    fits = isinstance(value, Mapping) and all(isinstance(one, Mapping) for one in value.values())
    if not fits:
        raise ConfigurationError(f"`{key}` must be a mapping of mappings, but is {shown(value)}.")


def _fuse_on_cpu(optimizer: torch.optim.Optimizer) -> None:
    """Let torch's own optimizers update parameters on the CPU in one pass, 5 times as fast.

    The argument ``fused`` of the constructor would also promise to undo the scale of mixed
    precision, and Lightning then refuses to clip gradients.
    """
    if not type(optimizer).__module__.startswith("torch.optim."):
        return
    for group in optimizer.param_groups:
        chooses = group.get("differentiable") or group.get("foreach") is not None
        fits = all(p.device.type == "cpu" and p.is_floating_point() for p in group["params"])
        if "fused" in group and group["fused"] is None and fits and not chooses:
            group["fused"] = True
