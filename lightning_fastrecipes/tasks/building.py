"""Networks, optimizers and metrics from class paths, objects or plain functions."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_cat

from lightning_fastrecipes._lightning import LightningModule
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.old_names import translate_hparams

MetricFunction = Callable[[Tensor, Tensor], Tensor | float]
MetricSpec = Metric | MetricFunction | str | Mapping[str, Any]


class FunctionMetric(Metric):
    """Call a plain function once on all rows of an epoch, gathered from every process.

    A function averaged over batches is wrong for anything that is not a mean, such as F-beta.

    Args:
        function: Takes probabilities ``(rows, num_outputs)`` and targets, gives a number.

    Example:
        >>> metric = FunctionMetric(lambda p, t: (p.argmax(1) == t).float().mean())
        >>> metric.update(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0]))
        >>> metric.compute().item()
        0.5
    """

    full_state_update = False
    rows: list[Tensor]
    targets: list[Tensor]

    def __init__(self, function: MetricFunction) -> None:
        super().__init__()
        self.function = function
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("targets", default=[], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, targets: Tensor) -> None:
        """Keep the rows of one batch.

        Args:
            probabilities: Shape ``(batch, num_outputs)``.
            targets: Shape ``(batch,)`` or ``(batch, num_outputs)``.
        """
        self.rows.append(probabilities)
        self.targets.append(targets)

    def compute(self) -> Tensor:
        """Call the function on all rows."""
        value = self.function(dim_zero_cat(self.rows), dim_zero_cat(self.targets))
        return torch.as_tensor(value, dtype=torch.float32, device=self.device)


def build_metrics(
    specs: Mapping[str, MetricSpec], defaults: Mapping[str, Any]
) -> dict[str, Metric | MetricCollection]:
    """Turn metric objects, class paths and plain functions into torchmetrics metrics.

    Args:
        specs: Name to a metric, a function of ``(probabilities, targets)``, a class path, or
            ``{"class_path": ..., "init_args": {...}}``.
        defaults: Arguments given to classes that take them and were not given them.

    Returns:
        Name to metric, in the order given.

    Raises:
        ConfigurationError: If a class path leads nowhere or its arguments do not fit.
        TypeError: If a value is none of the above.
    """
    return {name: _build_metric(name, spec, defaults) for name, spec in specs.items()}


def build_network(spec: Mapping[str, Any]) -> nn.Module:
    """Build a network of the user's own.

    Args:
        spec: ``{"class_path": ..., "init_args": {...}}``.

    Returns:
        The network.

    Raises:
        ConfigurationError: If the class is no module, or does not take the arguments.
    """
    path, init_args = _path_and_args(spec, "backbone")
    cls: Any = _load(path, "backbone")
    if not (inspect.isclass(cls) and issubclass(cls, nn.Module)):
        raise ConfigurationError(
            f"`backbone` must name a subclass of `torch.nn.Module`, but got {path!r}. Use a class"
            " path such as 'lightning_fastrecipes.nn.small.SmallCNN', or the name of a timm model."
        )
    try:
        network: nn.Module = cls(**init_args)
    except TypeError as error:
        raise ConfigurationError(
            f"`backbone`: `{path}` does not take {init_args}: {error}. Mend `init_args`."
        ) from error
    return network


def build_optimizer(
    spec: str | Mapping[str, Any], groups: Sequence[dict[str, Any]]
) -> torch.optim.Optimizer:
    """Build an optimizer over named parameter groups.

    Args:
        spec: Class path, or ``{"class_path": ..., "init_args": {...}}``.
        groups: Parameter groups with ``params``, ``lr``, ``weight_decay`` and ``name``.

    Returns:
        The optimizer.

    Raises:
        ConfigurationError: If the class is no optimizer, or cannot take these groups.
    """
    path, init_args = _path_and_args(spec, "optimizer")
    cls: Any = _load(path, "optimizer")
    if not (inspect.isclass(cls) and issubclass(cls, torch.optim.Optimizer)):
        raise ConfigurationError(
            f"`optimizer` must name a subclass of `torch.optim.Optimizer`, but got {path!r}."
            " Use a class path such as 'torch.optim.AdamW'."
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
    _fuse_on_processor(optimizer)
    return optimizer


def checkpoint_of_today(checkpoint: Any, class_name: str, *, weights_only: bool | None) -> Any:
    """Return a checkpoint whose hyperparameters are arguments of today's constructor.

    Lightning drops arguments that a constructor does not take without a word.

    Args:
        checkpoint: A file, or what else Lightning can read.
        class_name: The class it is of.
        weights_only: As for ``torch.load``.

    Returns:
        The same, or a file in memory where an old name was translated.
    """
    if not isinstance(checkpoint, (str, Path)) or not Path(checkpoint).is_file():
        return checkpoint
    saved = torch.load(checkpoint, "cpu", weights_only=weights_only, mmap=True)
    hparams = saved.get(LightningModule.CHECKPOINT_HYPER_PARAMS_KEY, {})
    today = translate_hparams(class_name, hparams)
    if today == hparams:
        return checkpoint
    translated = BytesIO()
    torch.save(saved | {LightningModule.CHECKPOINT_HYPER_PARAMS_KEY: today}, translated)
    translated.seek(0)
    return translated


def plain_values(value: Any) -> Any:
    """Turn sequences and mappings into lists and dicts, which any checkpoint reader takes."""
    if isinstance(value, Mapping):
        return {str(k): plain_values(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain_values(v) for v in value]
    return value


def _fuse_on_processor(optimizer: torch.optim.Optimizer) -> None:
    """Let torch's own optimizers update a parameter on the CPU in one pass.

    Five times as fast as the default there, or more. The argument ``fused`` of the constructor
    would also promise to undo the scale of mixed precision, and Lightning then refuses to clip
    gradients.
    """
    if not type(optimizer).__module__.startswith("torch.optim."):
        return
    for group in optimizer.param_groups:
        chooses = group.get("differentiable") or group.get("foreach") is not None
        fits = all(p.device.type == "cpu" and p.is_floating_point() for p in group["params"])
        if "fused" in group and group["fused"] is None and fits and not chooses:
            group["fused"] = True


def _build_metric(name: str, spec: MetricSpec, defaults: Mapping[str, Any]) -> Metric:
    if isinstance(spec, Metric):
        return spec
    if isinstance(spec, (str, Mapping)):
        path, init_args = _path_and_args(spec, f"metrics.{name}")
        target = _load(path, f"metrics.{name}")
        if inspect.isclass(target) and issubclass(target, Metric):
            # Some classes choose their implementation in `__new__`, which names the arguments.
            taken = {
                *inspect.signature(target.__init__).parameters,
                *inspect.signature(target.__new__).parameters,
            }
            arguments = {k: v for k, v in defaults.items() if k in taken} | init_args
            try:
                return target(**arguments)
            except (TypeError, ValueError) as error:
                raise ConfigurationError(
                    f"`metrics.{name}`: `{path}` does not take {arguments}: {error}."
                ) from error
        spec = target
    if callable(spec) and not inspect.isclass(spec):
        return FunctionMetric(spec)
    raise TypeError(
        f"`metrics.{name}` must be a torchmetrics metric, a function of (probabilities, targets)"
        f" or a class path, but got {spec!r}."
    )


def _path_and_args(spec: str | Mapping[str, Any], what: str) -> tuple[str, dict[str, Any]]:
    if isinstance(spec, str):
        return spec, {}
    unknown = set(spec) - {"class_path", "init_args"}
    if unknown or "class_path" not in spec:
        raise ConfigurationError(
            f"`{what}` must be a class path or have the keys `class_path` and `init_args`, but got"
            f" {sorted(spec)}."
        )
    return str(spec["class_path"]), dict(spec.get("init_args") or {})


def _load(path: str, what: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"`{what}` must be an import path such as 'torch.optim.AdamW', but {path!r} leads"
            " nowhere. Check the spelling."
        ) from error
