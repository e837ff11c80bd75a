"""Each of our callbacks in one trainer with each of Lightning's."""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    BackboneFinetuning,
    BaseFinetuning,
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelPruning,
    StochasticWeightAveraging,
    WeightAveraging,
)
from pytorch_lightning.loggers.logger import DummyLogger
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import lightning_fastrecipes as fr
from helpers.trainers import QUIET
from lightning_fastrecipes._lightning import LIGHTNING
from lightning_fastrecipes.callbacks.schedule import Schedule
from lightning_fastrecipes.data.common.epoch_place import ResumableLoader

NUM_EPOCHS, STEPS, PEAK = 3, 4, 0.1


class Classifier(pl.LightningModule):
    """A seeded classifier of images with a backbone and a head."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.backbone, self.head = nn.Sequential(nn.Linear(12, 8), nn.ReLU()), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(adaptive_avg_pool2d(images, 2).flatten(1)))

    def training_step(self, batch, batch_idx):
        return cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        trained = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.SGD(trained, lr=PEAK, momentum=0.9)


class Images(pl.LightningDataModule):
    """Four training batches and two of validation; their size can be set, as callbacks ask for."""

    image_size, eval_image_size, batch_size = 4, None, 4

    def train_dataloader(self) -> DataLoader:
        return self.loader(16)

    def val_dataloader(self) -> DataLoader:
        return self.loader(8)

    def loader(self, count: int) -> DataLoader:
        draw = torch.Generator().manual_seed(count)
        x = torch.randn(count, 3, 4, 4, generator=draw)
        x = nn.functional.interpolate(x, self.image_size)
        return ResumableLoader(TensorDataset(x, x[:, 0, 0, :3].argmax(1)), batch_size=4)


class Unfreeze(BaseFinetuning):
    """Trains the backbone from the second epoch on."""

    def freeze_before_training(self, pl_module) -> None:
        self.freeze([pl_module.backbone])

    def finetune_function(self, pl_module, epoch, optimizer) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group([pl_module.backbone], optimizer)


class FinetuningScheduler(BaseFinetuning):
    """Stands in for that of the package `finetuning-scheduler`, which is built on `lightning`.

    As there, each phase but the first adds its parameters with the rate that it was given.
    """

    def __init__(self, ft_schedule: dict[int, dict[str, Any]], **_: Any) -> None:
        super().__init__()
        self.ft_schedule = ft_schedule

    def parts(self, pl_module: pl.LightningModule, phase: int) -> list[nn.Module]:
        names = self.ft_schedule[phase]["params"]
        return [pl_module.get_submodule(name.removesuffix(r"\..*")) for name in names]

    def freeze_before_training(self, pl_module) -> None:
        self.freeze([pl_module], train_bn=False)
        self.make_trainable(self.parts(pl_module, 0))

    def finetune_function(self, pl_module, epoch, optimizer) -> None:
        if epoch == self.ft_schedule[0]["max_transition_epoch"]:
            rate = self.ft_schedule[1]["lr"]
            parts = self.parts(pl_module, 1)
            self.unfreeze_and_add_param_group(parts, optimizer, rate, train_bn=False)


if LIGHTNING == "lightning.pytorch":
    with suppress(ImportError):
        from finetuning_scheduler import FinetuningScheduler  # type: ignore[no-redef]

PHASES = {
    0: {"params": [r"head\..*"], "max_transition_epoch": 1},
    1: {"params": [r"backbone\..*"], "max_transition_epoch": NUM_EPOCHS, "lr": PEAK / 2},
}


class Trace(pl.Callback):
    """Notes the rates of every step, and the weights after it."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []
        self.weights: list[dict[str, Tensor]] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.rates.append([group["lr"] for group in optimizer.param_groups])

    def on_train_batch_end(self, trainer, pl_module, *_: Any) -> None:
        if len(self.rates) > len(self.weights):
            self.weights.append({n: p.detach().clone() for n, p in pl_module.named_parameters()})


