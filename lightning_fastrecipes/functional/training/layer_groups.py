"""Layer groups: freezing them, and two optimizer groups for each."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_fastrecipes.functional.training.group_rates import check_number
from lightning_fastrecipes.protocols import LayerGroup

NormPolicy = Literal["eval", "eval_if_frozen", "calibrated", "stats_if_frozen", "train"]
"""How batch norm behaves while training.

``eval``: every batch norm of the backbone uses its stored statistics, trained or not (fast.ai 0.7's
``bn_freeze``). ``eval_if_frozen``: only those in frozen groups do. ``calibrated``: the same, and
before the first step of a fit the others store the statistics of the training data, with weights
that keep what the model computes; they are measured anew after each epoch. ``stats_if_frozen``:
those in frozen groups still update their statistics. ``train``: those in frozen groups train like
any other, weights included (fastai 2's ``train_bn``).
"""

_WRAPPED = "_orig_mod."  # what `torch.compile(module)` puts into the names of its parameters


def frozen_count(freeze_to: int, num_groups: int) -> int:
    """Count the leading groups that are frozen when ``freeze_to`` is the first trained one.

    A negative index counts from the head, so that -1 trains the last group alone; raises ValueError
    if there is no such group.

    >>> frozen_count(-1, num_groups=3), frozen_count(0, num_groups=3)
    (2, 0)
    """
    if not -num_groups <= freeze_to < num_groups:
        raise ValueError(
            f"`freeze_to` must be between {-num_groups} and {num_groups - 1} for {num_groups} layer"
            f" groups, got {freeze_to}. Use -1 to train the head alone, 0 to train everything."
        )
    return freeze_to % num_groups


def optimizer_groups(
    model_parameters: Mapping[str, nn.Parameter],
    groups: Sequence[LayerGroup],
    group_lrs: Sequence[float],
    weight_decay: float,
    no_decay: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Build the optimizer's parameter groups: two for each layer group, frozen or not.

    All are made at once and in fixed order, so that an optimizer's state fits whatever is frozen
    when training resumes. Vectors, biases and the names in ``no_decay``, such as position
    embeddings, get no weight decay. Groups without parameters are left out. Raises ValueError if
    the rates, one per layer group, do not fit, or if a group has an unknown name.

    >>> layer = torch.nn.Linear(2, 2)
    >>> group = LayerGroup("head", ("weight", "bias"))
    >>> built = optimizer_groups(dict(layer.named_parameters()), [group], [0.1], 0.01)
    >>> [(item["name"], item["weight_decay"]) for item in built]
    [('head/decay', 0.01), ('head/no_decay', 0.0)]
    """
    if len(group_lrs) != len(groups):
        raise ValueError(
            f"`group_lrs` must hold one rate for each of the {len(groups)} layer groups, got"
            f" {len(group_lrs)}. Use `resolve_group_lrs` to fill in the frozen ones."
        )
    check_number("weight_decay", weight_decay)
    if weight_decay < 0:
        raise ValueError(f"`weight_decay` must be at least 0, got {weight_decay}. Use 0 for none.")
    seen: set[int] = set()
    built: list[dict[str, Any]] = []
    for group, lr in zip(groups, group_lrs, strict=True):
        kinds: dict[str, list[nn.Parameter]] = {"decay": [], "no_decay": []}
        for name in group.parameters:
            parameter = _named(model_parameters, name, group.name)
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            spared = parameter.ndim <= 1 or name.endswith(".bias") or name in no_decay
            kinds["no_decay" if spared else "decay"].append(parameter)
        for kind, parameters in kinds.items():
            if parameters:
                decay = float(weight_decay) if kind == "decay" else 0.0
                name = f"{group.name}/{kind}"
                built.append({"params": parameters, "lr": lr, "weight_decay": decay, "name": name})
    return built


def audit_param_groups(
    named_parameters: Mapping[str, Tensor], param_groups: Iterable[Mapping[str, Any]]
) -> None:
    """Check that an optimizer holds every parameter of a model exactly once, and no other.

    Parameters are compared by identity: two biases full of zeros are two parameters, and one tensor
    under two names is one. A ValueError lists what is missing, held twice, or not of the model.

    >>> layer = torch.nn.Linear(2, 2)
    >>> audit_param_groups(dict(layer.named_parameters()), [{"params": [layer.weight]}])
    Traceback (most recent call last):
    ValueError: The optimizer must hold every parameter once. Missing: bias. ...
    """
    names: dict[int, str] = {}
    for name, parameter in named_parameters.items():
        names.setdefault(id(parameter), name)
    held: Counter[int] = Counter()
    foreign = []
    for position, group in enumerate(param_groups):
        for parameter in group["params"]:
            held[id(parameter)] += 1
            if id(parameter) not in names:
                where = group.get("name", f"group {position}")
                foreign.append(f"one of shape {tuple(parameter.shape)} in {where}")
    found = {
        "Missing": [name for key, name in names.items() if held[key] == 0],
        "Twice": [name for key, name in names.items() if held[key] > 1],
        "Not in the model": foreign,
    }
    faults = [f"{fault}: {_few(items)}." for fault, items in found.items() if items]
    if faults:
        raise ValueError(
            f"The optimizer must hold every parameter once. {' '.join(faults)} Build its groups"
            " with `optimizer_groups` from layer groups that cover the model."
        )


def set_frozen(
    model: nn.Module, groups: Sequence[LayerGroup], num_frozen: int, norm_policy: NormPolicy
) -> None:
    """Freeze the leading layer groups and let the others train.

    With the norm policy ``train``, batch norm weights train in frozen groups too. Raises ValueError
    if a group names a parameter that the model does not have, as where ``torch.compile`` wraps a
    part.
    """
    check_norm_policy(norm_policy)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    spared = _norm_parameters(model) if norm_policy == "train" else set()
    for position, group in enumerate(groups):
        for name in group.parameters:
            parameter = _named(parameters, name, group.name)
            parameter.requires_grad_(position >= num_frozen or id(parameter) in spared)


def set_frozen_modes(model: nn.Module, backbone: nn.Module, norm_policy: NormPolicy) -> None:
    """Put what is frozen into eval mode, after the whole model went into train mode.

    A module whose parameters are all frozen goes into eval mode with everything in it, so that
    dropout and stochastic depth are off too. Batch norm follows the policy; ``eval`` applies to the
    batch norms of ``backbone``. Modules without parameters follow the module they are in.
    ``track_running_stats`` is never changed: without it a batch norm uses the statistics of the
    batch, and training and evaluation disagree.
    """
    check_norm_policy(norm_policy)
    spared = _norm_parameters(model) if norm_policy == "train" else set()
    in_frozen: list[nn.Module] = []
    for module in model.modules():
        parameters = [item for item in module.parameters() if id(item) not in spared]
        if parameters and not any(item.requires_grad for item in parameters):
            module.eval()
            in_frozen.extend(module.modules())
    if norm_policy == "eval":
        _set_norm_mode(backbone.modules(), mode=False)
    elif norm_policy == "stats_if_frozen":
        _set_norm_mode(in_frozen, mode=True)
    elif norm_policy == "train":
        _set_norm_mode(model.modules(), mode=True)


def check_parameter_names(model: nn.Module, groups: Sequence[LayerGroup]) -> None:
    """Raise a ValueError if the model lacks parameters that its layer groups name."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for group in groups:
        for name in group.parameters:
            _named(parameters, name, group.name)


def _named(parameters: Mapping[str, nn.Parameter], name: str, group: str) -> nn.Parameter:
    # A head that was wrapped gives its own groups, by the names that it has now.
    if name not in parameters or _WRAPPED in name:
        wrapped = next((other for other in parameters if _WRAPPED in other), None)
        if wrapped is not None:
            part = f"model.{wrapped.partition(_WRAPPED)[0].rstrip('.')}".rstrip(".")
            raise ValueError(
                f"Parameters must keep their names when a part is compiled, but are {wrapped!r} or"
                f" the like, as `torch.compile({part})` wraps the part. Compile it in place:"
                f" `{part}.compile()`."
            )
        raise ValueError(
            f"Layer group {group!r} must name parameters of the model, but has {name!r}. Give names"
            " as `named_parameters` does."
        )
    return parameters[name]


def _norm_parameters(model: nn.Module) -> set[int]:
    norms = (module for module in model.modules() if isinstance(module, _BatchNorm))
    return {id(parameter) for norm in norms for parameter in norm.parameters()}


def _set_norm_mode(modules: Iterable[nn.Module], *, mode: bool) -> None:
    for module in modules:
        if isinstance(module, _BatchNorm):
            module.train(mode)


def check_norm_policy(norm_policy: str) -> None:
    """Raise a ValueError if there is no such policy."""
    if norm_policy not in get_args(NormPolicy):
        raise ValueError(
            f"`norm_policy` must be one of {', '.join(get_args(NormPolicy))}, got {norm_policy!r}."
        )


def _few(names: Sequence[str], limit: int = 5) -> str:
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
