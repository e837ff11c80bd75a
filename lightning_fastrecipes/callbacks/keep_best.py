"""End a fit with the weights of its best epoch."""

import re
from typing import Any, Literal, cast

from torchmetrics import Metric
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError, rank_zero_info
from lightning_fastrecipes.callbacks.engine.best_weights import BestWeights
from lightning_fastrecipes.callbacks.engine.cycles import CycleEnds, Monitor
from lightning_fastrecipes.callbacks.engine.keyed import KeyedCallback
from lightning_fastrecipes.callbacks.overfitting_stop import OverfittingStop
from lightning_fastrecipes.callbacks.snapshots import CycleSnapshots
from lightning_fastrecipes.callbacks.train_metrics import TrainMetrics
from lightning_fastrecipes.errors import check_choice
from lightning_fastrecipes.protocols import HasPhaseMetrics

_LOW = r"loss|error|err|mse|rmse|mae|mape|msle|rmspe|rmsle|perplexity|hamming"
_HIGH = r"acc|accuracy|auc|auroc|f1|f2|fbeta|precision|recall|score|dice|iou|kappa|r2|mcc|map"


class KeepBest(KeyedCallback):
    """Train all epochs, and end with the weights of the best one.

    The module, and a checkpoint written at the end of the last epoch, then hold them. A resumed fit
    still knows the best epoch of before. Unlike ``OverfittingStop`` it stops nothing and looks at
    every validated epoch, not at the ends of cycles alone.

    Args:
        monitor: Logged metric, of the validation or of ``TrainMetrics``.
        mode: Whether the best value is the lowest, ``min``, or the highest, ``max``; as the metric
            itself says if ``None``.

    Attributes:
        history: For each validated epoch ``epoch``, from 0, and ``value``.

    Raises:
        ConfigurationError: If ``mode`` is neither.

    Example:
        >>> KeepBest("val_accuracy").history
        []

    References:
        ``SaveModelCallback`` of fastai 2, and ``best_save_name`` of the fast.ai course of 2018.
    """

    def __init__(
        self, monitor: str = "val_loss", mode: Literal["min", "max"] | None = None
    ) -> None:
        if mode is not None:
            check_choice("mode", mode, ("min", "max"))
        self.monitor = monitor
        self.mode = mode
        self._set_key(monitor=monitor, mode=mode)
        self._kept = BestWeights()
        self._watched = Monitor(monitor, mode or "min")
        self._validated_epoch: int | None = None

    @property
    def history(self) -> list[dict[str, float]]:
        """For each validated epoch ``epoch``, from 0, and ``value``."""
        return self._kept.history

    @property
    def best_epoch(self) -> int | None:
        """The epoch, from 0, whose weights are the best so far; ``None`` before the first."""
        return self._kept.best_epoch(self._watched)

    def decide(self, pl_module: pl.LightningModule) -> None:
        """Decide whether the lowest or the highest value is the best; a SetupError if unknown."""
        self._watched = Monitor(
            self.monitor, self.mode or metric_direction(self.monitor, pl_module)
        )

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"history": self._kept.history, "best": self._kept.weights}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._kept.history = list(state_dict["history"])
        self._kept.weights = state_dict["best"]

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Forget an earlier fit, unless the same trainer continues it."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and trainer.current_epoch == 0:
            self._kept = BestWeights()
        self._validated_epoch = None

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse fits without a validation, and others that choose the weights."""
        if not trainer.enable_validation:
            raise SetupError(
                "`KeepBest` needs a validation, but the fit has none. Give a validation loader."
            )
        self.decide(pl_module)
        callbacks = pl.callbacks_of(trainer)
        averages = (pl.WeightAveraging, pl.StochasticWeightAveraging)
        others = (*averages, pl.ModelPruning, OverfittingStop)
        for other in callbacks:
            if isinstance(other, others) or (isinstance(other, KeepBest) and other is not self):
                raise SetupError(
                    f"`KeepBest` and `{type(other).__name__}` both choose the weights that a fit"
                    " ends with. Leave one of them out."
                )
        for later in callbacks[callbacks.index(self) :]:
            if isinstance(later, (CycleSnapshots, TrainMetrics)):
                raise SetupError(
                    f"`{type(later).__name__}` must come before `KeepBest`, which goes back to the"
                    " best weights before it could see those of the last epoch. Turn them round."
                )

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse validations that do not see the weights at the end of an epoch."""
        CycleEnds("KeepBest", 1, 1).refuse_early_validation(trainer, "epoch")

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note which epoch the logged values are of."""
        if not trainer.sanity_checking:
            self._validated_epoch = trainer.current_epoch

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the validation; at the end of training go back to the best weights.

        Runs before checkpoints are written, so that they hold the best weights as well.
        """
        epoch = trainer.current_epoch
        if self._validated_epoch == epoch:
            value = self._watched.value(trainer, trainer.callback_metrics)
            self._kept.take({"epoch": float(epoch), "value": value}, self._watched, pl_module)
        if epoch + 1 == trainer.max_epochs:
            self._kept.put_back(pl_module)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go back to the best weights also where something else has ended the training."""
        self._kept.put_back(pl_module)
        best = self.best_epoch
        if best is not None:
            value = next(one["value"] for one in self.history if one["epoch"] == best)
            rank_zero_info(
                f"KeepBest: the weights are those after epoch {best + 1}, {self.monitor}"
                f" {value:.4g}."
            )


def metric_direction(monitor: str, module: pl.LightningModule) -> Literal["min", "max"]:
    """Return whether the lowest or the highest value of a metric is the best.

    Raise `SetupError` if neither the module nor the name says so.
    """
    if isinstance(module, HasPhaseMetrics):
        for phase, metrics in module.phase_metrics.items():
            name = monitor.removeprefix("train_").removeprefix(phase)
            found = cast(dict[str, Metric], dict(metrics.items())).get(f"{phase}{name}")
            if found is not None and found.higher_is_better is not None:
                return "max" if found.higher_is_better else "min"
    words = re.split(r"[^a-z0-9]+", monitor.lower())
    for pattern, mode in ((_LOW, "min"), (_HIGH, "max")):
        if any(re.fullmatch(pattern, word) for word in words):
            return cast(Literal["min", "max"], mode)
    raise SetupError(
        f"`KeepBest` does not know whether the lowest or the highest `{monitor}` is the best. Say"
        " it by `mode='min'` or `mode='max'`."
    )
