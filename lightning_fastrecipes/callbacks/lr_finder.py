"""The learning-rate finder: as a callback, and as a function for a script."""

import math
import os
from collections.abc import Callable, Collection, Iterable
from typing import Any, Literal, get_args

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError, rank_zero_info, rank_zero_warn
from lightning_fastrecipes.callbacks.engine.lr_curve import LRCurve
from lightning_fastrecipes.callbacks.engine.state_keeping import StateSnapshot
from lightning_fastrecipes.callbacks.engine.stepping import VAL_LOSS
from lightning_fastrecipes.callbacks.engine.sweeping import LossSource, reference_lrs, sweep
from lightning_fastrecipes.errors import ConfigurationError, check_choice
from lightning_fastrecipes.functional.training.even_losses import even_losses
from lightning_fastrecipes.functional.training.group_rates import by_layer_group, describe_group_lrs
from lightning_fastrecipes.functional.training.lr_curves import (
    MIN_POINTS,
    Rule,
    Spacing,
    sweep_lrs,
)
from lightning_fastrecipes.life_signs import track
from lightning_fastrecipes.messages import shown

__all__ = ["LRCurve", "LRFinder", "lr_find", "run_finder", "watched"]


class LRFinder(pl.OwnCallback):
    """Find the learning rate in the first step of a fit, and train with it.

    The rates of all trained layer groups are swept by one factor, one optimizer step at each, and
    everything is put back: weights, buffers, optimizer, scaler, random numbers, modes. Then every
    group is scaled so that the last trained one has the suggested rate, and so is what schedules
    start from: ``lr``, ``initial_lr``, ``max_lr``, ``min_lr`` of the groups and the ``base_lrs``
    of schedulers. Ratios between groups stay as they are. Put it before callbacks that read rates,
    such as ``LearningRateMonitor``. An epoch that was begun before a fit is resumed is not swept
    again: the checkpoint holds the rates that were found. Nothing is swept in a ``fast_dev_run``.
    The module's own ``lr`` stays as it is, so that another fit begins with that: set it by
    ``curve.suggestion``.
    Later in a fit the rates of the moment are scaled, unless a schedule of this package or one
    with a ``max_lr`` drives it: then their peaks. Each batch is also asked at the weights of the
    start, and how hard it is taken out of its loss; meanwhile the device holds two more copies of
    weights and buffers.

    Args:
        min_lr: First rate of the last trained layer group, above 0.
        max_lr: Last rate, above ``min_lr``.
        num_steps: Optimizer steps of the sweep, at least 20; short loaders are cycled.
        spacing: ``geometric``: equal factors; ``linear``: equal steps.
        on: ``train``: loss of the training batches; ``val``: after each step the loss of the next
            validation batch.
        rule: Which pick to train with; see ``functional.training.lr_curves.suggest_lr``.
        epochs: At the start of which epochs to look for a rate.
        on_refusal: What to do if the curve is too flat or noisy to pick a rate: ``warn`` and keep
            the configured rates, ``raise``, or keep them in silence, ``ignore``.
        loss_name: For ``val``: under which name ``validation_step`` logs its loss, such as
            ``val/loss``, of the first loader; one that it returns is taken for ``val_loss``.

    Attributes:
        curves: The curve found at each epoch, filled while fitting.
        watch: Called with the rates of a sweep, which it yields one by one: a place for a bar.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> finder = LRFinder(min_lr=1e-6, max_lr=1.0)
        >>> finder.curves
        {}

    Note:
        Lightning's ``LearningRateFinder`` gives every group the same rate, and a scheduler keeps
        the rate that it was built with; fastai does not put a model back when the sweep raises.

    References:
        Smith, *Cyclical Learning Rates for Training Neural Networks* (2017), section 3.3; fast.ai
        course of 2018, lesson 1.
    """

    def __init__(
        self,
        min_lr: float = 1e-7,
        max_lr: float = 10.0,
        num_steps: int = 200,
        spacing: Spacing = "geometric",
        on: LossSource = "train",
        rule: Rule = "midway",
        epochs: Collection[int] = (0,),
        on_refusal: Literal["warn", "raise", "ignore"] = "warn",
        loss_name: str = VAL_LOSS,
    ) -> None:
        if num_steps < MIN_POINTS:
            raise ConfigurationError(
                f"`num_steps` must be at least {MIN_POINTS}, as fewer points show no rate, got"
                f" {num_steps}. 200 are usual."
            )
        self.lrs = sweep_lrs(min_lr, max_lr, num_steps, spacing)
        check_choice("on", on, get_args(LossSource))
        check_choice("rule", rule, get_args(Rule))
        check_choice("on_refusal", on_refusal, ("warn", "raise", "ignore"))
        self.on = on
        self.rule = rule
        self.epochs = frozenset(epochs)
        self.on_refusal = on_refusal
        self.loss_name = loss_name
        self.curves: dict[int, LRCurve] = {}
        self.watch: Callable[[Iterable[float]], Iterable[float]] = iter

    @property
    def curve(self) -> LRCurve:
        """The curve that was found last; a RuntimeError if there is none yet."""
        if not self.curves:
            raise RuntimeError("There is no curve yet. Run `Trainer.fit` with this callback first.")
        return self.curves[max(self.curves)]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse what cannot be swept, before anything runs."""
        self.curves = {}
        is_automatic, num_optimizers = pl_module.automatic_optimization, len(trainer.optimizers)
        if not is_automatic or num_optimizers != 1:
            raise SetupError(
                "`LRFinder` needs one optimizer that Lightning steps by itself, but got"
                f" {num_optimizers} and `automatic_optimization={is_automatic}`. Drop this callback"
                " and configure a rate."
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warn of the sweeps that a resumed fit leaves out."""
        is_begun = trainer.fit_loop.epoch_loop.batch_progress.current.ready > 0
        first = trainer.current_epoch + int(is_begun)
        past = sorted(epoch for epoch in self.epochs if epoch < first)
        if past:
            rank_zero_warn(
                f"`LRFinder` is skipped for the epochs {past}, since the fit resumes after their"
                " start and goes on with the learning rates of its checkpoint. Only a fit that"
                " begins anew looks for others."
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Sweep before the first batch of a chosen epoch, once all other hooks have prepared it."""
        is_chosen = trainer.current_epoch in self.epochs and batch_idx == 0
        if not is_chosen or pl.is_fast_dev_run(trainer):
            return
        curve = self._find(trainer, pl_module)
        self.curves[trainer.current_epoch] = curve
        curve.send(trainer.loggers, trainer.global_step)
        if curve.suggestion is not None:
            self._apply(trainer, curve.suggestion)
            rank_zero_info(
                f"LRFinder: {curve.suggestion:.2e} for the last layer group ({curve.read_by};"
                f" {curve.describe_agreement()}): {describe_group_lrs(curve.group_lrs)}"
            )
            return
        message = f"`LRFinder` cannot suggest a learning rate: {curve.refusal}"
        if self.on_refusal == "raise":
            raise SetupError(f"{message} Or configure a learning rate.")
        if self.on_refusal == "warn":
            lr = [rate for rate in reference_lrs(trainer) if rate > 0][-1]
            kept = {name: lr * ratio for name, ratio in curve.group_ratios.items()}
            rank_zero_warn(
                f"{message} The fit keeps the configured rates: {describe_group_lrs(kept)}."
            )

    def _find(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> LRCurve:
        rates = reference_lrs(trainer)
        trained = [rate for rate in rates if rate > 0]
        if not trained:
            raise SetupError(
                "`LRFinder` scales the configured rates, so that at least one trained group must"
                f" have a rate above 0, but they are {rates}. Configure any rate, such as 1e-3."
            )
        losses, at_start = sweep(
            trainer, pl_module, self.watch(self.lrs), rates, self.on, self.loss_name
        )
        if not losses or not math.isfinite(losses[0]):
            num_batches = trainer.num_training_batches
            found = "an endless loader" if math.isinf(num_batches) else f"{num_batches} batches"
            raise SetupError(
                f"The loss must be finite at the smallest rate, {self.lrs[0]:.0e}, but is"
                f" {losses[0] if losses else 'missing'} ({found}). Check inputs, targets and"
                " precision: training would fail as well."
            )
        groups = enumerate(trainer.optimizers[0].param_groups)
        names = [str(group.get("name", f"group {index}")) for index, group in groups]
        ratios = by_layer_group(names, [rate / trained[-1] for rate in rates])
        lrs = self.lrs[: len(losses)]
        even = even_losses(lrs, losses, at_start)
        return LRCurve(tuple(lrs), tuple(even), ratios, self.rule, self.on)

    def _apply(self, trainer: pl.Trainer, suggestion: float) -> None:
        scale = suggestion / [rate for rate in reference_lrs(trainer) if rate > 0][-1]
        for group in trainer.optimizers[0].param_groups:
            for key in ("lr", "initial_lr", "max_lr", "min_lr"):
                if key in group:
                    group[key] = group[key] * scale
        for config in trainer.lr_scheduler_configs:
            _scale_scheduler(config.scheduler, scale)


def lr_find(
    model: pl.LightningModule,
    datamodule: Any,
    *,
    min_lr: float = 1e-7,
    max_lr: float = 10.0,
    num_steps: int = 200,
    spacing: Spacing = "geometric",
    on: LossSource = "train",
    rule: Rule = "midway",
    val_dataloaders: Any = None,
    loss_name: str = VAL_LOSS,
    **trainer_arguments: Any,
) -> LRCurve:
    """Sweep the learning rate of any module on any data, and leave the module as it was.

    Args:
        model: Any module with one optimizer; frozen parts stay frozen. The sweep keeps the ratios
            of its groups' rates: give them first, as by ``set_learning_rates(1e-3, lr_ratio=3)``.
        datamodule: A ``LightningDataModule``, or a training loader or several.
        min_lr: This and the next five as for ``LRFinder``.
        max_lr: Last rate.
        num_steps: Optimizer steps, at least 20.
        spacing: ``geometric`` or ``linear``.
        on: ``train`` or ``val``.
        rule: Which pick is the suggestion.
        val_dataloaders: For ``on="val"``, if ``datamodule`` is a loader.
        loss_name: For ``on="val"``, as for ``LRFinder``.
        **trainer_arguments: For the ``Trainer``, such as ``accelerator`` and ``precision``.

    Returns:
        The curve, with its suggestion, figure and table; the rates of ``model`` are not changed.

    Raises:
        ConfigurationError: If an argument is out of its range, or there is not one optimizer, no
            batch, or no finite loss.
        TypeError: If an argument is unknown.
    """
    pl.check_trainer_arguments(lr_find, trainer_arguments)
    finder = LRFinder(
        min_lr, max_lr, num_steps, spacing, on, rule, on_refusal="ignore", loss_name=loss_name
    )
    curve = run_finder(finder, model, datamodule, val_dataloaders, **trainer_arguments)
    if curve.suggestion is None:
        rank_zero_warn(f"`lr_find` cannot suggest a learning rate: {curve.refusal}")
    return curve


def run_finder(
    finder: LRFinder,
    model: pl.LightningModule,
    datamodule: Any,
    val_dataloaders: Any = None,
    **trainer_arguments: Any,
) -> LRCurve:
    """Run :func:`lr_find` with a finder that has its own range and rule."""
    pl.refuse_other_lightning("lr_find", model, datamodule, *trainer_arguments.get("callbacks", []))
    quiet: dict[str, Any] = {
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    callbacks = [*trainer_arguments.pop("callbacks", []), watched(finder), _Stop()]
    with pl.own_lines_alone():
        trainer = pl.Trainer(**(quiet | trainer_arguments), callbacks=callbacks)
    is_module = isinstance(datamodule, pl.LightningDataModule)
    if not is_module and isinstance(datamodule, (str, os.PathLike)):
        raise ConfigurationError(
            "`datamodule` must be a datamodule, such as `ImageFolderDataModule('photos')`, or a"
            f" loader, got {shown(datamodule)}. Make one of it."
        )
    data = {"datamodule": datamodule} if is_module else {"train_dataloaders": datamodule}
    if val_dataloaders is not None:
        data["val_dataloaders"] = val_dataloaders
    with StateSnapshot() as saved, pl.own_lines_alone():
        saved.keep_random_numbers(datamodule, val_dataloaders)
        try:
            trainer.fit(model, **data)
        except _FoundError:
            return finder.curve
    raise SetupError(
        "The LR finder needs at least one training batch, but the loader gave none. Check the data"
        " set, `drop_last` and `limit_train_batches`."
    )


def watched(finder: LRFinder) -> LRFinder:
    """Let a finder say how far its sweep is."""
    finder.watch = lambda lrs: track(lrs, "Trying learning rates", len(finder.lrs))
    return finder


class _FoundError(Exception):
    """Ends the fit of :func:`lr_find` once the curve is there."""


class _Stop(pl.Callback):
    def on_train_batch_start(self, *_: Any) -> None:
        raise _FoundError


def _scale_scheduler(scheduler: Any, scale: float) -> None:
    """Scale what torch's schedulers keep beside the groups; those that wrap others pass it on."""
    for name in ("base_lrs", "max_lrs"):
        rates = getattr(scheduler, name, None)
        if isinstance(rates, list):
            setattr(scheduler, name, [rate * scale for rate in rates])
    # Private: torch gives no other access to the schedulers within a chain or sequence.
    for inner in getattr(scheduler, "_schedulers", ()):
        _scale_scheduler(inner, scale)
