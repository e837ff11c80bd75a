"""One model out of many: the mean of their weights, and batch norm measured again."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_fastrecipes.batches import num_rows


def average_state(states: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Average the weights of models of one shape, such as the snapshots of one training.

    Means are computed in ``float64`` and rounded to each tensor's own type; whole numbers, such as
    the counts of batch norm, are those of the last state. One state is held at a time, so that a
    generator bounds the memory. Raises ValueError if there is no state, or names or shapes differ.
    The averaged statistics of batch norm are not those of the averaged weights: measure them with
    :func:`reestimate_batch_norm`. Izmailov et al., *Averaging Weights Leads to Wider Optima*
    (2018).

    >>> average_state([{"w": torch.tensor([1.0])}, {"w": torch.tensor([4.0])}])
    {'w': tensor([2.5000])}
    """
    totals: dict[str, Tensor] = {}
    last: Mapping[str, Tensor] = {}
    count = 0
    for state in states:
        shapes = {name: value.shape for name, value in state.items()}
        if count and shapes != {name: value.shape for name, value in last.items()}:
            raise ValueError(
                "All states must have the same names and shapes. Average snapshots of one model;"
                " for different backbones, merge their predictions."
            )
        for name, value in state.items():
            if value.is_floating_point():
                totals[name] = (
                    totals.get(name, torch.zeros((), dtype=torch.float64)) + value.double()
                )
        last = state
        count += 1
    if not count:
        raise ValueError("There must be at least one state to average, got none.")
    return {
        name: (totals[name] / count).to(value.dtype) if name in totals else value.clone()
        for name, value in last.items()
    }


def moving_share(num_updates: int, decay: float) -> float:
    """Return how much the next weights count in a moving mean of ``num_updates`` others.

    As ``ExponentialMovingAverage`` of TensorFlow, the decay is at most ``(1 + n) / (10 + n)``: the
    mean remembers about the last ninth of the steps, until ``decay`` shortens its memory. The first
    weights replace all.

    >>> [round(moving_share(n, 0.9), 3) for n in (0, 1, 17, 1000)]
    [1.0, 0.818, 0.333, 0.1]
    """
    return 1 - min(decay, (1 + num_updates) / (10 + num_updates)) if num_updates else 1.0


def reestimate_batch_norm(
    model: nn.Module,
    batches: Iterable[Any],
    forward: Callable[[Any], Any] | None = None,
    part: nn.Module | None = None,
    *,
    with_dropout: bool = False,
) -> int:
    """Measure the statistics of batch norm again, over all samples equally; count the layers.

    Only layers that would update them in training are measured: those that the model keeps in eval
    mode after ``model.train()``, as frozen ones, stay as they are. All modes are restored.
    ``forward`` runs the model on a batch; by default on the inputs. Only layers of ``part`` are
    measured, if it is given. ``with_dropout`` says whether they see what dropout leaves, as in
    training, or all that they see in evaluation.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    norms = [
        module
        for module in (part or model).modules()
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats
    ]
    momenta = [norm.momentum for norm in norms]
    try:
        if not with_dropout:
            # Only the norms are in train mode: dropout would widen their inputs.
            for module in model.modules():
                module.training = module in norms
        for norm in norms:
            norm.reset_running_stats()
        num_seen = 0
        with torch.no_grad():
            for batch in batches if norms else ():
                # A norm keeps the mean over batches, to which each comes by its share of samples.
                num_seen += (count := num_rows(batch))
                for norm in norms:
                    norm.momentum = count / num_seen
                if forward is not None:
                    forward(batch)
                else:
                    model(cast(Tensor, batch[0] if isinstance(batch, (tuple, list)) else batch))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode
    return len(norms)
