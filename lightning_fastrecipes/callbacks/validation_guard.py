"""After each validation: is the model worse than before the fit, and does it still work?"""

import math
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.callbacks.engine.initial_checks import CheckResult
from lightning_fastrecipes.callbacks.engine.stepping import VAL_LOSS, mean_over_processes
from lightning_fastrecipes.callbacks.engine.validation_watch import ValidationWatch
from lightning_fastrecipes.errors import check_at_least
from lightning_fastrecipes.functional.training.worsening import (
    has_run_away,
    is_clearly_worse,
    modes_disagree,
)
from lightning_fastrecipes.protocols import HasPhaseMetrics

_DEAD_SHARE = 0.25
_DEAD_UNITS = 0.4


class ValidationGuard(pl.OwnCallback):
    """Warn after a validation when training has made the model worse, and name what helps.

    - ``validation``: the first metric whose direction is known, or else the loss, is clearly
      worse than before the fit, by more than its noise.
    - ``loss``: beside such a metric, the loss is more than ten times what it was, which
      over-fitting alone does not do.
    - ``features``: a quarter of the backbone's outputs, or more, have become the same for all
      validation samples.
    - ``units``: so have two fifths of the units behind activations, or more, such as those of a
      `ReLU` that is 0 for every sample.
    - ``modes``: on the same samples the loss with the stored statistics of batch norm, as
      evaluation computes it, is far above that with statistics of each batch, as training does.

    The state before the fit is measured by one whole validation, as Lightning's sanity check. The
    training is the same with and without this callback, and is never stopped.

    Args:
        num_batches: On how many validation batches both modes are compared and units are watched,
            at least 1.
        loss_name: Under which name the module logs its validation loss, such as ``val/loss``.

    Attributes:
        results: What the checks of the last validation found.
        verdicts: For each epoch ``fine``, or what is wrong; empty without a validation.

    Raises:
        ValueError: If ``num_batches`` is below 1.

    Example:
        >>> ValidationGuard().verdicts
        {}

    Note:
        ``features`` needs a module with a ``backbone``, ``units`` activations that are modules of
        torch and 64 samples in ``num_batches``, ``modes`` a module with
        ``loss(logits, targets)`` and batches of inputs and targets; elsewhere they are left out. A
        resumed fit compares with what was measured before it began.

    References:
        Ioffe and Szegedy, *Batch Normalization* (2015); Stanford CS231n, *Neural Networks Part 3*,
        "babysitting the learning process".
    """

    def __init__(self, num_batches: int = 4, loss_name: str = VAL_LOSS) -> None:
        check_at_least("num_batches", num_batches, 1)
        self.loss_name = loss_name
        self.num_batches = num_batches
        self.results: list[CheckResult] = []
        self.verdicts: dict[int, str] = {}
        self._before: dict[str, float] = {}
        self._peaks: list[float] = []
        self._said: set[str] = set()
        self._watch: ValidationWatch | None = None
        self._sanity_steps: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed fit compares with."""
        return {"before": self._before, "peaks": self._peaks, "verdicts": self.verdicts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what was measured before the fit that is resumed."""
        self._before, self._peaks = dict(state_dict["before"]), list(state_dict["peaks"])
        self.verdicts = dict(state_dict["verdicts"])

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Forget an earlier fit, and ask for a whole validation before this one."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and not pl.is_fast_dev_run(trainer):
            self.results, self.verdicts, self._before = [], {}, {}
            self._peaks, self._said = [], set()
            self._sanity_steps, trainer.num_sanity_val_steps = (
                trainer.num_sanity_val_steps,
                math.inf,
            )

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the trainer as it was."""
        if self._sanity_steps is not None:
            trainer.num_sanity_val_steps, self._sanity_steps = self._sanity_steps, None
        self._end_watch()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the highest rate of each group."""
        rates = [group["lr"] for opt in trainer.optimizers for group in opt.param_groups]
        # Groups may be added in mid-fit, by callbacks that unfreeze.
        pairs = zip_longest(rates, self._peaks, fillvalue=0.0)
        self._peaks = [max(pair) for pair in pairs]

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to look on, if this validation belongs to a fit."""
        if self._sanity_steps is not None:
            self._watch = ValidationWatch(pl_module, self.num_batches)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Look at one batch."""
        if self._watch is not None:
            self._watch.look_at(trainer, batch, batch_idx)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep what was found before the fit, or compare with it."""
        watch = self._end_watch()
        if watch is None:
            return
        found = _measure(trainer, watch, self.loss_name)
        if trainer.sanity_checking:
            self._before = found
        elif self._before:
            self.results = _compare(pl_module, self._before, found, self.loss_name)
            self._report(trainer, pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Look no longer, whatever ended the fit."""
        self._end_watch()

    def _report(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        failed = [result for result in self.results if result.passed is False]
        cure = _cure(trainer, pl_module, self._peaks)
        text = " ".join(f"[{result.check}] {result.message}" for result in failed)
        self.verdicts[trainer.current_epoch] = f"{text} {cure}" if failed else "fine"
        if any(result.check not in self._said for result in failed):
            self._said |= {result.check for result in failed}
            epoch = trainer.current_epoch + 1
            rank_zero_warn(f"`ValidationGuard`, after epoch {epoch}: {text} {cure}")

    def _end_watch(self) -> ValidationWatch | None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.end()
        return watch


def _measure(trainer: pl.Trainer, watch: ValidationWatch, loss_name: str) -> dict[str, float]:
    """Return metrics and findings of a validation, the same in every process."""
    logged = trainer.callback_metrics.items()
    found = {k: mean_over_processes(trainer, v) for k, v in logged if isinstance(v, Tensor)}
    found = {k: v for k, v in found.items() if k.startswith("val_") or k == loss_name}
    count = torch.tensor(float(watch.num_samples))
    found["num_samples"] = mean_over_processes(trainer, count) * trainer.world_size
    shares = {"dead": watch.dead_share(trainer), "dead_units": watch.dead_units(trainer)}
    found |= {name: share for name, share in shares.items() if share is not None}
    if watch.losses:
        sums = torch.stack([torch.stack(pair).float() for pair in watch.losses]).mean(0)
        found["eval_mode"], found["train_mode"] = (mean_over_processes(trainer, s) for s in sums)
    return found


def _compare(
    module: pl.LightningModule, before: dict[str, float], found: dict[str, float], loss_name: str
) -> list[CheckResult]:
    name, higher = _monitored(module, found, loss_name)
    results = [CheckResult("validation", None, "no metric is logged that is known")]
    if name in before and name in found:
        now, then = found[name], before[name]
        count = int(found["num_samples"])
        is_worse = is_clearly_worse(then, now, count, higher_is_better=higher)
        side = "below" if higher else "above"
        text = f"{name} is {now:.4g}, {f'clearly {side}' if is_worse else 'after'} the {then:.4g}"
        results = [CheckResult("validation", not is_worse, f"{text} of before this fit.")]
    if name != loss_name and loss_name in before and loss_name in found:
        now, then = found[loss_name], before[loss_name]
        text = f"{loss_name} is {now:.4g}, after the {then:.4g} of before this fit."
        results.append(CheckResult("loss", not has_run_away(then, now), text))
    named = {
        "dead": ("features", "backbone's features"),
        "dead_units": ("units", "network's units"),
    }
    for key, (check, what) in named.items():
        if key in found and key in before:
            dead, then = found[key], before[key]
            text = (
                f"{100 * dead:.0f} % of the {what} are the same for all validation samples"
                f" ({100 * then:.0f} % before this fit)."
            )
            most = _DEAD_SHARE if key == "dead" else _DEAD_UNITS
            results.append(CheckResult(check, dead - then < most, text))
    if "eval_mode" in found:
        by_store, by_batch = found["eval_mode"], found["train_mode"]
        text = (
            f"on the same samples the loss is {by_store:.3g} with the stored statistics of batch"
            f" norm, and {by_batch:.3g} with those of each batch."
        )
        results.append(CheckResult("modes", not modes_disagree(by_store, by_batch), text))
    return results


def _monitored(
    module: pl.LightningModule, found: dict[str, float], loss_name: str
) -> tuple[str, bool]:
    """Name the metric to compare, and whether more of it is better."""
    if isinstance(module, HasPhaseMetrics):
        for name, metric in module.phase_metrics["val_"].items():
            higher = getattr(metric, "higher_is_better", None)
            if name in found and higher is not None:
                return name, bool(higher)
    return loss_name, False


def _cure(trainer: pl.Trainer, module: pl.LightningModule, peaks: list[float]) -> str:
    """Return what to do instead."""
    groups = [group for opt in trainer.optimizers for group in opt.param_groups]
    rates: dict[str, float] = {}
    for group, peak in zip(groups, peaks, strict=False):
        rates.setdefault(str(group.get("name", len(rates))).partition("/")[0], peak)
    trained = {name: rate for name, rate in rates.items() if rate > 0}
    said = ", ".join(f"{name} {rate / 10:.2g}" for name, rate in trained.items())
    is_stored = getattr(module, "norm_policy", None) == "eval" and len(trained) > 1
    other = " `norm_policy='calibrated'` stands higher rates than 'eval'." if is_stored else ""
    return f"Go back, and train at a tenth of the rates ({said}).{other}"
