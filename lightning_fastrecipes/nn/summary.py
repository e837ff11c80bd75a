"""What a network is made of: its layers and layer groups, what they cost, see and give."""

import contextlib
import html
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import override

from lightning_fastrecipes._lightning import move_data_to_device
from lightning_fastrecipes.batches import inputs_of
from lightning_fastrecipes.nn.layer_runs import LayerRun, layer_runs, own_parameters, untouched
from lightning_fastrecipes.nn.probing import refuse_scripts
from lightning_fastrecipes.nn.receptive_fields import receptive_fields
from lightning_fastrecipes.nn.step_memory import StepMemory, step_memory
from lightning_fastrecipes.nn.tabular import TableBackbone
from lightning_fastrecipes.protocols import HasLayerGroups, InputSpec

LAYERS = (
    "layer", "type", "output", "parameters", "multiply_adds", "receptive_field", "trained", "mean",
    "std",
)  # fmt: skip
GROUPS = ("group", "parameters", "trained", "lr", "weight_decay", "multiply_adds", "norms")


@dataclass(frozen=True, repr=False)
class Summary:
    """The tables of :func:`summary`, which prints and shows itself in notebooks.

    Args:
        layers: A row for each layer, in the order in which they run.
        groups: A row for each layer group, from the input side; one row without groups.
        norm_policy: That of a task, else ``None``.
        batch_size: Samples of the batch that was run, 0 if none was.
        memory: Bytes of one training step on this batch, ``None`` if none was run.
    """

    layers: pd.DataFrame
    groups: pd.DataFrame
    norm_policy: str | None
    batch_size: int
    memory: StepMemory | None

    def plain_values(self) -> dict[str, Any]:
        """Return everything as lists, numbers and text, for JSON; nothing is ``NaN``."""
        memory = self.memory and {**asdict(self.memory), "total": self.memory.total}
        return {
            "layers": _records(self.layers),
            "groups": _records(self.groups),
            "norm_policy": self.norm_policy,
            "batch_size": self.batch_size,
            "memory": memory,
        }

    @property
    def totals(self) -> str:
        """Return parameters, work and memory of the whole network in one line."""
        count, frozen = (int(self.groups[key].sum()) for key in ("parameters", "trained"))
        parts = [f"{count:,} parameters, {count - frozen:,} of them frozen"]
        if self.batch_size:
            parts.append(f"{int(self.layers['multiply_adds'].sum()):,} multiply-adds a sample")
        if self.memory is not None:
            parts.append(
                f"a step on {self.batch_size} samples takes {self.memory.total / 2**20:,.1f} MiB"
                f" ({self.memory.activations / 2**20:,.1f} of them for activations)"
            )
        return "; ".join(parts)

    def printed(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return groups and layers in words, without the layers that do nothing."""
        return _in_words(self.groups), _in_words(self.layers[self.layers["type"] != "Identity"])

    @override
    def __repr__(self) -> str:
        tables = [t.to_string(index=False) for t in self.printed() if len(t)]
        return "\n\n".join([*tables, self.totals])

    def _repr_html_(self) -> str:
        tables = [table.to_html(index=False, border=0) for table in self.printed()]
        return "".join([*tables, f"<p>{html.escape(self.totals)}</p>"])


def summary(model: nn.Module, batch: Any = None) -> Summary:
    """Return what each layer and layer group of a model is, costs, sees and gives.

    Lightning's ``ModelSummary`` has no groups, no work and no activations. A good initialisation
    keeps their deviation about the same from layer to layer, neither falling to 0 nor rising. The
    model computes in the mode that it is in (``model.eval()`` before), and nothing of it is
    changed.

    Args:
        model: Any network or task.
        batch: Inputs, or inputs and targets as a loader gives them. Without it an image task runs
            on noise of the size that its backbone expects, a task of a known table on empty rows,
            and no layer of another model is run.

    Returns:
        ``layers`` has the columns ``layer`` (its name), ``type``, ``output`` (shape, the batch
        first), ``parameters`` (how many), ``multiply_adds`` (of a sample; additions of a bias,
        pooling and activations do not count), ``receptive_field`` (how many columns of the image
        an output depends on; that of images alone), ``trained`` (``yes``, ``frozen``, ``part``, or
        nothing without parameters), and ``mean`` and ``std`` of the output. Layers are in the order
        in which they run, each time that they do, with their parameters at the first; those that
        have parameters and do not run come last, without an output. A module with work of its own,
        such as products of attention, has a row behind its parts.

        ``groups`` has ``group``, ``parameters`` and how many of them are ``trained``, the peak
        ``lr`` (0 if frozen) and ``weight_decay`` of a task's groups, ``multiply_adds``, and what
        batch ``norms`` compute with while training: ``batch``, ``stored``, ``both`` or nothing.

    Raises:
        ValueError: If the model, or a part of it, is a module of TorchScript.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 10, 5, padding=2), nn.ReLU())
        >>> found = summary(model, torch.zeros(2, 3, 32, 32))
        >>> found.layers[["type", "output", "parameters", "multiply_adds"]].values.tolist()
        [['Conv2d', (2, 10, 32, 32), 760, 768000], ['ReLU', (2, 10, 32, 32), 0, 0]]
        >>> found.layers["receptive_field"].tolist()
        [5, 5]

    References:
        Stanford's CS231n, *Setting up the data and the model*; Mishkin and Matas, *All you need is
        a good init* (2016); fast.ai's ``learn.summary()``.
    """
    refuse_scripts(model)
    inputs, is_drawn = None if batch is None else inputs_of(batch), False
    if batch is None and isinstance(spec := getattr(model, "input_spec", None), InputSpec):
        inputs, is_drawn = _noise(spec), True
    elif batch is None and isinstance(rows := getattr(model, "backbone", None), TableBackbone):
        inputs, is_drawn = rows.empty_rows(2), True
    optimizer, runs, memory = _optimizer(model), list[LayerRun](), None
    fields, batch_size = dict[nn.Module, int](), 0
    if inputs is not None:
        device = next((item.device for item in model.parameters()), torch.device("cpu"))
        inputs = move_data_to_device(inputs, device)
        parts = inputs.values() if isinstance(inputs, Mapping) else inputs
        batch_size = len(inputs if isinstance(inputs, Tensor) else next(iter(parts)))
        with untouched(model):
            runs = layer_runs(model, inputs)
            if device.type != "meta":
                memory = step_memory(model, lambda: model(inputs), optimizer)
            if isinstance(inputs, Tensor) and inputs.ndim == 4 and device.type != "meta":
                image = torch.zeros(inputs.shape[1:], device=device)
                fields = receptive_fields(model, [run.module for run in runs], image)
    return Summary(
        layers=_layers(model, runs, fields, batch_size, is_drawn=is_drawn),
        groups=_groups(model, runs, optimizer, batch_size),
        norm_policy=getattr(model, "norm_policy", None),
        batch_size=batch_size,
        memory=memory,
    )


def _layers(
    model: nn.Module,
    runs: list[LayerRun],
    fields: Mapping[nn.Module, int],
    batch_size: int,
    *,
    is_drawn: bool,
) -> pd.DataFrame:
    """Return the table of layers; activations on noise say nothing and are left out."""
    run = {item.module for item in runs}
    idle = [
        LayerRun(m, 0)
        for m in model.modules()
        if m not in run and any(True for _ in own_parameters(m))
    ]
    names, seen, rows = {m: n for n, m in model.named_modules()}, set[nn.Module](), []
    for item in [*runs, *idle]:
        parameters = [] if item.module in seen else list(own_parameters(item.module))
        seen.add(item.module)
        rows.append(
            (
                names[item.module],
                type(item.module).__name__,
                item.shape,
                sum(parameter.numel() for parameter in parameters),
                item.work // max(batch_size, 1),
                fields.get(item.module),
                _trained(parameters),
                math.nan if is_drawn else item.mean,
                math.nan if is_drawn else item.std,
            )
        )
    return pd.DataFrame(rows, columns=list(LAYERS)).astype({"receptive_field": "Int64"})


def _groups(
    model: nn.Module, runs: list[LayerRun], optimizer: torch.optim.Optimizer | None, batch_size: int
) -> pd.DataFrame:
    """Return the table of layer groups; work without parameters counts for the group before."""
    parameters = dict(model.named_parameters())
    groups = {"all": tuple(parameters)}
    if isinstance(model, HasLayerGroups) and hasattr(model, "configure_optimizers"):
        groups = {group.name: group.parameters for group in model.layer_groups()}
    owner = {parameters[name]: group for group, names in groups.items() for name in names}
    work, modes, group = dict.fromkeys(groups, 0), {name: set[bool]() for name in groups}, ""
    for run in runs:
        group = next((owner[p] for p in run.module.parameters() if p in owner), group) or next(
            iter(groups)
        )
        work[group] += run.work // max(batch_size, 1)
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.weight in owner:
            modes[owner[module.weight]].add(module.training)
    rates = _rates(optimizer)
    rows = []
    for name, members in groups.items():
        found = [parameters[member] for member in members]
        num_trained = sum(item.numel() for item in found if item.requires_grad)
        lr, decay = rates.get(name, (None, None))
        rows.append(
            (
                name,
                sum(item.numel() for item in found),
                num_trained,
                lr if num_trained else lr and 0.0,
                decay,
                work[name],
                {(): "", (True,): "batch", (False,): "stored"}.get(tuple(modes[name]), "both"),
            )
        )
    return pd.DataFrame(rows, columns=list(GROUPS))


def _rates(optimizer: torch.optim.Optimizer | None) -> dict[str, tuple[float, float]]:
    """Return the rate and the largest weight decay of each layer group."""
    found = dict[str, tuple[float, float]]()
    for group in optimizer.param_groups if optimizer else []:
        name = group.get("name", "all").partition("/")[0]
        decay = max(group["weight_decay"], found.get(name, (0.0, 0.0))[1])
        found[name] = (float(group["lr"]), decay)
    return found


def _optimizer(model: nn.Module) -> torch.optim.Optimizer | None:
    """Return a task's optimizer; those of others may need a trainer."""
    configure = getattr(model, "configure_optimizers", None)
    if isinstance(model, HasLayerGroups) and callable(configure):
        with contextlib.suppress(Exception):  # whatever a module of one's own may raise
            found = configure()
            return found if isinstance(found, torch.optim.Optimizer) else None
    return None


