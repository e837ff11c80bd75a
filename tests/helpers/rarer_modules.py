"""More modules in the style of public projects: odd batches, steps by hand, parts built late."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from helpers.public_modules import MODULES, SIDE, ImageNet, Public, numbers, pooled, whole


class VisionTransformer(ImageNet):
    """A network of timm's."""

    def network(self) -> nn.Module:
        sizes = {"img_size": SIDE, "patch_size": 4}
        return timm.create_model("test_vit", num_classes=3, **sizes)


class BuiltLate(ImageNet):
    """Its network is built in ``configure_model``."""

    def network(self) -> None:
        return None

    def configure_model(self) -> None:
        if self.net is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.net = pooled(3)


class SeveralLoaders(ImageNet):
    """Several validation loaders, with prefixes of its own in place of Lightning's."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        name = ("val_loss", "shifted/loss")[dataloader_idx]
        self.log(name, self.step(batch), add_dataloader_idx=False, batch_size=4)

    @classmethod
    def val_loaders(cls) -> list[DataLoader]:
        return [cls.loader(), cls.loader(8)]


class Labelled(NamedTuple):
    image: Any
    label: Any


class NamedBatches(ImageNet):
    """Named tuples as batches."""

    def split(self, batch: Labelled) -> tuple[Tensor, Tensor]:
        return batch.image, batch.label

    @classmethod
    def samples(cls, count: int) -> Any:
        return [Labelled(*pair) for pair in super().samples(count)]


@dataclass
class Records:
    image: Tensor
    label: Tensor


class DataclassBatches(ImageNet):
    """Dataclasses as batches."""

    def split(self, batch: Records) -> tuple[Tensor, Tensor]:
        return batch.image, batch.label

    @staticmethod
    def collate(samples: list[Any]) -> Records:
        images, labels = zip(*samples, strict=True)
        return Records(torch.stack(images), torch.stack(labels))


class ByHand(ImageNet):
    """One optimizer and its schedule, stepped by hand."""

    automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        optimizer, loss = self.optimizers(), self.step(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(optimizer, gradient_clip_val=1.0, gradient_clip_algorithm="norm")
        optimizer.step()
        return loss.detach()


class MultiTask(ImageNet):
    """A class and a number for each image: a dictionary of targets, a tuple of outputs."""

    def network(self) -> nn.Module:
        return pooled(4)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        found = self.net(inputs)
        return found[:, :3], found[:, 3]

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        by_class = functional.cross_entropy(outputs[0], targets["kind"])
        return by_class + functional.mse_loss(outputs[1], targets["age"])

    @classmethod
    def targets(cls, count: int) -> Any:
        pairs = zip(whole(3, count), numbers(count, seed=2), strict=True)
        return [{"kind": kind, "age": age} for kind, age in pairs]


class Boxes(Public):
    """Lists of images of several sizes and of dictionaries, as torchvision's detectors have."""

    def network(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(0))

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [{"boxes": self.net(image)[None]} for image in images]

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        pairs = zip(outputs, targets, strict=True)
        return sum(functional.l1_loss(one["boxes"], two["boxes"]) for one, two in pairs)

    @classmethod
    def samples(cls, count: int) -> Any:
        boxes = numbers(count, 1, 4, seed=3)
        images = [numbers(3, SIDE, SIDE + number % 3, seed=number) for number in range(count)]
        return [(image, {"boxes": box}) for image, box in zip(images, boxes, strict=True)]

    @staticmethod
    def collate(samples: list[Any]) -> Any:
        return tuple(map(list, zip(*samples, strict=True)))


class SimClr(ImageNet):
    """Two views of each image, and no use for the labels that come with them."""

    def split(self, batch: Any) -> tuple[Any, Tensor]:
        return batch[0], batch[1]

    def step(self, batch: Any) -> Tensor:
        first, second = (functional.normalize(self(view)) for view in batch[0])
        alike = first @ second.T / 0.5
        return functional.cross_entropy(alike, torch.arange(len(alike)))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.step(batch), batch_size=4)

    @classmethod
    def samples(cls, count: int) -> Any:
        return [((image, image.flip(-1)), label) for image, label in super().samples(count)]


class Byol(SimClr):
    """A student, and a teacher that is its moving average."""

    def network(self) -> nn.Module:
        return nn.ModuleDict({"student": pooled(3), "teacher": pooled(3).requires_grad_(False)})

    def forward(self, inputs: Tensor) -> Tensor:
        return self.net["student"](inputs)

    def step(self, batch: Any) -> Tensor:
        first, second = batch[0]
        with torch.no_grad():
            wanted = self.net["teacher"](second)
        return -functional.cosine_similarity(self(first), wanted).mean()

    def on_before_zero_grad(self, optimizer: Any) -> None:
        teacher, student = (self.net[name].parameters() for name in ("teacher", "student"))
        with torch.no_grad():
            for old, new in zip(teacher, student, strict=True):
                old.lerp_(new, 0.1)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net["student"].parameters(), lr=self.lr, momentum=0.9)


class Diffusion(Public):
    """Draws times and noise within its step; ``forward`` takes both; batches are images alone."""

    def network(self) -> nn.Module:
        return nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, noisy: Tensor, times: Tensor) -> Tensor:
        return self.net(torch.cat([noisy, times.expand(-1, 1, SIDE, SIDE)], dim=1))

    def step(self, batch: Any) -> Tensor:
        noise, times = torch.randn_like(batch), torch.rand(len(batch), 1, 1, 1)
        return functional.mse_loss(self(batch * (1 - times) + noise * times, times), noise)

    def split(self, batch: Any) -> tuple[Any, Any]:
        return batch, None

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch, torch.ones(len(batch), 1, 1, 1))

    @classmethod
    def samples(cls, count: int) -> Any:
        return list(numbers(count, 3, SIDE, SIDE))


class Recurrent(Public):
    """Sequences in pieces: the state of one batch is where the next one begins."""

    state: Tensor | None = None

    def network(self) -> nn.Module:
        return nn.ModuleDict({"cell": nn.GRU(3, 5, batch_first=True), "out": nn.Linear(5, 1)})

    def forward(self, inputs: Tensor) -> Tensor:
        found, state = self.net["cell"](inputs, self.state)
        self.state = state.detach()
        return self.net["out"](found).squeeze(-1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.mse_loss(outputs, targets)

    def on_train_epoch_start(self) -> None:
        self.state = None

    on_validation_epoch_start = on_train_epoch_start

    @classmethod
    def samples(cls, count: int) -> Any:
        return list(zip(numbers(count, 6, 3), numbers(count, 6, seed=2), strict=True))


RARER: dict[str, Callable[..., Public]] = {
    kind.__name__: kind
    for kind in (
        VisionTransformer, BuiltLate, SeveralLoaders, NamedBatches, DataclassBatches, ByHand,
        MultiTask, Boxes, SimClr, Byol, Diffusion, Recurrent,
    )
}  # fmt: skip
ALL_MODULES = MODULES | RARER
