"""Networks and metrics from class paths, objects or plain functions."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_cat

from lightning_fastrecipes._lightning import LightningModule
from lightning_fastrecipes.dotted import load_object
from lightning_fastrecipes.errors import ConfigurationError

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
    path, init_args = path_and_args(spec, "backbone")
    cls: Any = load_from_path(path, "backbone")
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


def saved_hparams(checkpoint: Any, *, weights_only: bool | None) -> dict[str, Any]:
    """Read the hyperparameters of a checkpoint; nothing where it is no local file."""
    if not isinstance(checkpoint, (str, Path)) or not Path(checkpoint).is_file():
        return {}
    saved = torch.load(checkpoint, "cpu", weights_only=weights_only, mmap=True)
    hparams: dict[str, Any] = saved.get(LightningModule.CHECKPOINT_HYPER_PARAMS_KEY, {})
    return hparams


def plain_values(value: Any) -> Any:
    """Turn sequences and mappings into lists and dicts, which any checkpoint reader takes."""
    if isinstance(value, Mapping):
        return {str(k): plain_values(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain_values(v) for v in value]
    return value


def _build_metric(name: str, spec: MetricSpec, defaults: Mapping[str, Any]) -> Metric:
    if isinstance(spec, Metric):
        return spec
    if isinstance(spec, (str, Mapping)):
        path, init_args = path_and_args(spec, f"metrics.{name}")
        target = load_from_path(path, f"metrics.{name}")
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


def path_and_args(spec: str | Mapping[str, Any], what: str) -> tuple[str, dict[str, Any]]:
    """Split what the argument ``what`` was given into a class path and arguments."""
    if isinstance(spec, str):
        return spec, {}
    unknown = set(spec) - {"class_path", "init_args"}
    if unknown or "class_path" not in spec:
        raise ConfigurationError(
            f"`{what}` must be a class path or have the keys `class_path` and `init_args`, but got"
            f" {sorted(spec)}."
        )
    return str(spec["class_path"]), dict(spec.get("init_args") or {})


def load_from_path(path: str, what: str) -> Any:
    """Import what the argument ``what`` names, or say that its path leads nowhere."""
    try:
        return load_object(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"`{what}` must be an import path such as 'torch.optim.AdamW', but {path!r} leads"
            " nowhere. Check the spelling."
        ) from error