THEIRS: dict[str, Callable[[], pl.Callback]] = {
    "WeightAveraging": WeightAveraging,
    "EMAWeightAveraging": lambda: EMAWeightAveraging(decay=0.5),
    "StochasticWeightAveraging": lambda: StochasticWeightAveraging(0.02, swa_epoch_start=1),
    "BaseFinetuning": Unfreeze,
    "BackboneFinetuning": lambda: BackboneFinetuning(1, verbose=False),
    "FinetuningScheduler": lambda: FinetuningScheduler(
        deepcopy(PHASES), epoch_transitions_only=True
    ),
    "ModelCheckpoint": lambda: ModelCheckpoint(tempfile.mkdtemp(), monitor="val_loss"),
    "EarlyStopping": lambda: EarlyStopping("val_loss", patience=9),
    "ModelPruning": lambda: ModelPruning("l1_unstructured", amount=0.5),
    "GradientAccumulationScheduler": lambda: GradientAccumulationScheduler({0: 1, 1: 2}),
    "LearningRateMonitor": lambda: LearningRateMonitor("step"),
}
OURS: dict[str, Callable[[], pl.Callback]] = {
    "SGDR": fr.SGDR,
    "Triangular": lambda: fr.Triangular(1),
    "OneCycle": fr.OneCycle,
    "FlatCosine": fr.FlatCosine,
    "StepSchedule": lambda: fr.StepSchedule({0: 1.0, 1: 0.5}),
    "LRFinder": lambda: fr.LRFinder(1e-4, 1.0, num_steps=30, on_refusal="ignore"),
    "OverfittingStop": lambda: fr.OverfittingStop(9, cycle_len=1),
    "ImageMixing": lambda: fr.ImageMixing(num_classes=3),
    "ProgressiveResizing": lambda: fr.ProgressiveResizing({0: 4, 1: 6}),
    "CycleSnapshots": lambda: fr.CycleSnapshots(tempfile.mkdtemp(), cycle_len=1),
    "Averaging": lambda: fr.Averaging("ema", decay=0.5),
    "EpochTable": fr.EpochTable,
    "FiniteLossCheck": fr.FiniteLossCheck,
    "InitialLossCheck": lambda: fr.InitialLossCheck(num_classes=3),
    "KeepBest": fr.KeepBest,
    "MultiLabelSwitch": lambda: fr.MultiLabelSwitch(label_kind="single"),
    "RisingLossCheck": fr.RisingLossCheck,
    "SaveEvery": lambda: fr.SaveEvery(2, Path(tempfile.mkdtemp()) / "begun.ckpt"),
    "TestTimeAugmentation": lambda: fr.TestTimeAugmentation(1, "flips", during_fit=True),
    "TrainMetrics": lambda: fr.TrainMetrics(8, Images().loader(16)),
    "ValidationGuard": fr.ValidationGuard,
}
SCHEDULES = tuple(name for name, make in OURS.items() if isinstance(make(), Schedule))
STEERING = {
    *SCHEDULES, "Averaging", "LRFinder", "OverfittingStop", "KeepBest", "ImageMixing",
    "ProgressiveResizing",
}  # fmt: skip
"""Those of ours that change what is trained; the others only look."""
LOOKING = {"ModelCheckpoint", "EarlyStopping", "LearningRateMonitor"}
"""Those of Lightning's that change nothing."""


