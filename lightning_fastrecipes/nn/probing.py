"""Running a network on images without data: shapes, sizes and gradients before training."""

import bisect
import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.protocols import HasInputSpec, TakesImageSizes

_FOLDED = (12, 48)
"""Widths of a first convolution that sees blocks of 2 x 2 or 4 x 4 pixels in three channels."""

_CLASSIFIERS = ("fc", "classifier", "head", "heads", "last_linear")
_COMPUTING = (nn.Linear, nn.Conv2d)
_IMAGENET = {1000, 1001, 21841, 21843}

Forward = Callable[[nn.Module, Tensor], Any]


def check_network(model: object) -> None:
    """Raise a ValueError unless a network of one's own can be run, copied and trained."""
    if not isinstance(model, nn.Module):
        raise ValueError(  # noqa: TRY004
            "The backbone must be the name of a model of timm, or a network (`torch.nn.Module`),"
            f" got {shown(model)}. Build the network, and give it."
        )
    refuse_scripts(model)
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.UninitializedParameter):
            raise ValueError(  # noqa: TRY004
                f"The backbone must know its shapes, but '{name}' does not before it has run. Run"
                " the network on a batch of images first."
            )
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            raise ValueError(
                f"The weights of the backbone must be float32, but '{name}' is {parameter.dtype}."
                " Call its `float()`; `Trainer(precision=...)` says how it computes."
            )


def refuse_scripts(model: nn.Module) -> None:
    """Raise a ValueError if a network or a part of it is one of TorchScript."""
    for name, part in model.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            what = f"its part '{name}'" if name else "it"
            raise ValueError(  # noqa: TRY004
                f"The network must be one of Python, but {what} is a TorchScript module (`torch"
                ".jit`), of which no layers can be told apart. Build the network that was scripted,"
                " and load its `state_dict()`."
            )


class Probe:
    """Run copies of a network on empty images, leaving the network as it is.

    The copy lives on the meta device, which computes shapes and no values. A network that cannot
    run there (one that looks at values) is tried once more on a real copy, if ``real``. ``forward``
    runs the network on images of so many ``channels``.
    """

    def __init__(
        self, module: nn.Module, forward: Forward, channels: int = 3, *, real: bool = False
    ) -> None:
        self._module = module
        self._forward = forward
        self._copiers = [meta_twin] + ([copy.deepcopy] if real else [])
        self._twins: list[nn.Module] = []
        self._taken: set[int] = set()
        self._channels = channels

    def run(self, size: int, *, gradients: bool = False) -> tuple[Any, nn.Module]:
        """Run the network once, and return its output and the copy that was run.

        Images are ``size`` pixels square. With ``gradients`` the copy is in train mode and the
        graph that gradients flow through is built; without, it is faster. Raises ValueError if the
        network does not take such images.
        """
        causes = []
        for position in range(len(self._copiers)):
            twin = self._twin(position).train(gradients)
            device = next((item.device for item in twin.parameters()), torch.device("cpu"))
            try:
                with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(gradients):
                    images = torch.zeros(2, self._channels, size, size, device=device)
                    output = self._forward(twin, images)
            except Exception as error:  # whatever a network may raise
                causes.append(error)
            else:
                self._taken.add(size)
                return output, twin
        reason = str(causes[-1]).strip().splitlines() or [type(causes[-1]).__name__]
        raise ValueError(
            f"The backbone must take images of {size} x {size} pixels in"
            f" {self._channels} channels, but it fails on them: {reason[0][:200]}. Give another"
            " image size; or, if it is of other channels, `backbone={'name': ..., 'in_channels':"
            " ...}` for a model of timm, and an attribute `in_channels` of a network of your own."
        ) from causes[-1]

    def _twin(self, position: int) -> nn.Module:
        if position == len(self._twins):
            twin: nn.Module = self._copiers[position](self._module)
            self._twins.append(twin.requires_grad_())
        return self._twins[position]

    def takes(self, size: int) -> bool:
        """Return whether the network takes square images of this side in pixels."""
        if size not in self._taken and size >= 1:
            with contextlib.suppress(ValueError):
                self.run(size)
        return size in self._taken

    def check_least(self, name: str, sizes: Sequence[int], size: int) -> None:
        """Raise a ValueError for a size that is not taken, with the least of ``sizes`` that is.

        ``sizes`` grow; one that is larger than a size that is taken is taken as well.
        """
        try:
            self.run(size)
        except ValueError as error:
            # Only what is known to be taken says that it is the size.
            if not sizes or size >= sizes[-1] or not self.takes(sizes[-1]):
                raise
            least = sizes[bisect.bisect_left(sizes, True, key=self.takes)]
            raise ValueError(
                f"`image_size` must be at least {least} pixels for {name!r}, whose layers make an"
                f" image smaller step by step, got {size}. Use {least} or more."
            ) from error


