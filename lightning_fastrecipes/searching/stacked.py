"""Many linear heads on the features of a frozen backbone, in one pass as stacked weights."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.callbacks.schedule import Schedule
from lightning_fastrecipes.callbacks.seeded_steps import seed_step
from lightning_fastrecipes.data.images.features import FeatureDataModule
from lightning_fastrecipes.functional.labels.losses import class_losses
from lightning_fastrecipes.functional.labels.targets import class_targets
from lightning_fastrecipes.nn.label_rules import SingleLabel
from lightning_fastrecipes.recipe.config.schema import Recipe
from lightning_fastrecipes.recipe.loading import modality_of
from lightning_fastrecipes.recipe.run.plan import (
    apply_stage,
    build_callbacks,
    build_parts,
    stage_seed,
)
from lightning_fastrecipes.recipe.run.trainers import build_trainer
from lightning_fastrecipes.searching.definition import Definition
from lightning_fastrecipes.tasks.image import ImageClassifier
from lightning_fastrecipes.trust import Trust

_SMOOTHING = "model.labels.loss.smoothing"
_OF_HEADS = ("model.optim.weight_decay", "model.head.dropout", _SMOOTHING)
"""Keys that a head alone depends on, besides the rate of its stage."""

_OF_TRAINERS = {"accelerator", "devices", "precision", "logger", "log_every_n_steps"}
"""Arguments of the trainer that change nothing here."""


@dataclass(frozen=True)
class HeadFigures:
    """What a head reached on the validation split: the figure that decides, and the loss."""

    figure: float
    loss: float


def why_not_stacked(definition: Definition, path: Path, trust: Trust = ()) -> str:
    """Return in words why the trials of a search are no stack of heads; empty if they are.

    That is so where one stage trains a linear head on precomputed features, and what is searched
    are its rate, weight decay, dropout or smoothing.
    """
    recipe = definition.recipe(definition.values([0.5] * len(definition.ranges)), path, trust)
    stage = recipe.stages[0]
    names = {name for name in definition.names if name not in _OF_HEADS}
    if len(recipe.stages) > 1 or not stage.precompute:
        return "it is not one stage on precomputed features"
    if names - {f"{stage.key}.lr"}:
        return "other keys than those of a head are searched"
    if stage.keep_best or stage.until_overfitting or not isinstance(stage.lr, (int, float)):
        return "the stage chooses its rate or its epochs"
    callbacks = build_callbacks(recipe, 0)
    if any(not isinstance(one, Schedule) or _moves_momentum(one) for one in callbacks):
        return "the stage has callbacks that are no schedules"
    if len(callbacks) > 1 or any(one.by != "epoch" for one in callbacks if hasattr(one, "by")):
        return "the schedule counts steps"
    if {*recipe.trainer} - _OF_TRAINERS or recipe.train_metrics:
        return "the trainer has arguments of its own"
    data, model = build_parts(recipe)
    apply_stage(recipe, 0, data, model)
    served = modality_of(recipe).training_data(stage, data, model)
    return _unfit_model(served, model, has_smoothing=_SMOOTHING in definition.names)


def train_heads(
    definition: Definition, values: Sequence[Sequence[Any]], path: Path, trust: Trust = ()
) -> list[HeadFigures]:
    """Train a head for each list of values of the ranges, all in one pass over the features.

    Each ends as the run of its recipe would, up to the rounding of sums: it sees the same batches,
    with the same dropout, from the same weights.
    """
    recipes = [definition.recipe(one, path, trust) for one in values]
    recipe = recipes[0]
    pl.seed_everything(recipe.seed, workers=True, verbose=False)
    data, model = build_parts(recipe)
    apply_stage(recipe, 0, data, model)
    served: Any = modality_of(recipe).training_data(recipe.stages[0], data, model)
    trainer = build_trainer(recipe, model, enable_checkpointing=False, enable_progress_bar=False)
    served.trainer = trainer
    try:
        served.prepare_data()
        served.setup("fit")
        heads = StackedHeads(model, recipes, trainer)
        heads.fit(served)
        return heads.validate(served, definition.monitor)
    finally:
        served.trainer = None


class StackedHeads:
    """Linear heads whose weights are the rows of one tensor, each with numbers of its own.

    ``model`` has the head that all begin with; the recipes differ in what is of a head alone.
    """

    def __init__(self, model: ImageClassifier, recipes: Sequence[Recipe], trainer: Any) -> None:
        self.model = model.to(trainer.strategy.root_device).eval()
        self.recipe = recipes[0]
        self.device = trainer.strategy.root_device
        self._context = trainer.precision_plugin.forward_context
        options = [_head_options(recipe, model) for recipe in recipes]
        rates, decays, dropouts, smoothings = zip(*options, strict=True)
        self.dropouts: list[float] = list(dropouts)
        self._rates, self._decays = self._column(rates), self._column(decays)
        self._smoothings = self._column(smoothings).flatten() if any(smoothings) else None
        linear = _linear(model.head)
        self.weight = linear.weight.detach().repeat(len(recipes), 1, 1).requires_grad_()
        self.bias = linear.bias.detach().repeat(len(recipes), 1).requires_grad_()
        self._optimizer: Any = model.configure_optimizers()
        self._states = [[torch.zeros_like(one) for _ in range(2)] for one in self._parameters]
        self._num_steps = 0
        self._place: tuple[int, ...] = (0,)

    @property
    def _parameters(self) -> list[Tensor]:
        return [self.weight, self.bias]

    def _column(self, numbers: Sequence[float]) -> Tensor:
        # Double, as the numbers of an optimizer are.
        return torch.tensor(numbers, dtype=torch.float64, device=self.device)[:, None, None]

    def fit(self, served: FeatureDataModule) -> None:
        """Train all heads through the epochs of the stage."""
        stage, loader = self.recipe.stages[0], served.train_dataloader()
        schedules: list[Any] = build_callbacks(self.recipe, 0)
        factors = [1.0] * (stage.max_epochs * len(loader))
        if schedules:
            factors = schedules[0].simulate(stage.max_epochs, len(loader)).tolist()
        for epoch in range(stage.max_epochs):
            sampler: Any = loader.sampler
            sampler.set_epoch(epoch)
            for index, (features, targets) in enumerate(loader):
                self._place = (stage_seed(self.recipe.seed, 0), 0, epoch, index)
                features, targets = features.to(self.device), targets.to(self.device)
                with self._context():
                    logits = self._logits(features, is_training=True)
                whole: Any = self._losses(logits, targets).sum()
                whole.backward()
                self._step(factors[epoch * len(loader) + index])

    @torch.no_grad()
    def validate(self, served: FeatureDataModule, monitor: str) -> list[HeadFigures]:
        """Measure all heads on the validation split."""
        sums, weights = torch.zeros(len(self.dropouts), dtype=torch.float64), 0.0
        rows: list[Tensor] = []
        wanted: list[Tensor] = []
        for features, targets in served.eval_dataloader("val"):
            features, targets = features.to(self.device), targets.to(self.device)
            with self._context():
                logits = self._logits(features, is_training=False)
            weight = float(self.model.loss_weight(targets))
            sums += weight * self._losses(logits, targets).double().cpu()
            weights += weight
            rows.append(logits)
            wanted.append(self.model.metric_targets(targets))
        losses = (sums / weights).tolist()
        if monitor == "val_loss":
            return [HeadFigures(loss, loss) for loss in losses]
        found = []
        for logits, loss in zip(torch.cat(rows, dim=1), losses, strict=True):
            metric: Any = self.model.phase_metrics["val_"]
            metric = metric.clone()
            metric.update(self.model.probabilities(logits), torch.cat(wanted))
            found.append(HeadFigures(float(metric.compute()[monitor]), loss))
        return found

    def _logits(self, features: Tensor, *, is_training: bool) -> Tensor:
        """Return the logits of all heads. Shape ``(heads, batch, num_classes)``, float32."""
        features = self.model.as_weights(features)
        num_heads, num_classes = self.bias.shape
        if not is_training or not any(self.dropouts):
            joined = F.linear(features, self.weight.flatten(0, 1), self.bias.flatten())
            return joined.float().view(-1, num_heads, num_classes).transpose(0, 1)
        seen = {}
        for share in {*self.dropouts}:
            seed_step(*self._place)  # as `SeededSteps` does for each head alone
            seen[share] = F.dropout(features, share)
        inputs = torch.stack([seen[share] for share in self.dropouts])
        return torch.baddbmm(self.bias[:, None], inputs, self.weight.transpose(1, 2)).float()

    def _losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of each head. Shape ``(heads,)``."""
        if self._smoothings is None:
            return torch.vmap(lambda one: self.model.loss(one, targets))(logits)
        rules: Any = self.model.rules
        gamma, wanted = rules.loss_options.focal_gamma, class_targets(targets)
        if wanted.ndim == 1:
            wanted = F.one_hot(wanted, logits.shape[2]).to(logits.dtype)

        def smoothed(one: Tensor, share: Any) -> Tensor:
            return class_losses(one, wanted, smoothing=share, focal_gamma=gamma)[0].mean()

        return torch.vmap(smoothed)(logits, self._smoothings.to(logits.dtype))

    @torch.no_grad()
    def _step(self, factor: float) -> None:
        """Update all heads as ``torch.optim.AdamW`` does, each at its own rate and decay."""
        self._num_steps += 1
        first, second = self._optimizer.defaults["betas"]
        corrections = 1 - first**self._num_steps, 1 - second**self._num_steps
        eps, rates = self._optimizer.defaults["eps"], factor * self._rates
        for parameter, (mean, square) in zip(self._parameters, self._states, strict=True):
            gradient = parameter.grad
            assert gradient is not None
            rate = rates if parameter.ndim == 3 else rates[:, 0]
            if parameter.ndim == 3:
                parameter.mul_((1 - rate * self._decays).to(parameter.dtype))
            mean.lerp_(gradient, 1 - first)
            square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
            spread = (square.sqrt() / corrections[1] ** 0.5).add_(eps)
            parameter.sub_((rate / corrections[0]).to(parameter.dtype) * mean / spread)
            parameter.grad = None


