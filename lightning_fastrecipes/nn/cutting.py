"""Cut a backbone where its frozen layers end, and run either part."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_fastrecipes.batches import EarlyOutputs
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.random import seeded_generator
from lightning_fastrecipes.nn.backbones import Backbone
from lightning_fastrecipes.nn.probing import reached_parameters

_MOST_TRIES = 20  # places that are tried, from the last one backwards
_CLOSE = 1e-5  # relative difference that another order of sums may make


class _ReachedError(Exception):
    """The cut is reached, so that the layers behind it need not run."""


@dataclass(frozen=True)
class Cut:
    """A module of a backbone: frozen layers alone before it, and its output all that follows sees.

    ``name`` is as in ``named_modules`` of the backbone's network. ``shape`` is that of its output
    for one image, whose channels are at ``channel_axis``. ``tensors`` are the names of all
    parameters and buffers that the output may depend on.
    """

    name: str
    shape: tuple[int, ...]
    channel_axis: int
    tensors: tuple[str, ...]

    def early_tensors(self, backbone: Backbone) -> dict[str, Tensor]:
        """Return what the output depends on, by name."""
        return {name: _tensor(backbone.model, name) for name in self.tensors}

    def early_norms(self, backbone: Backbone) -> list[tuple[str, _BatchNorm]]:
        """Return the batch norms that run before the cut, by name."""
        owners = sorted({name.rpartition(".")[0] for name in self.tensors})
        modules = [(name, backbone.model.get_submodule(name)) for name in owners]
        return [(name, module) for name, module in modules if isinstance(module, _BatchNorm)]


def find_cut(backbone: Backbone, image_size: int) -> Cut:
    """Find the last place behind which everything that trains is.

    The order of the modules and what each depends on are read from a run on the meta device. Then
    the cut is tried: the layers behind it must compute from its output alone what the whole network
    does, though they are given another image. Raise `ValueError` if nothing is frozen, or there is
    no such place.
    """
    network = backbone.model
    frozen = {name for name, item in network.named_parameters() if not item.requires_grad}
    calls, twin = backbone.probe(_recorder(backbone)).run(image_size, gradients=True)
    names = [name for name, _ in calls]
    trained = {
        name.rpartition(".")[0] for name, item in network.named_parameters() if item.requires_grad
    }
    # What ends behind the first trained layer depends on it, but for branches beside it.
    end = next((place for place, name in enumerate(names) if name in trained), len(names))
    tries = 0
    for place in reversed(range(end)):
        name, output = calls[place]
        if not isinstance(output, Tensor) or output.ndim < 2 or len(output) != 2:
            continue
        needed = reached_parameters(output, twin)
        if not needed or not needed <= frozen or names.count(name) > 1:
            continue
        tries += 1
        if _is_enough(backbone, name, image_size):
            channels_last = output.ndim == 3 or getattr(network, "output_fmt", "") == "NHWC"
            return Cut(
                name,
                tuple(output.shape[1:]),
                output.ndim - 2 if channels_last else 0,
                (*sorted(needed), *_early_buffers(network, name, names[: place + 1])),
            )
        if tries == _MOST_TRIES:
            break
    raise ValueError(
        f"the frozen layers of {backbone.name!r} must end at one place, but"
        + (" nothing of it is frozen" if not frozen else " later layers see more than one output")
        + ". Freeze other groups, or leave `precompute` out."
    )


def run_early(backbone: Backbone, cut: str, run: Callable[[], object]) -> Tensor:
    """Return what a module of a backbone gives when ``run`` runs the whole; the rest is skipped."""
    found: list[Tensor] = []

    def stop(_: nn.Module, __: Any, output: Tensor) -> None:
        found.append(output)
        raise _ReachedError

    with _hooked(backbone, cut, stop), suppress(_ReachedError):
        run()
    return _the_one(found, cut)


def run_late(backbone: Backbone, early: EarlyOutputs) -> Tensor:
    """Compute pooled features ``(batch, num_features)`` from what the early layers gave.

    The early layers run once on an empty image, so that whatever later layers read of its size is
    right; their output is then replaced.
    """
    found: list[Tensor] = []

    def replace(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        given = early.outputs.to(output.dtype)
        if output.ndim == 4 and output.is_contiguous(memory_format=torch.channels_last):
            given = given.contiguous(memory_format=torch.channels_last)
        found.append(given)
        return given

    size = early.image_size
    like = next(backbone.parameters())
    empty = torch.zeros(1, backbone.num_channels, size, size, device=like.device, dtype=like.dtype)
    with _hooked(backbone, early.cut, replace):
        features = cast(Tensor, backbone(empty))
    _the_one(found, early.cut)
    return features


def _the_one(found: list[Tensor], cut: str) -> Tensor:
    if len(found) != 1:
        raise ConfigurationError(
            f"The layers up to `{cut}` must run once per image, but ran {len(found)} times. Leave"
            " `precompute` out for this network."
        )
    return found[0]


@contextmanager
def _hooked(backbone: Backbone, cut: str, hook: Callable[..., Any]) -> Iterator[None]:
    handle = backbone.model.get_submodule(cut).register_forward_hook(hook)
    # A compiled network would not call the hook.
    eager: AbstractContextManager[Any] = (
        nullcontext() if torch.compiler.is_compiling() else torch.compiler.set_stance("force_eager")
    )
    try:
        with eager:
            yield
    finally:
        handle.remove()


def _recorder(backbone: Backbone) -> Callable[[nn.Module, Tensor], list[tuple[str, Any]]]:
    """Return a function that runs a network, and lists its modules and outputs as they end."""

    def record(network: nn.Module, images: Tensor) -> list[tuple[str, Any]]:
        calls: list[tuple[str, Any]] = []

        def note(name: str, _: nn.Module, __: Any, output: Any) -> None:
            calls.append((name, output))

        handles = [
            module.register_forward_hook(partial(note, name))
            for name, module in network.named_modules()
            if name
        ]
        try:
            backbone.pooled(network, images)
        finally:
            for handle in handles:
                handle.remove()
        return calls

    return record


def _is_enough(backbone: Backbone, cut: str, image_size: int) -> bool:
    """Try whether the output of a module is all that later layers see of an image."""
    device = next(backbone.parameters()).device
    shape = (2, backbone.num_channels, image_size, image_size)
    images = torch.randn(shape, generator=seeded_generator(0)).to(device)
    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    try:
        with torch.no_grad():
            early = run_early(backbone, cut, lambda: backbone(images)).clone()
            whole = backbone(images)
            late = run_late(backbone, EarlyOutputs(early, cut, image_size))
    except (RuntimeError, ValueError, IndexError):  # shapes of the two images do not go together
        return False
    finally:
        for module, mode in modes:
            module.training = mode
    return late.shape == whole.shape and torch.allclose(late, whole, rtol=_CLOSE, atol=_CLOSE)


def _early_buffers(network: nn.Module, cut: str, called: list[str]) -> list[str]:
    """Name the buffers of modules that end up to the cut, and of those that it is in."""
    inside = {"", *called, *(cut.rsplit(".", depth)[0] for depth in range(1, cut.count(".") + 1))}
    return sorted(
        f"{name}.{own}".lstrip(".")
        for name, module in network.named_modules()
        if name in inside
        for own, _ in module.named_buffers(recurse=False)
    )


def _tensor(network: nn.Module, name: str) -> Tensor:
    owner, _, own = name.rpartition(".")
    return cast(Tensor, getattr(network.get_submodule(owner), own))
