"""Batch norm: store the statistics of new data without changing what a model computes."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def trained_norms(root: nn.Module) -> list[_BatchNorm]:
    """List the batch norms below ``root`` whose weights train and which store statistics."""
    return [
        module
        for module in root.modules()
        if isinstance(module, _BatchNorm)
        and module.running_mean is not None
        and module.weight is not None
        and module.weight.requires_grad
    ]


@torch.no_grad()
def measure_inputs(norms: Sequence[_BatchNorm], run: Callable[[], object]) -> Tensor:
    """Call ``run`` and sum up what the norms see meanwhile.

    Return for each channel of all norms in turn the number of values, their sum, and the sum of
    their squares. Shape ``(3, channels)``, ``float64`` on the CPU, so that the sums of several
    processes may be added up.
    """
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms}

    def add(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].detach().transpose(0, 1).flatten(1).float()
        var, mean = (part.cpu().double() for part in torch.var_mean(values, dim=1, correction=0))
        held = sums[cast(_BatchNorm, norm)]
        held += values.shape[1] * torch.stack([torch.ones_like(mean), mean, var + mean.square()])

    handles = [norm.register_forward_pre_hook(add) for norm in norms]
    try:
        # A compiled model would not call the hooks.
        with torch.compiler.set_stance("force_eager"):
            run()
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat(list(sums.values()), dim=1) if sums else torch.zeros(3, 0)


@torch.no_grad()
def store_statistics(norms: Sequence[_BatchNorm], sums: Tensor) -> None:
    """Store the statistics of what ``measure_inputs`` saw, and keep what the norms compute.

    With stored statistics ``m, v`` and new ones ``m', v'``, the weight becomes
    ``w sqrt((v' + eps) / (v + eps))`` and the bias ``b + w (m' - m) / sqrt(v + eps)``: in eval mode
    nothing changes, and in train mode, where the statistics are those of a batch of such data, the
    output is now about the same. Norms that saw fewer than 2 values stay as they are.

    >>> norm = nn.BatchNorm1d(1).eval()
    >>> rows = torch.tensor([[8.0], [12.0]])
    >>> store_statistics([norm], measure_inputs([norm], lambda: norm(rows)))
    >>> norm.running_mean.item(), round(norm(rows)[0].item(), 3), round(norm.bias.item(), 3)
    (10.0, 8.0, 10.0)
    """
    parts = torch.split(sums, [norm.num_features for norm in norms], dim=1)
    for norm, part in zip(norms, parts, strict=True):
        count = part[0]
        if count[0] < 2:
            continue
        new_mean = part[1] / count
        # Unbiased, as training stores it.
        new_var = (part[2] / count - new_mean.square()).clamp_min(0) * count / (count - 1)
        mean, var = (
            cast(Tensor, held).cpu().double() for held in (norm.running_mean, norm.running_var)
        )
        weight, deviation = norm.weight.cpu().double(), (var + norm.eps).sqrt()
        norm.bias.add_((weight * (new_mean - mean) / deviation).to(norm.bias))
        norm.weight.copy_(weight * (new_var + norm.eps).sqrt() / deviation)
        cast(Tensor, norm.running_mean).copy_(new_mean)
        cast(Tensor, norm.running_var).copy_(new_var)
