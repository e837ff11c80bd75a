"""A walk through a network: what each layer gives for an image, as maps of its channels."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from lightning_fastrecipes.nn.heat_maps import as_maps
from lightning_fastrecipes.nn.layer_runs import is_layer

MOST_STEPS = 64
MOST_CHANNELS = 16
_IDLE = (nn.Identity, nn.Flatten, _DropoutNd, DropPath)

Key = tuple[str, int]
"""The name of a module, and which of its runs it is: one module may run several times."""


class _Seen(NamedTuple):
    key: Key
    module: nn.Module
    has_maps: bool


@dataclass(frozen=True, eq=False)
class Step:
    """What one layer gives for an image.

    ``shape`` is that of all its maps ``(channels, height, width)``; a layer of numbers has maps of
    one place. ``channels`` are those with the largest values, strongest first, ``maps`` theirs, and
    ``taken`` are the same channels of what a max pooling was given.
    """

    key: Key
    module: nn.Module
    shape: tuple[int, int, int]
    channels: list[int]
    maps: Tensor
    taken: Tensor | None = None


@dataclass(frozen=True)
class Walk:
    """The steps of a network in the order in which they end, and what has no maps."""

    steps: list[Step] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@torch.no_grad()
def walk(
    network: nn.Module,
    images: Tensor,
    names: Callable[[str], str] = str,
    most_steps: int = MOST_STEPS,
    most_channels: int = MOST_CHANNELS,
) -> Walk:
    """Run a batch of one image through a network, and return what its layers give.

    A network of more than ``most_steps`` layers is walked block by block: names are cut after as
    many dots as there is room for. Max pooling is always a step. Layers that pass on what they get
    are none. ``names`` gives the name of a module by the one that it has in ``network``, or nothing
    where its parts alone count.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    >>> found = walk(network.eval(), torch.zeros(1, 3, 8, 8))
    >>> [(step.key, step.shape) for step in found.steps]
    [(('0', 0), (4, 6, 6)), (('1', 0), (4, 6, 6)), (('2', 0), (4, 3, 3))]
    """
    modules = _named(network, names)
    seen = list[_Seen]()

    def note(key: Key, module: nn.Module, _: Tensor | None, output: Any) -> None:
        seen.append(_Seen(key, module, _maps(output, len(images)) is not None))

    with _hooked(modules, note):
        network(images)
    chosen = _choose(seen, most_steps)
    steps = list[Step]()

    def keep(key: Key, module: nn.Module, given: Tensor | None, output: Any) -> None:
        found = _maps(output, len(images)) if key in chosen else None
        if found is None:
            return
        maps, peaks = found[0].float(), found[0].float().amax((1, 2))
        channels = peaks.argsort(descending=True, stable=True)[:most_channels]
        is_pool = isinstance(module, nn.MaxPool2d) and given is not None and given.ndim == 4
        taken = given[0, channels].float().cpu() if is_pool and given is not None else None
        shape = (maps.shape[0], maps.shape[1], maps.shape[2])
        steps.append(Step(key, module, shape, channels.tolist(), maps[channels].cpu(), taken))

    with _hooked(modules, keep):
        network(images)
    mapless = dict.fromkeys(one.key[0] for one in seen if not one.has_maps and one.key in chosen)
    return Walk(steps, list(mapless))


@torch.no_grad()
def peaks(
    network: nn.Module,
    images: Tensor,
    steps: Sequence[Step],
    names: Callable[[str], str] = str,
) -> list[Tensor]:
    """Return the largest value that each channel of each step has, ``(batch, channels)``."""
    channels = {step.key: step.channels for step in steps}
    found = dict[Key, Tensor]()

    def note(key: Key, _: nn.Module, __: Tensor | None, output: Any) -> None:
        if key in channels and (maps := _maps(output, len(images))) is not None:
            found[key] = maps[:, channels[key]].float().amax((2, 3)).cpu()

    with _hooked(_named(network, names), note):
        network(images)
    return [found[step.key] for step in steps]


def _named(network: nn.Module, names: Callable[[str], str]) -> dict[nn.Module, str]:
    """Return the modules that may be steps: those inside a layer are a part of it."""
    found = dict[nn.Module, str]()
    inside = list[str]()
    for own, module in network.named_modules():
        name = names(own)
        is_part = any(own.startswith(f"{layer}.") for layer in inside)
        if not name or is_part or isinstance(module, _IDLE):
            continue
        found[module] = name
        if is_layer(module):
            inside.append(own)
    return found


def _choose(seen: Sequence[_Seen], most: int) -> Collection[Key]:
    """Cut names at the greatest depth that leaves few enough steps."""
    deepest = max((_depth(one) for one in seen), default=0)
    pools = {one.key for one in seen if isinstance(one.module, nn.MaxPool2d)}
    chosen = set[Key]()
    for depth in range(1, deepest + 1):
        found = {
            one.key
            for one in seen
            if _depth(one) == depth or (_depth(one) < depth and is_layer(one.module))
        }
        if depth > 1 and sum(one.key in found and one.has_maps for one in seen) > most:
            break
        chosen = found
    return chosen | pools


def _depth(one: _Seen) -> int:
    return one.key[0].count(".") + 1


@contextmanager
def _hooked(
    modules: dict[nn.Module, str], note: Callable[[Key, nn.Module, Tensor | None, Any], None]
) -> Iterator[None]:
    """Call ``note`` after each run of a module with its key, first argument and output."""
    counts = Counter[str]()

    def leave(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        name = modules[module]
        given = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
        note((name, counts[name]), module, given, output)
        counts[name] += 1

    handles = [module.register_forward_hook(leave) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _maps(output: Any, batch: int) -> Tensor | None:
    """Return what a layer gives as ``(batch, channels, height, width)``, if it can be seen so."""
    if not isinstance(output, Tensor) or len(output) != batch or not output.is_floating_point():
        return None
    if output.ndim == 2:
        return output[:, :, None, None]
    found = as_maps(output)
    # What is not square has no channels that could come last.
    return output if found is None and output.ndim == 4 else found
