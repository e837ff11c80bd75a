"""The course's stages in one call, for a script or a notebook."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import pandas as pd
from torch import Tensor
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import rank_zero_info
from lightning_fastrecipes.callbacks.epoch_table import EpochTable
from lightning_fastrecipes.callbacks.lr_finder import LRCurve, LRFinder, watched
from lightning_fastrecipes.callbacks.overfitting_stop import OverfittingStop
from lightning_fastrecipes.callbacks.schedule import Schedule
from lightning_fastrecipes.callbacks.sgdr import SGDR
from lightning_fastrecipes.data.images.features import FeatureDataModule
from lightning_fastrecipes.data.images.module import ImageDataModule
from lightning_fastrecipes.errors import ConfigurationError, check_choice
from lightning_fastrecipes.functional.training.group_rates import Rates, describe_group_lrs
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.recipe.shared.log_steps import count_steps_from
from lightning_fastrecipes.tasks.base import LayerGroupTask

Step = Literal["head", "head_augmented", "all"]
_STEPS: tuple[Step, ...] = get_args(Step)
_OWN = {"max_epochs": "`epochs`", "callbacks": "`callbacks`", "max_steps": "`epochs`"}


@dataclass(frozen=True)
class TrainedStage:
    """One ``Trainer.fit`` of ``fine_tune``.

    Args:
        name: ``head``, ``head_augmented`` or ``all``.
        epochs: How many epochs it trained.
        group_lrs: Peak rate of each layer group by its name, 0 if frozen.
        seconds: How long it took, features included.
        metrics: What was logged last.
        curve: What ``LRFinder`` saw; ``None`` if it did not look.
    """

    name: str
    epochs: int
    group_lrs: dict[str, float]
    seconds: float
    metrics: dict[str, float]
    curve: LRCurve | None = field(default=None, repr=False)


@dataclass(frozen=True, repr=False)
class FineTuned:
    """What ``fine_tune`` returns.

    Args:
        trainer: The trainer of the last stage, to evaluate with: ``.test(model, datamodule=data)``.
        stages: What each stage did, in order.
    """

    trainer: pl.Trainer
    stages: tuple[TrainedStage, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """What the last stage logged last, by its name."""
        return self.stages[-1].metrics

    def table(self) -> pd.DataFrame:
        """Return a row for each stage: epochs, the head's peak rate, seconds and last metrics."""
        return pd.DataFrame(
            {
                "stage": stage.name,
                "epochs": stage.epochs,
                "lr": [*stage.group_lrs.values()][-1],
                "seconds": stage.seconds,
                **stage.metrics,
            }
            for stage in self.stages
        )

    @override
    def __repr__(self) -> str:
        told = ", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())
        return f"FineTuned({' > '.join(stage.name for stage in self.stages)}; {told})"

    def _repr_html_(self) -> str:
        table: str = self.table().to_html(
            index=False, float_format=lambda value: f"{value:.4g}", border=0
        )
        return table


@dataclass(frozen=True)
class _Plan:
    """A stage to train: on features or on the data itself, in cycles of these lengths."""

    name: Step
    epochs: int
    freeze_to: int
    lr_ratio: float
    cycles: SGDR
    on_features: bool = False


