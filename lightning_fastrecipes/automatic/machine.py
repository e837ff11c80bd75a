"""What a step costs on this machine, before anything is planned."""

import time
from typing import Any

import torch
from torch import nn

from lightning_fastrecipes.batches import TableInputs

_STEPS = 2


def seconds_per_step(data: Any, model: Any, batch_size: int) -> float:
    """Return how long an optimizer step takes, of all layers, by two of them after one to warm up.

    The model is of a table, which takes its first batch, or of images, whose backbone takes pixels
    that are drawn; its weights are the same afterwards.
    """
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).train()
    trained = [parameter for parameter in model.parameters() if parameter.is_floating_point()]
    frozen = [parameter for parameter in trained if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        optimizer = torch.optim.AdamW(trained, lr=0.0)
        found = [_step(data, model, optimizer, batch_size, device) for _ in range(1 + _STEPS)]
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
        model.load_state_dict(before)
        model.to("cpu")
    return sum(found[1:]) / _STEPS


def _step(
    data: Any, model: Any, optimizer: torch.optim.Optimizer, batch_size: int, device: torch.device
) -> float:
    started = time.perf_counter()
    optimizer.zero_grad()
    if hasattr(data, "encoded"):
        inputs, targets, *_ = next(iter(data.train_dataloader()))
        inputs = TableInputs(*(part.to(device) for part in inputs))
        loss = model.loss(model(inputs), targets.to(device))
    else:
        backbone: nn.Module = model.backbone
        pixels = torch.rand(batch_size, 3, data.image_size, data.image_size, device=device)
        loss = backbone(pixels).float().square().mean()
    loss.backward()
    optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