def mean_of(steps: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Average the weights after each step, one after the other as Lightning does."""
    found = steps[0]
    for count, step in enumerate(steps[1:], start=1):
        found = {name: old + (step[name] - old) / (count + 1) for name, old in found.items()}
    return found


def decayed_mean_of(steps: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Average them with a decay of 0.5."""
    found = steps[0]
    for step in steps[1:]:
        found = {name: old * 0.5 + step[name] * 0.5 for name, old in found.items()}
    return found


AVERAGING = {"WeightAveraging": mean_of, "EMAWeightAveraging": decayed_mean_of}


@dataclass(frozen=True)
class Refusal:
    """What is said of a pair that is refused, and what to do in the words of the page."""

    said: str
    cure: str


REFUSED: dict[tuple[str, str], Refusal] = {
    **{
        (name, "StochasticWeightAveraging"): Refusal(
            f"`{name}` and `StochasticWeightAveraging` both set the rates",
            "both set the rates: `EMAWeightAveraging`, or `CycleSnapshots`",
        )
        for name in SCHEDULES
    },
    **{
        (name, "BackboneFinetuning"): Refusal(
            f"`{name}` and `BackboneFinetuning` both set the backbone's rates",
            "both set the backbone's rates: a `BaseFinetuning` of your own with `lr=PEAK`",
        )
        for name in SCHEDULES
    },
    **{
        ("OverfittingStop", name): Refusal(
            f"goes back to the weights of the best cycle, but with `{name}`",
            "the module ends with other weights than those of an epoch:"
            " `CycleSnapshots(which='best')` keeps the best beside it",
        )
        for name in (*AVERAGING, "StochasticWeightAveraging", "ModelPruning")
    },
    **{
        ("KeepBest", name): Refusal(
            f"`KeepBest` and `{name}` both choose the weights",
            "both choose the weights that a fit ends with:"
            " `CycleSnapshots(which='best')` keeps the best beside it",
        )
        for name in (*AVERAGING, "StochasticWeightAveraging", "ModelPruning")
    },
    **{
        ("Averaging", name): Refusal(
            f"`Averaging` and `{name}` both choose the weights",
            "both choose the weights that a fit ends with: leave one of them out",
        )
        for name in (*AVERAGING, "StochasticWeightAveraging", "ModelPruning")
    },
    ("SaveEvery", "ModelPruning"): Refusal(
        "`SaveEvery` and `ModelPruning`: Lightning's checkpoints do not hold what was pruned",
        "checkpoints do not hold what was pruned: prune in a fit of its own",
    ),
}


@dataclass
class Fit:
    """What a fit has left."""

    trainer: pl.Trainer
    rates: list[list[float]]
    steps: list[dict[str, Tensor]]
    weights: dict[str, Tensor]
    module: pl.LightningModule

    @property
    def callbacks(self) -> dict[str, Any]:
        """The callbacks of the trainer by the names of their classes."""
        return {type(one).__name__: one for one in self.trainer.callbacks}

    def val_loss(self) -> float:
        """Measure the module as it is now."""
        trainer = pl.Trainer(**QUIET)
        return trainer.validate(self.module, datamodule=Images(), verbose=False)[0]["val_loss"]


def fit(*callbacks: pl.Callback, ckpt_path: Path | None = None) -> Fit:
    """Fit the classifier for three epochs."""
    torch.manual_seed(1)
    trace, module = Trace(), Classifier()
    has_files = any(isinstance(one, (ModelCheckpoint, FinetuningScheduler)) for one in callbacks)
    options = QUIET | {"enable_checkpointing": has_files, "logger": DummyLogger()}
    trainer = pl.Trainer(
        **options, max_epochs=NUM_EPOCHS, callbacks=[trace, *callbacks],
        default_root_dir=tempfile.mkdtemp(), num_sanity_val_steps=0, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(module, datamodule=Images(), ckpt_path=ckpt_path, weights_only=False)
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    return Fit(trainer, trace.rates, trace.weights, weights, module)


PAGE = Path(__file__).parents[2] / ".github" / "docs" / "beside_lightning.md"


def page() -> str:
    """Write the page of the documentation from the tables above."""
    notes: dict[str, int] = {}
    rows = []
    for ours in OURS:
        cells = []
        for theirs in THEIRS:
            refusal = REFUSED.get((ours, theirs))
            number = notes.setdefault(refusal.cure, len(notes) + 1) if refusal else 0
            cells.append(f"no ({number})" if refusal else "yes")
        rows.append(f"| `{ours}` | {' | '.join(cells)} |")
    heads = " | ".join(f"`{name}`" for name in THEIRS)
    lines = [
        "# Beside Lightning's callbacks",
        "",
        "Made from `tests/callbacks/test_pairs.py`, which fits each pair. `yes`: both do their",
        "work, and rates and weights are checked. `no`: refused before the first step.",
        "",
        f"| | {heads} |",
        "|---" * (len(THEIRS) + 1) + "|",
        *rows,
        "",
        *(f"{number}. {cure[0].upper()}{cure[1:]}." for cure, number in notes.items()),
        "",
        "- A `BaseFinetuning` that gives no `lr` to `unfreeze_and_add_param_group` gets a tenth of",
        "  the first group's peak beside our schedules, not of the rate of that moment.",
        "- `FinetuningScheduler` is of the package `finetuning-scheduler`, built on `lightning`.",
        "  The rate that a phase gives its layers is their peak. A scheduler that a phase brings",
        "  (`new_lr_scheduler`) is refused beside our schedules, when it comes.",
        "- `CycleSnapshots` beside an averaging callback holds the averages.",
        "- Models of tables build their network before averaging callbacks copy it. Callbacks that",
        "  copy earlier, such as `StochasticWeightAveraging`, are refused for an unbuilt one.",
        "",
    ]
    return "\n".join(lines)
