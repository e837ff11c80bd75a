"""Fit with weights spread over two gloo processes, and with whole ones, and note rates and weights.

``test_shards.py`` starts this script, which forks.
"""

import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from helpers.processes import fork_group
from helpers.trainers import QUIET
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, Subset, TensorDataset

import lightning_fastrecipes as fr

CALLBACKS = {
    "none": list,
    "SGDR": lambda: [fr.SGDR(1)],
    "OneCycle": lambda: [fr.OneCycle()],
    "StepSchedule": lambda: [fr.StepSchedule({0: 1.0, 1: 0.5})],
    "looking": lambda: [fr.EpochTable(), fr.FiniteLossCheck(), fr.RisingLossCheck()],
}


class Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
        self.is_spread = False

    def configure_model(self) -> None:
        if isinstance(self.trainer.strategy, ModelParallelStrategy) and not self.is_spread:
            fully_shard(self.net, mesh=self.device_mesh["data_parallel"])
            self.is_spread = True

    def training_step(self, batch, batch_idx) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Rates(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.seen += [group["lr"] for group in optimizer.param_groups]


def fit(rank: int, callbacks: list[pl.Callback], strategy: Any) -> dict[str, Any]:
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    mine = Subset(TensorDataset(x, x.argmax(1)), range(rank, 20, 2))
    module, rates = Module(), Rates()
    trainer = pl.Trainer(
        **(QUIET | {"devices": 2}), strategy=strategy, callbacks=[*callbacks, rates], max_epochs=3,
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(mine, batch_size=2))
    state = module.state_dict()
    whole = {
        n: one.full_tensor() if hasattr(one, "full_tensor") else one for n, one in state.items()
    }
    is_spread = any(hasattr(one, "full_tensor") for one in state.values())
    return {"rates": rates.seen, "weights": whole, "is_spread": is_spread}


def work(rank: int, folder: Path) -> None:
    found = {}
    for name, make in CALLBACKS.items():
        spread = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1)
        found[name] = [fit(rank, make(), "ddp"), fit(rank, make(), spread)]
    torch.save(found, folder / f"process-{rank}.pt")


if __name__ == "__main__":
    fork_group(2, work, Path(sys.argv[1]))