def _noise(spec: InputSpec) -> Tensor:
    """Return a batch of two noisy images of the size that the weights expect."""
    shape = (2, len(spec.mean), spec.image_size, spec.image_size)
    draw = torch.Generator().manual_seed(0)
    return torch.randint(256, shape, dtype=torch.uint8, generator=draw)


def _trained(parameters: list[nn.Parameter]) -> str:
    states = {parameter.requires_grad for parameter in parameters}
    if len(states) > 1:
        return "part"
    return "" if not states else "yes" if True in states else "frozen"


def _in_words(table: pd.DataFrame) -> pd.DataFrame:
    """Write numbers with commas, shapes with crosses, and what is not known as nothing."""
    words = table.copy().astype(object)
    for name in words:
        words[name] = [_word(str(name), value) for value in table[name]]
    return words.rename(columns=lambda name: str(name).replace("_", " "))


def _word(name: str, value: Any) -> str:
    if name == "output":
        return "not run" if value is None else "x".join(map(str, value))
    if value is None or pd.isna(value):
        return ""
    if isinstance(value, str):
        return value
    is_count = name in ("parameters", "trained", "multiply_adds", "receptive_field")
    return f"{int(value):,}" if is_count else f"{value:.3g}"


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows with lists in place of shapes, and ``None`` for what is not known."""
    return [
        {
            str(key): list(value) if isinstance(value, tuple) else None if pd.isna(value) else value
            for key, value in row.items()
        }
        for row in table.to_dict("records")
    ]