def reached_parameters(output: Any, module: nn.Module) -> set[str]:
    """Name the parameters of a module that get a gradient from its output, one or several tensors.

    The autograd graph alone is read.

    >>> layer = torch.nn.Linear(2, 2)
    >>> sorted(reached_parameters(layer(torch.zeros(1, 2)), layer))
    ['bias', 'weight']
    """
    outputs = [output] if isinstance(output, Tensor) else list(output)
    waiting = [item.grad_fn for item in outputs if item.grad_fn is not None]
    seen: set[Any] = set(waiting)
    leaves: set[int] = set()
    while waiting:
        node: Any = waiting.pop()
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return {name for name, item in module.named_parameters() if id(item) in leaves}


def taken_sizes(module: nn.Module, sizes: Iterable[int]) -> list[int]:
    """Round image sizes in pixels to those that a module takes, trying each of them.

    A module that is no ``TakesImageSizes`` is run on empty images, which changes nothing of it.
    Raises ValueError if the module does not take a size.
    """
    wanted = list(sizes)
    if isinstance(module, TakesImageSizes):
        return [module.nearest_image_size(size) for size in wanted]
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    device = next((item.device for item in module.parameters()), torch.device("cpu"))
    dtype = torch.uint8 if isinstance(module, HasInputSpec) else torch.float32
    try:
        for size in wanted:
            shape = (2, num_channels(module), size, size)
            images = torch.zeros(shape, device=device, dtype=dtype)
            try:
                with torch.no_grad(), torch.random.fork_rng(devices=[]):
                    module(images)
            except Exception as error:  # whatever a network may raise
                raise ValueError(
                    f"{type(module).__name__} must take images of {size} x {size} px, but it"
                    f" fails on them: {error}. Give another size, or another network."
                ) from error
    finally:
        for part, mode in modes:
            part.training = mode
    return wanted


def small_size(stride: int) -> int:
    """Return a small size that a network may take: four of its coarsest cells to a side."""
    return 4 * stride


def size_rule(probe: Probe, image_size: int, stride: int) -> tuple[int, bool]:
    """Find out which image sizes a network takes: a multiple, and whether only ``image_size``.

    ``stride`` is the side of its coarsest cell in pixels.
    """
    # A small size first: resizing starts there, and it is cheap.
    others = [small_size(stride), *(image_size + steps * stride for steps in (1, 2, 3, 4))]
    base = next((size for size in others if size != image_size and probe.takes(size)), None)
    if base is None:
        return 1, True
    if probe.takes(base + 1):
        return 1, False
    multiple = stride
    while multiple % 2 == 0 and multiple > 2 and probe.takes(base + multiple // 2):
        multiple //= 2
    return (multiple if image_size % multiple == 0 else 1), False


def num_channels(module: nn.Module) -> int:
    """Return how many channels the images of a network have, as far as it says so, or else 3.

    Its ``input_spec`` says so, its ``in_channels``, or the first convolution of a model of timm.
    """
    if isinstance(module, HasInputSpec):
        return len(module.input_spec.mean)
    count = getattr(module, "in_channels", None)
    if isinstance(count, int):
        return count
    named = dict(module.named_parameters())
    found = [named[name] for name in first_convolutions(module) if name in named]
    # Some embed patches by a linear layer, whose width says nothing of channels.
    width = found[0].shape[1] if found and found[0].ndim == 4 else 3
    return 3 if width in _FOLDED else int(width)


def first_convolutions(module: nn.Module) -> list[str]:
    """Name the weights of a timm model that see the channels of images."""
    named = getattr(module, "pretrained_cfg", {}).get("first_conv") or ()
    return [f"{name}.weight" for name in ([named] if isinstance(named, str) else named)]


def meta_twin(module: nn.Module) -> nn.Module:
    """Copy the structure of a network, with tensors that hold no data."""
    memo: dict[int, Any] = {}
    for tensor in _tensors(module):
        empty = torch.empty_like(tensor.detach(), device="meta")
        memo[id(tensor)] = nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(module, memo)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
    for part in module.modules():
        yield from (value for value in vars(part).values() if isinstance(value, Tensor))


def own_classifier(network: nn.Module) -> str | None:
    """Return the part that classifies ImageNet, where a network still ends in it."""
    for name in _CLASSIFIERS:
        parts = getattr(network, name, None)
        if isinstance(parts, nn.Module):
            sizes = [one.weight.shape[0] for one in parts.modules() if isinstance(one, _COMPUTING)]
            if sizes and sizes[-1] in _IMAGENET:
                return name
    return None
