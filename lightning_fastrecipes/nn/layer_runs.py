"""Running a network once, and what each of its layers did."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(eq=False)
class LayerRun:
    """One time that a module ran: its output, and its multiply-adds without those of its parts."""

    module: nn.Module
    start: int
    of_parts: int = 0
    work: int = 0
    shape: tuple[int, ...] | None = None
    mean: float = math.nan
    std: float = math.nan


@torch.no_grad()
def layer_runs(model: nn.Module, inputs: Any) -> list[LayerRun]:
    """Run a model, and return what its layers did, in order."""
    open_runs, done = list[LayerRun](), list[LayerRun]()

    def enter(module: nn.Module, _inputs: Any) -> None:
        open_runs.append(LayerRun(module, counter.get_total_flops()))

    def leave(module: nn.Module, _inputs: Any, output: Any) -> None:
        run = open_runs.pop()
        work = (counter.get_total_flops() - run.start) // 2
        run.work = work - run.of_parts
        if open_runs:
            open_runs[-1].of_parts += work
        if not is_layer(module) and not run.work:
            return
        first = output[0] if isinstance(output, (tuple, list)) and output else output
        if isinstance(first, Tensor):
            run.shape = tuple(first.shape)
            if first.device.type != "meta":
                values = first.float()
                run.mean, run.std = values.mean().item(), values.std(correction=0).item()
        done.append(run)

    handles = []
    for module in model.modules():
        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    # The fast path of torch's attention calls no parts and is not counted.
    fast, counter = torch.backends.mha.get_fastpath_enabled(), FlopCounterMode(display=False)
    torch.backends.mha.set_fastpath_enabled(False)
    # Torch's counter fails where a module is given a parameter of another, as it would be trained.
    trained = [item for item in model.parameters() if item.requires_grad]
    for item in trained:
        item.requires_grad_(False)
    try:
        with counter:
            model(inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for item in trained:
            item.requires_grad_()
        for handle in handles:
            handle.remove()
    return done


def is_layer(module: nn.Module) -> bool:
    """Whether a module has no parts, or parameters of its own beside them."""
    return any(True for _ in own_parameters(module)) or not any(True for _ in module.children())


def own_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    """Return the parameters of a module without those of its parts."""
    return module.parameters(recurse=False)


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
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