def fine_tune(
    model: LayerGroupTask,
    data: pl.LightningDataModule,
    epochs: int = 3,
    *,
    head_epochs: int = 2,
    steps: Literal["course"] | Step | Sequence[Step] = "course",
    lr: Rates | Literal["find"] = "find",
    lr_ratio: float | None = None,
    until_overfitting: int | None = None,
    callbacks: Sequence[pl.Callback] = (),
    **trainer_arguments: Any,
) -> FineTuned:
    """Train as the course does, stage by stage: the head, then everything with rates per group.

    The stages, each a ``Trainer.fit`` and a line in the log:

    - ``head``: the head alone, ``head_epochs`` epochs in cycles of one, of images on features.
    - ``head_augmented``: the same on augmented images, from the same rate; for images that are
      augmented, after features.
    - ``all``: everything, ``epochs`` epochs with a rate per layer group: cycles of 1, 2, 4, ...
      epochs where they add up (1, 3, 7, 15), else one cycle of all epochs.

    A model without pretrained weights, such as that of a table, has nothing to be gentle with:
    the course then is the stage ``all`` with one rate.

    Args:
        model: A task of this package, such as ``ImageClassifier`` or ``TabularRegressor``; it is
            trained in place.
        data: Its datamodule.
        epochs: Epochs of the stage ``all``, at least 1.
        head_epochs: Epochs of each of the other stages, at least 1.
        steps: ``course``, or the names of the stages to run; ``head`` trains the head alone.
        lr: The head's rate for all stages, or one per layer group or a range, as for ``Optim``;
            ``find``: found by ``LRFinder`` for the head and again for everything, and where its
            curve cannot be read that of the model is kept.
        lr_ratio: How many times smaller each earlier group's rate is in ``all``, at least 1; if not
            given 10 for pretrained weights, and 1 for others, or if ``lr`` names several rates.
        until_overfitting: After how many cycles without a lower loss ``all`` ends, and goes back to
            the best, at least 1; as the lesson says: ``epochs=15, until_overfitting=1``.
        callbacks: For every stage; all but the last get copies. A schedule takes the place of the
            cycles, an ``LRFinder`` or an ``EpochTable`` that of the default one.
        **trainer_arguments: For the ``Trainer`` of every stage, such as ``accelerator``,
            ``precision`` and ``logger``, whose steps go on from stage to stage.

    Returns:
        The last trainer, with the metrics, rates, curves and seconds of each stage.

    Raises:
        ConfigurationError: If an argument is out of its range, or the model has no layer groups.
        TypeError: If an argument is unknown.

    Example:
        >>> fine_tune(model, images, epochs=3).trainer.test(model, datamodule=images)
        ... # doctest: +SKIP

    References:
        fast.ai course of 2018, lesson 1, "steps to train a world-class image classifier";
        ``Learner.fine_tune`` of fastai 2, which has no stage on features and finds no rate.
    """
    pl.check_trainer_arguments(fine_tune, trainer_arguments)
    steps = [steps] if steps != "course" and steps in _STEPS else steps
    _check(model, data, epochs, head_epochs, steps, lr, trainer_arguments)
    stops = [] if until_overfitting is None else [OverfittingStop(until_overfitting)]
    data.prepare_data()
    data.setup("fit")
    model.adopt_targets(data)
    plans = _plan(model, data, epochs, head_epochs, steps, lr, lr_ratio)
    for plan in plans:
        # What is wrong with the rates of the last stage is said before the first.
        _set(model, plan, lr)
    trained: list[TrainedStage] = []
    rate, num_steps = lr, 0
    for number, plan in enumerate(plans, 1):
        rate = rate if plan.name == "head_augmented" else lr
        own = list(callbacks) if number == len(plans) else copy.deepcopy(list(callbacks))
        own += stops if plan.name == "all" else []
        stage, trainer = _train(model, data, plan, rate, own, trainer_arguments, num_steps)
        trained.append(stage)
        # One log for all stages.
        trainer_arguments["logger"] = trainer.loggers or False
        num_steps += trainer.global_step
        if _is_find(rate):
            found = stage.curve.suggestion if stage.curve else None
            rate = model.optim.lr if found is None else found
    return FineTuned(trainer, tuple(trained))


def _train(
    model: LayerGroupTask,
    data: Any,
    plan: _Plan,
    lr: Any,
    callbacks: list[pl.Callback],
    trainer_arguments: dict[str, Any],
    num_steps: int,
) -> tuple[TrainedStage, pl.Trainer]:
    """Run one stage, ``num_steps`` steps after the start of the first."""
    _set(model, plan, lr)
    own, finder = _callbacks(plan, callbacks, trainer_arguments, finds=_is_find(lr))
    # What Lightning says of the machine would stand there once for each stage.
    with pl.own_lines_alone():
        arguments: dict[str, Any] = {"enable_model_summary": False, **trainer_arguments}
        trainer = pl.Trainer(**arguments, max_epochs=plan.epochs, callbacks=own)
        count_steps_from(trainer.loggers, num_steps)
        rank_zero_info(_line(plan, model, finds=finder is not None))
        started = time.perf_counter()
        trainer.fit(model, datamodule=FeatureDataModule(data, model) if plan.on_features else data)
    curve = finder.curve if finder is not None and finder.curves else None
    stage = TrainedStage(
        name=plan.name,
        epochs=trainer.current_epoch,
        group_lrs=_peaks(model, curve),
        seconds=round(time.perf_counter() - started, 2),
        metrics={k: float(v) for k, v in trainer.callback_metrics.items() if isinstance(v, Tensor)},
        curve=curve,
    )
    return stage, trainer


def _is_find(lr: Any) -> bool:
    return isinstance(lr, str)


