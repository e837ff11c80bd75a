"""Networks, metrics and losses from class paths, objects or plain functions."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_cat

from lightning_fastrecipes.dotted import load_object
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.messages import name_some, shown, suggestion
from lightning_fastrecipes.nn.losses import Loss, LossFunction, OwnLoss

_MOST_CHANNELS = 1000
MetricFunction = Callable[[Tensor, Tensor], Tensor | float]
# Plain values come first: Lightning's command line takes the first type that a value fits, and
# would build metrics before the number of classes is known.
MetricSpec = str | Mapping[str, Any] | Metric | MetricFunction
LossSpec = str | Mapping[str, Any] | Loss | LossFunction | None


class FunctionMetric(Metric):
    """Call a plain function once on all rows of an epoch, gathered from every process.

    The function goes from probabilities ``(rows, num_outputs)`` and targets to a number. Averaged
    over batches, it would be wrong for anything that is not a mean, such as F-beta. ``path`` is the
    import path that it was named by, if any.

    >>> metric = FunctionMetric(lambda p, t: (p.argmax(1) == t).float().mean())
    >>> metric.update(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0]))
    >>> metric.compute().item()
    0.5
    """

    full_state_update = False
    rows: list[Tensor]
    targets: list[Tensor]

    def __init__(self, function: MetricFunction, path: str = "") -> None:
        super().__init__()
        self.function = function
        self.path = path
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("targets", default=[], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, targets: Tensor) -> None:
        """Keep the probabilities and targets of one batch."""
        self.rows.append(probabilities)
        self.targets.append(targets)

    def compute(self) -> Tensor:
        """Call the function on all rows."""
        rows, targets = dim_zero_cat(self.rows), dim_zero_cat(self.targets)
        try:
            value = self.function(rows, targets)
            return torch.as_tensor(value, dtype=torch.float32, device=self.device)
        except (TypeError, ValueError, IndexError, RuntimeError) as error:
            name = self.path or getattr(self.function, "__name__", repr(self.function))
            raise ConfigurationError(
                f"The metric `{name}` must make one number of predictions {tuple(rows.shape)} and"
                f" targets {tuple(targets.shape)}, but fails: {error} Take what it needs of them"
                " in a function of your own."
            ) from error


def check_metric_names(
    metrics: Mapping[str, MetricSpec] | None,
) -> Mapping[str, MetricSpec] | None:
    """Return the metrics that were chosen; a TypeError refuses lists, and what is no metric."""
    if metrics is not None and not isinstance(metrics, Mapping):
        raise TypeError(
            "`metrics` must be a mapping from names to metrics, such as {'auc':"
            f" 'torchmetrics.classification.MulticlassAUROC'}}, got {shown(metrics)}. Name each;"
            " without `metrics` the accuracy and the like are measured."
        )
    for name, spec in (metrics or {}).items():
        if not isinstance(spec, (str, Mapping, Metric)) and not callable(spec):
            raise _no_metric(str(name), spec)
    return metrics


def build_metrics(
    specs: Mapping[str, MetricSpec], defaults: Mapping[str, Any]
) -> dict[str, Metric | MetricCollection]:
    """Build torchmetrics metrics from objects, class paths and plain functions, by name.

    Classes get the defaults that they take and were not given. Raises ConfigurationError if a class
    path leads nowhere, its arguments do not fit or a name is taken, a TypeError if a value is none
    of these.
    """
    taken = MetricCollection({})
    for name in specs:
        is_word = isinstance(name, str) and name and "." not in name
        if not is_word or name == "loss" or hasattr(taken, name):
            raise ConfigurationError(
                "`metrics` must have names of text without a full stop, which are not taken, such"
                f" as 'loss' and 'train' are, but got {shown(name)}. Give that metric another name."
            )
    return {name: _build_metric(str(name), spec, defaults) for name, spec in specs.items()}


def build_network(spec: Mapping[str, Any]) -> nn.Module:
    """Build a network of the user's own from ``{"class_path": ..., "init_args": {...}}``."""
    hint = "'lightning_fastrecipes.nn.small.SmallCNN', or the name of a timm model"
    cls, path, init_args = load_class(spec, "torch.nn.Module", "backbone", hint)
    try:
        network: nn.Module = cls(**init_args)
    except ValueError:  # which says by itself what must be
        raise
    except Exception as error:  # networks of other packages assert and divide
        reason = str(error) or type(error).__name__
        raise ConfigurationError(
            f"`backbone`: `{path}` does not take {shown(init_args)}: {reason}. Mend `init_args`."
        ) from error
    return network


def build_loss(spec: LossSpec) -> Loss | OwnLoss:
    """Build what ``loss`` describes: options of the cross entropy, or a loss in its place.

    Text is the name of a loss of ``torch.nn`` and nothing else, so that files may hold it.
    """
    if spec is None or isinstance(spec, Loss):
        return spec or Loss()
    if isinstance(spec, Mapping) and "class_path" not in spec:
        known = [field.name for field in fields(Loss)]
        if unknown := sorted({str(key) for key in spec} - set(known)):
            hint = suggestion(unknown[0], known)
            raise ConfigurationError(
                f"`loss` must have the keys {name_some(known)}, or `class_path`, but has"
                f" {name_some(unknown)}.{hint}"
            )
        return Loss(**spec)
    found: Any
    if isinstance(spec, (str, Mapping)):
        found, name, arguments = _loss_class(spec)
    else:
        found, name, arguments = spec, getattr(spec, "__name__", type(spec).__name__), {}
    if not inspect.isclass(found):
        if not callable(found):
            raise ConfigurationError(
                f"`loss` must be a `Loss`, the name of a loss of `torch.nn`, a class path, or a"
                f" function of logits and targets, got {shown(spec)}."
            )
        return OwnLoss(found, name)
    try:
        return OwnLoss(cast(LossFunction, found(**arguments)), name)
    except Exception as error:  # losses of other packages may raise anything
        raise ConfigurationError(
            f"`loss`: `{name}` does not take {arguments}: {error}. Correct `init_args`."
        ) from error


