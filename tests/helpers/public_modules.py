"""Small modules in the style of public projects, which know nothing of this package.

Each has ``samples(count)``, what its loaders are made of.
"""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

SIDE = 8


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def whole(high: int, *shape: int, seed: int = 1) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


class Public(pl.LightningModule):
    """One network, one loss, one optimizer."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__()
        self.lr = lr
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = self.network()

    def network(self) -> nn.Module:
        raise NotImplementedError

    def forward(self, inputs: Tensor) -> Any:
        return self.net(inputs)

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        raise NotImplementedError

    def split(self, batch: Any) -> tuple[Tensor, Tensor]:
        return tuple(batch.values()) if isinstance(batch, dict) else (batch[0], batch[1])

    def step(self, batch: Any) -> Tensor:
        inputs, targets = self.split(batch)
        return self.loss(self(inputs), targets)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.step(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.step(batch), batch_size=len(self.split(batch)[0]))

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return self(self.split(batch)[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)

    collate: Any = None

    @classmethod
    def loader(
        cls, count: int = 12, batch_size: int = 4, kind: type[DataLoader] = DataLoader
    ) -> DataLoader:
        return kind(cls.samples(count), batch_size=batch_size, collate_fn=cls.collate)

    @classmethod
    def val_loaders(cls) -> Any:
        return cls.loader()

    @classmethod
    def samples(cls, count: int) -> Any:
        return list(zip(numbers(count, 3, SIDE, SIDE), cls.targets(count), strict=True))

    @classmethod
    def targets(cls, count: int) -> Tensor:
        raise NotImplementedError


def pooled(num_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, num_outputs))


class ImageNet(Public):
    """Class logits, as of torchvision's and timm's examples; raw logits in ``predict_step``."""

    def network(self) -> nn.Module:
        return pooled(3)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)

    @classmethod
    def targets(cls, count: int) -> Tensor:
        return whole(3, count)


class LogsElsewhere(ImageNet):
    """Names of metrics as of the hydra template."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", self.step(batch), batch_size=len(batch[0]))


class SoftmaxInside(ImageNet):
    """Probabilities out of ``forward``, and their log loss."""

    def forward(self, inputs: Tensor) -> Tensor:
        return self.net(inputs).softmax(1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.nll_loss(outputs.log(), targets)


class CatsAndDogs(Public):
    """One logit, sigmoid in ``predict_step``."""

    def network(self) -> nn.Module:
        return pooled(1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        wanted = targets.float().view_as(outputs)
        return functional.binary_cross_entropy_with_logits(outputs, wanted)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(self.split(batch)[0]).sigmoid()

    @classmethod
    def targets(cls, count: int) -> Tensor:
        return whole(2, count)


class Tags(CatsAndDogs):
    """A logit for each of three labels, sigmoid in ``predict_step``."""

    def network(self) -> nn.Module:
        return pooled(3)

    @classmethod
    def targets(cls, count: int) -> Tensor:
        return whole(2, count, 3).float()


class Ages(Public):
    """One number an image, of shape ``(batch,)``."""

    def network(self) -> nn.Module:
        return nn.Sequential(pooled(1), nn.Flatten(0))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.l1_loss(outputs, targets)

    @classmethod
    def targets(cls, count: int) -> Tensor:
        return numbers(count, seed=2)


class Streets(Public):
    """A class for each pixel, by a convolution that sees one pixel."""

    def network(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 4, 1))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(self.split(batch)[0]).softmax(1)

    @classmethod
    def targets(cls, count: int) -> Tensor:
        return whole(4, count, SIDE, SIDE)


class Masks(CatsAndDogs):
    """One logit for each pixel, of shape ``(batch, height, width)``; dictionaries as batches."""

    def network(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 1, 1), nn.Flatten(1, 2))

    @classmethod
    def samples(cls, count: int) -> Any:
        pairs = zip(numbers(count, 3, SIDE, SIDE), whole(2, count, SIDE, SIDE), strict=True)
        return [{"image": image, "mask": mask} for image, mask in pairs]


class Embedder(ImageNet):
    """A dictionary out of ``forward``, another one out of ``predict_step``."""

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        features = self.net[:3](inputs)
        return {"embedding": features, "logits": self.net[3](features)}

    def loss(self, outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs["logits"], targets)

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        found = self(self.split(batch)[0])
        return {"probs": found["logits"].softmax(1), "rows": torch.arange(len(batch[0]))}


class AutoEncoder(Public):
    """Images out of images."""

    def network(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 2, 1), nn.Tanh(), nn.Conv2d(2, 3, 1))

    def split(self, batch: Any) -> tuple[Tensor, Tensor]:
        return batch[0], batch[0]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.mse_loss(outputs, targets)

    @classmethod
    def targets(cls, count: int) -> Tensor:
        return whole(3, count)


class Reviews(Public):
    """A class for each row of token indices; dictionaries as batches, as of Hugging Face."""

    def network(self) -> nn.Module:
        return nn.Sequential(nn.EmbeddingBag(20, 6), nn.Linear(6, 2))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)

    @classmethod
    def samples(cls, count: int) -> Any:
        pairs = zip(whole(20, count, 5), whole(2, count), strict=True)
        return [{"input_ids": tokens, "labels": label} for tokens, label in pairs]


class NextToken(Public):
    """The next of 20 tokens at each place of a row."""

    def network(self) -> nn.Module:
        return nn.Sequential(nn.Embedding(20, 6), nn.Linear(6, 20))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs.movedim(-1, 1), targets)

    @classmethod
    def samples(cls, count: int) -> Any:
        rows = whole(20, count, 9)
        return list(zip(rows[:, :-1], rows[:, 1:], strict=True))


class Gan(ImageNet):
    """Two networks and two optimizers, stepped by hand."""

    automatic_optimization = False

    def network(self) -> nn.Module:
        judge = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 1))
        return nn.ModuleDict({"maker": nn.Linear(4, 3 * SIDE * SIDE), "judge": judge})

    def forward(self, noise: Tensor) -> Tensor:
        return self.net["maker"](noise).view(-1, 3, SIDE, SIDE)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        images, loss = batch[0], functional.binary_cross_entropy_with_logits
        of_maker, of_judge = self.optimizers()
        faked = self(torch.randn(len(images), 4))
        for optimizer, real in ((of_maker, faked), (of_judge, images)):
            found = self.net["judge"](real)
            optimizer.zero_grad()
            self.manual_backward(loss(found, torch.ones_like(found)))
            optimizer.step()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.net["judge"](batch[0]).mean())

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.net[name].parameters(), lr=0.01) for name in self.net]


MODULES = {
    kind.__name__: kind
    for kind in (
        ImageNet, LogsElsewhere, SoftmaxInside, CatsAndDogs, Tags, Ages, Streets, Masks, Embedder,
        AutoEncoder, Reviews, NextToken, Gan,
    )
}  # fmt: skip
