"""A table of a network's layers: shapes, parameters, and what its activations look like."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from lightning_fastrecipes._lightning import move_data_to_device
from lightning_fastrecipes.batches import inputs_of
from lightning_fastrecipes.nn.probing import refuse_scripts

COLUMNS = ("layer", "type", "output", "parameters", "trained", "mean", "std")


def summary(model: nn.Module, batch: Any = None) -> pd.DataFrame:
    """Return a row for each layer of a model, and how its activations are spread over a batch.

    Lightning's ``ModelSummary`` has no activations. A good initialisation keeps their deviation
    about the same from layer to layer, neither falling to 0 nor rising. The model computes in the
    mode that it is in (``model.eval()`` before), and nothing of it is changed.

    Args:
        model: Any network or task.
        batch: Inputs, or inputs and targets as a loader gives them; no layer is run if ``None``.

    Returns:
        The columns ``layer`` (its name), ``type``, ``output`` (shape, the batch first),
        ``parameters`` (how many), ``trained`` (``yes``, ``frozen``, ``part``, or nothing without
        parameters), and ``mean`` and ``std`` of the output. Layers are in the order in which they
        run, each time that they do, with their parameters at the first; those that have parameters
        and do not run come last, without an output.

    Raises:
        ValueError: If the model, or a part of it, is a module of TorchScript.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        >>> summary(model, torch.zeros(2, 4))[["layer", "type", "output", "parameters"]].values
        array([['0', 'Linear', (2, 8), 40],
               ['1', 'ReLU', (2, 8), 0]], dtype=object)

    References:
        Stanford's CS231n, *Setting up the data and the model*; Mishkin and Matas, *All you need is
        a good init* (2016).
    """
    refuse_scripts(model)
    layers = {module: name for name, module in model.named_modules() if _is_layer(module)}
    outputs: list[tuple[nn.Module, Tensor | None]] = []
    if batch is not None:
        with _watched(layers, outputs), _untouched(model), torch.no_grad():
            device = next((item.device for item in model.parameters()), torch.device("cpu"))
            model(move_data_to_device(inputs_of(batch), device))
    run = {module for module, _ in outputs}
    outputs += [(m, None) for m in layers if m not in run and any(True for _ in _own(m))]
    rows, seen = [], set[nn.Module]()
    for module, output in outputs:
        parameters = [] if module in seen else list(_own(module))
        seen.add(module)
        rows.append(
            (
                layers[module],
                type(module).__name__,
                None if output is None else tuple(output.shape),
                sum(parameter.numel() for parameter in parameters),
                _trained(parameters),
                None if output is None else output.float().mean().item(),
                None if output is None else output.float().std(correction=0).item(),
            )
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _is_layer(module: nn.Module) -> bool:
    """Whether a module has no parts, or parameters of its own beside them."""
    return any(True for _ in _own(module)) or not any(True for _ in module.children())


def _own(module: nn.Module) -> Iterator[nn.Parameter]:
    return module.parameters(recurse=False)


def _trained(parameters: list[nn.Parameter]) -> str:
    states = {parameter.requires_grad for parameter in parameters}
    if len(states) > 1:
        return "part"
    return "" if not states else "yes" if True in states else "frozen"


@contextmanager
def _watched(
    layers: dict[nn.Module, str], outputs: list[tuple[nn.Module, Tensor | None]]
) -> Iterator[None]:
    """Note the output of each layer that runs."""

    def note(module: nn.Module, _inputs: Any, output: Any) -> None:
        first = output[0] if isinstance(output, (tuple, list)) and output else output
        # A copy, since the next layer may work in place.
        outputs.append((module, first.clone() if isinstance(first, Tensor) else None))

    handles = [module.register_forward_hook(note) for module in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Put back the statistics of batch norm, and what random layers draw."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {item.device for item in model.parameters() if item.device.type == "cuda"}
    try:
        with torch.random.fork_rng(list(devices)):
            yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
