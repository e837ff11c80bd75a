"""What a begun epoch has measured and drawn so far, which Lightning's checkpoints do not hold."""

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lightning_fastrecipes import _lightning as pl

EpochState = dict[str, Any]


def take_epoch_state(trainer: pl.Trainer, pl_module: pl.LightningModule) -> list[EpochState]:
    """Return what each process has logged, measured and drawn in this epoch, as plain values.

    Every process must call it.
    """
    mine = {
        "logged": _logged(trainer),
        "metrics": _metrics(pl_module),
        "random": _random_numbers(pl_module.device),
        "epoch_start": _set_at_epoch_start(trainer, pl_module),
    }
    if trainer.world_size == 1:
        return [mine]
    found: list[EpochState] = [{} for _ in range(trainer.world_size)]
    torch.distributed.all_gather_object(found, mine)
    return found


def state_of_process(states: list[EpochState], rank: int, num_processes: int) -> EpochState:
    """Return what a process goes on with.

    On another number of processes the first one takes all sums and metrics, and random numbers
    begin anew.
    """
    if len(states) == num_processes:
        return states[rank]
    if not states:
        return {}
    common = {"epoch_start": states[0].get("epoch_start", {})}
    if rank > 0:
        return common
    sums: dict[str, Tensor] = dict(states[0]["logged"])
    for other in states[1:]:
        for name, value in other["logged"].items():
            sums[name] = sums[name] + value if name in sums else value
    metrics: dict[str, list[Any]] = {}
    for state in states:
        for name, held in state["metrics"].items():
            metrics.setdefault(name, []).append(held)
    return common | {"logged": sums, "metrics": metrics}


def put_back_before_training(
    state: EpochState, trainer: pl.Trainer, pl_module: pl.LightningModule
) -> None:
    """Restore metrics, random numbers and what an epoch begins with, before the first batch."""
    _put_back_epoch_start(state.get("epoch_start", {}), trainer, pl_module)
    known = {name: part for name, part in pl_module.named_modules() if isinstance(part, Metric)}
    for name, held in state.get("metrics", {}).items():
        if name in known:
            parts = held if isinstance(held, list) else [held]
            _put_back_metric(known[name], parts, pl_module.device)
    _put_back_random_numbers(state.get("random", {}), pl_module.device)


def add_to_logged(state: EpochState, trainer: pl.Trainer) -> None:
    """Add what was logged before the fit stopped to what the first batch after it has logged."""
    for name, (total, count) in state.get("logged", {}).items():
        metric = _results(trainer).get(name)
        if metric is None:
            continue
        meta, before = metric.meta, total.to(metric.value)
        if meta.is_mean_reduction:
            # In this order the sum is what it would have been, to the last bit.
            metric.value = before + metric.value
            metric.cumulated_batch_size = metric.cumulated_batch_size + int(count)
        elif meta.is_sum_reduction:
            metric.value = before + metric.value
        elif meta.is_max_reduction or meta.is_min_reduction:
            metric.value = meta.reduce_fx(before, metric.value)


def _put_back_metric(metric: Metric, parts: list[Any], device: torch.device) -> None:
    """Restore the state of a metric; that of several processes as it would be gathered."""
    for key, first in parts[0][0].items():
        held = [values[key] for values, _ in parts]
        # Private: torchmetrics says by it how the states of processes become one.
        reduce = metric._reductions[key]
        if isinstance(first, list):
            value: Any = [one for values in held for one in values]
        elif len(held) > 1 and callable(reduce):
            value = torch.cat(held) if reduce is dim_zero_cat else reduce(torch.stack(held))
        else:
            value = first
        setattr(metric, key, _moved(value, device))
    # Private: torchmetrics weighs means by it, and offers no other way to set it.
    metric._update_count = sum(int(count) for _, count in parts)


def _set_at_epoch_start(trainer: pl.Trainer, module: nn.Module) -> dict[str, Any]:
    """Return what other callbacks set when an epoch starts, which a resumed one does not do.

    These are layers that are unfrozen within a fit, and how many batches make a step.
    """
    norms = {name: part for name, part in module.named_modules() if isinstance(part, _BatchNorm)}
    return {
        "trained": [name for name, one in module.named_parameters() if one.requires_grad],
        "tracking": [name for name, part in norms.items() if part.track_running_stats],
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
    }


def _put_back_epoch_start(state: EpochState, trainer: pl.Trainer, module: nn.Module) -> None:
    if not state:  # of an earlier version
        return
    for name, parameter in module.named_parameters():
        parameter.requires_grad = name in state["trained"]
    for name, part in module.named_modules():
        if isinstance(part, _BatchNorm):
            part.track_running_stats = name in state["tracking"]
    trainer.accumulate_grad_batches = state["accumulate_grad_batches"]


def _results(trainer: pl.Trainer) -> dict[str, Any]:
    # Private: Lightning keeps the sums of an epoch here alone, and in no checkpoint.
    # `test_what_an_epoch_has_logged_is_whole_after_a_resume` fails if that changes.
    results: dict[str, Any] = trainer.fit_loop.epoch_loop._results
    return results


def _logged(trainer: pl.Trainer) -> dict[str, Tensor]:
    """Return sum and count of every value that is logged once an epoch, each ``(2,)``, float64."""
    found = {}
    for name, metric in _results(trainer).items():
        if metric.is_tensor and metric.meta.on_epoch:
            count = metric.cumulated_batch_size if metric.meta.is_mean_reduction else 0
            values = [float(metric.value), float(count)]
            found[name] = torch.tensor(values, dtype=torch.float64)
    return found


def _metrics(module: nn.Module) -> dict[str, Any]:
    """Return states and counts of the metrics that the epoch has updated."""
    return {
        name: ({k: _moved(v, torch.device("cpu")) for k, v in part.metric_state.items()}, count)
        for name, part in module.named_modules()
        if isinstance(part, Metric) and (count := int(part.update_count)) > 0
    }


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to(device, copy=True)
    return [_moved(one, device) for one in value]


def _random_numbers(device: torch.device) -> dict[str, Any]:
    name, words, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [str(name), np.asarray(words).tolist(), *rest],
        "python": list(random.getstate()),
    }


def _put_back_random_numbers(state: dict[str, Any], device: torch.device) -> None:
    if not state:
        return
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    name, words, *rest = state["numpy"]
    np.random.set_state((name, np.array(words, dtype=np.uint32), *rest))
    version, numbers, normal = state["python"]
    random.setstate((version, tuple(numbers), normal))