def _check(
    model: Any,
    data: Any,
    epochs: Any,
    head_epochs: Any,
    steps: Any,
    lr: Any,
    trainer_arguments: Any,
) -> None:
    if not isinstance(model, LayerGroupTask):
        raise ConfigurationError(
            "`model` must be a task of this package, such as `ImageClassifier` or"
            f" `TabularRegressor`, whose layer groups can be frozen, got {type(model).__name__}."
            " Give it your network as `backbone`, or train your own module with `Trainer` and"
            " `SGDR`."
        )
    if not isinstance(data, pl.LightningDataModule):
        raise ConfigurationError(
            "`data` must be a datamodule, such as `ImageFolderDataModule('photos')` or"
            f" `TabularDataModule(...)`, got {shown(data)}."
        )
    for name, value in (("epochs", epochs), ("head_epochs", head_epochs)):
        if type(value) is not int or value < 1:
            raise ConfigurationError(f"`{name}` must be a whole number of at least 1, got {value}.")
    if isinstance(lr, str):
        check_choice("lr", lr, ("find",))
    if isinstance(steps, str):
        check_choice("steps", steps, ("course",))
    elif not steps or list(steps) != [name for name in _STEPS if name in steps]:
        raise ConfigurationError(
            f"`steps` must be 'course', or some of {', '.join(_STEPS)} in this order, got"
            f" {steps!r}."
        )
    for name in sorted(_OWN.keys() & trainer_arguments.keys()):
        raise ConfigurationError(
            f"`{name}` must not be among the arguments of the trainers, since every stage has its"
            f" own. Use {_OWN[name]}."
        )


def _plan(
    model: LayerGroupTask,
    data: Any,
    epochs: int,
    head_epochs: int,
    steps: Any,
    lr: Any,
    lr_ratio: float | None,
) -> list[_Plan]:
    """Choose the stages, and what each trains on."""
    is_pretrained = bool(getattr(model.backbone, "pretrained", False))
    has_features = isinstance(data, ImageDataModule)
    is_augmented = has_features and not data.augmentation.is_none
    if lr_ratio is None:
        lr_ratio = 10.0 if is_pretrained and isinstance(lr, (int, float, str)) else 1.0
    cycles = SGDR(1, 2) if (epochs + 1).bit_count() == 1 else SGDR(epochs)
    every = {
        "head": _Plan("head", head_epochs, -1, 1.0, SGDR(1), has_features),
        "head_augmented": _Plan("head_augmented", head_epochs, -1, 1.0, SGDR(1)),
        "all": _Plan("all", epochs, 0, lr_ratio, cycles),
    }
    if steps != "course":
        return [every[name] for name in steps]
    if not is_pretrained:
        rank_zero_info(
            "fine_tune: everything is trained at once, since the model has no pretrained weights;"
            " `steps=('head', 'all')` trains its head first."
        )
        return [every["all"]]
    return [every[name] for name in _STEPS if name != "head_augmented" or is_augmented]


def _set(model: LayerGroupTask, plan: _Plan, lr: Any) -> None:
    """Freeze, and set the rates; several of them or a range serve the trained groups alone."""
    rates = model.optim.lr if _is_find(lr) else lr
    is_one = isinstance(rates, (int, float))
    model.set_learning_rates(rates, plan.lr_ratio if is_one else 1.0)
    model.freeze_to(plan.freeze_to)
    model.group_lrs()


def _callbacks(
    plan: _Plan, given: list[pl.Callback], trainer_arguments: dict[str, Any], *, finds: bool
) -> tuple[list[pl.Callback], LRFinder | None]:
    """Add to the callbacks of the user what a stage needs, and return its finder, if it has one."""
    own = [one for one in given if isinstance(one, LRFinder)]
    is_silent = trainer_arguments.get("enable_progress_bar") is False
    if not own and finds:
        own = [LRFinder() if is_silent else watched(LRFinder())]
    others = [one for one in given if not isinstance(one, LRFinder)]
    if not any(isinstance(one, Schedule) for one in others):
        others.insert(0, plan.cycles)
    if not is_silent and not any(isinstance(one, EpochTable) for one in others):
        others.append(EpochTable())
    return [*own, *others], own[0] if own else None


def _line(plan: _Plan, model: LayerGroupTask, *, finds: bool) -> str:
    names = [group.name for group in model.layer_groups()]
    rates = dict(zip(names, model.group_lrs(), strict=True))
    where = "features" if plan.on_features else "batches of the data"
    lrs = describe_group_lrs(rates)
    if finds:
        highest = max(rates.values())
        shares = (f"{name} {lr / highest:.3g}" for name, lr in rates.items() if lr > 0)
        lrs = f"found, in the ratios {', '.join(shares)}"
    epochs = "1 epoch" if plan.epochs == 1 else f"{plan.epochs} epochs"
    return f"Stage {plan.name}: {epochs} on {where}; learning rates {lrs}"


def _peaks(model: LayerGroupTask, curve: LRCurve | None) -> dict[str, float]:
    """Return the rates that a stage began its cycles with."""
    names = [group.name for group in model.layer_groups()]
    rates = dict(zip(names, model.group_lrs(), strict=True))
    if curve is None or curve.suggestion is None:
        return rates
    scale = curve.suggestion / model.group_lrs()[-1]
    return {name: lr * scale for name, lr in rates.items()}
