"""What the record says of a trained stage: time, speed, memory, metrics and whose weights."""

from typing import Any

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.callbacks.keep_best import KeepBest
from lightning_fastrecipes.callbacks.overfitting_stop import OverfittingStop
from lightning_fastrecipes.callbacks.validation_guard import ValidationGuard
from lightning_fastrecipes.recipe.artifacts.environment import peak_memory_mib
from lightning_fastrecipes.recipe.artifacts.history import History, read_history
from lightning_fastrecipes.recipe.config.schema import Stage
from lightning_fastrecipes.recipe.shared.modality import Modality


def stage_figures(
    stage: Stage,
    modality: Modality,
    data: Any,
    trainer: pl.Trainer,
    history: History,
    seconds: float,
) -> dict[str, Any]:
    """Collect the figures of a finished stage.

    ``metrics`` are those of the epoch whose weights the stage leaves, which is the last unless
    ``kept_epoch`` says another.
    """
    best = _best_epoch(trainer)
    rows = read_history(history.path)
    rows = rows[rows["stage"] == stage.name]
    kept = rows if best is None else rows[rows["epoch"] == best]
    last = (kept if len(kept) else rows).dropna(axis=1).to_dict("records")[-1:]
    metrics = last[0] if last else {}
    rate = history.num_samples / max(history.train_seconds, 1e-9)
    return {
        "name": stage.name,
        "seconds": round(seconds, 2),
        f"{modality.unit}_per_second": round(rate, 1),
        "peak_memory_mib": peak_memory_mib(),
        **{name: getattr(data, name) for name in modality.size_names},
        "metrics": {k: v for k, v in metrics.items() if k not in {"stage", "seconds", "part"}},
        "epochs": trainer.current_epoch,
        "max_epochs": stage.max_epochs,
        "steps": trainer.global_step,
        **({} if best is None else {"kept_epoch": best}),
        **_verdict(trainer, best),
    }


def _best_epoch(trainer: pl.Trainer) -> int | None:
    """Return the epoch, from 0, whose weights a callback chose; ``None`` for those of the last."""
    for one in pl.callbacks_of(trainer):
        if isinstance(one, (KeepBest, OverfittingStop)) and one.best_epoch is not None:
            return one.best_epoch
    return None


def _verdict(trainer: pl.Trainer, best: int | None) -> dict[str, str]:
    """Return what the guard says of the weights that a stage hands on."""
    callbacks = pl.callbacks_of(trainer)
    found = [callback for callback in callbacks if isinstance(callback, ValidationGuard)]
    if not found:
        return {}
    verdicts = found[0].verdicts
    epoch = max(verdicts, default=None) if best is None else best
    said = None if epoch is None else verdicts.get(epoch)
    return {"guard": said or "not checked, since nothing was validated before and after"}