def timed_heads(
    definition: Definition, values: Sequence[Sequence[Any]], path: Path, trust: Trust = ()
) -> tuple[list[HeadFigures], float]:
    """Train heads as ``train_heads``, and return how many seconds it took beside their figures."""
    started = time.monotonic()
    found = train_heads(definition, values, path, trust)
    return found, time.monotonic() - started


def _unfit_model(served: Any, model: Any, *, has_smoothing: bool) -> str:
    if not isinstance(served, FeatureDataModule) or served.cut is not None:
        return "more than the head is trained"
    if not isinstance(model, ImageClassifier) or _linear(model.head) is None:
        return "the head has more than one layer"
    if model.optim.optimizer != "torch.optim.AdamW":
        return "the optimizer is not `torch.optim.AdamW` as it comes"
    rules: Any = model.rules
    is_weighted = rules.loss_options.class_weight is not None or model.labels.pos_weight is not None
    if served.images.train_weights is not None or is_weighted or rules.own_loss is not None:
        return "samples are weighted, or the loss is one of your own"
    if has_smoothing and not isinstance(model.rules, SingleLabel):
        return "the smoothing of several labels is searched"
    return ""


def _linear(head: nn.Module) -> Any:
    """Return the only layer with weights of a linear head, ``None`` of another head."""
    layers = [*head] if isinstance(head, nn.Sequential) else []
    kinds = [type(layer) for layer in layers]
    return layers[1] if kinds == [nn.Dropout, nn.Linear] else None


def _head_options(recipe: Recipe, model: Any) -> tuple[float, float, float, float]:
    """Return rate, weight decay, dropout and smoothing of the head of a recipe."""
    arguments: Any = recipe.model.init_args
    optim, head = arguments.get("optim") or {}, arguments.get("head")
    loss = (arguments.get("labels") or {}).get("loss")
    dropout = head.get("dropout") if isinstance(head, dict) else None
    smoothing = loss.get("smoothing") if isinstance(loss, dict) else None
    rate: Any = recipe.stages[0].lr
    return (
        float(rate),
        float(optim.get("weight_decay", model.optim.weight_decay)),
        float(model.head[0].p if dropout is None else dropout),
        float(model.rules.loss_options.smoothing if smoothing is None else smoothing),
    )


def _moves_momentum(schedule: Schedule) -> bool:
    return schedule.momentum(0, 1) is not None