def saved_loss(spec: LossSpec) -> Any:
    """Return plain values that ``build_loss`` takes for the same; ``None`` of a Python object."""
    if isinstance(spec, Loss):
        return plain_values(asdict(spec))
    return plain_values(spec) if isinstance(spec, (str, Mapping)) else None


def _loss_class(spec: str | Mapping[str, Any]) -> tuple[Any, str, dict[str, Any]]:
    hint = "'torch.nn.CrossEntropyLoss'"
    if isinstance(spec, Mapping):
        cls, path, arguments = load_class(spec, "torch.nn.Module", "loss", hint)
        # Numbers of a file: torch wants tensors.
        for name in {"weight", "pos_weight"} & set(arguments):
            if isinstance(arguments[name], list):
                arguments[name] = torch.tensor(arguments[name], dtype=torch.float32, device="cpu")
        return cls, path, arguments
    name = spec.removeprefix("torch.nn.")
    known = [name for name in dir(nn) if name.endswith("Loss")]
    if name not in known:
        raise ConfigurationError(
            f"`loss` must name a loss of `torch.nn`, such as {hint}, got {shown(spec)}."
            f"{suggestion(name, known)} Others are written `{{class_path: ...}}`."
        )
    return getattr(nn, name), f"torch.nn.{name}", {}


def read_backbone(
    spec: str | Mapping[str, Any] | nn.Module,
) -> tuple[str | nn.Module, int | None]:
    """Return the name of a timm model with its number of channels, or a network.

    A mapping has ``name`` and ``in_channels``, or ``class_path`` and ``init_args``.
    """
    if not isinstance(spec, Mapping):
        return spec, None
    if "name" not in spec:
        return build_network(spec), None
    channels = spec.get("in_channels", 3)
    is_whole = isinstance(channels, int) and not isinstance(channels, bool)
    if set(spec) - {"name", "in_channels"} or not (is_whole and 1 <= channels <= _MOST_CHANNELS):
        raise ConfigurationError(
            "`backbone` must have the keys `name`, of a timm model, and `in_channels`, a whole"
            f" number in 1 to {_MOST_CHANNELS}, got {dict(spec)}."
        )
    return str(spec["name"]), channels


def load_class(
    spec: str | Mapping[str, Any], base: str, what: str, hint: str
) -> tuple[Any, str, dict[str, Any]]:
    """Import the class that the argument ``what`` names; return it, its path and its arguments."""
    path, init_args = _path_and_args(spec, what)
    cls = _load(path, what)
    if not (inspect.isclass(cls) and issubclass(cls, load_object(base))):
        raise ConfigurationError(
            f"`{what}` must name a subclass of `{base}`, but got {path!r}. Use a class path such as"
            f" {hint}."
        )
    return cls, path, init_args


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
        path, init_args = _path_and_args(spec, f"metrics.{name}")
        init_args = {key: _inner(name, value, defaults) for key, value in init_args.items()}
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
            except Exception as error:  # metrics of other packages may raise anything
                raise ConfigurationError(
                    f"`metrics.{name}`: `{path}` does not take {arguments}:"
                    f" {str(error).rstrip('.')}. Mend its `init_args`, or choose a metric of"
                    f" {'classes' if defaults else 'numbers'}."
                ) from error
        if callable(target) and not inspect.isclass(target):
            return FunctionMetric(target, path)
        raise _no_metric(name, path)
    if callable(spec) and not inspect.isclass(spec):
        return FunctionMetric(spec)
    raise _no_metric(name, spec)


def _no_metric(name: str, spec: Any) -> TypeError:
    return TypeError(
        f"`metrics.{name}` must be a torchmetrics metric, a function of (probabilities, targets)"
        f" or a class path, but got {shown(spec)}."
    )


def _inner(name: str, value: Any, defaults: Mapping[str, Any]) -> Any:
    """Build a metric that another one wraps."""
    is_named = isinstance(value, Mapping) and "class_path" in value
    return _build_metric(name, value, defaults) if is_named else value


def _path_and_args(spec: str | Mapping[str, Any], what: str) -> tuple[str, dict[str, Any]]:
    if isinstance(spec, str):
        return spec, {}
    is_mapping = isinstance(spec, Mapping)
    keys = set(spec) if is_mapping else set()
    if keys - {"class_path", "init_args"} or "class_path" not in keys:
        raise ConfigurationError(
            f"`{what}` must be a class path or have the keys `class_path` and `init_args`, but got"
            f" {shown(sorted(map(str, keys)) if is_mapping else spec)}."
        )
    init_args = spec.get("init_args") or {}
    if not isinstance(init_args, Mapping):
        raise ConfigurationError(
            f"`{what}.init_args` must be a mapping of arguments, but got {shown(init_args)}."
        )
    return str(spec["class_path"]), dict(init_args)


def _load(path: str, what: str) -> Any:
    try:
        return load_object(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"`{what}` must be an import path such as 'torch.optim.AdamW', but {path!r} leads"
            " nowhere. Check the spelling."
        ) from error
