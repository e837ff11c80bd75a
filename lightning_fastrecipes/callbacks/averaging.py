"""End each epoch with an average of weights: a moving mean, a soup of cycle ends, or WiSE-FT."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError, rank_zero_info, rank_zero_warn
from lightning_fastrecipes.callbacks.engine.cycles import CycleEnds
from lightning_fastrecipes.callbacks.engine.norms import measure_norms
from lightning_fastrecipes.callbacks.keep_best import KeepBest
from lightning_fastrecipes.callbacks.overfitting_stop import OverfittingStop
from lightning_fastrecipes.callbacks.snapshots import CycleSnapshots
from lightning_fastrecipes.callbacks.train_metrics import TrainMetrics
from lightning_fastrecipes.errors import ConfigurationError, check_choice
from lightning_fastrecipes.nn.averaging import moving_share

_OPTIONS = {"ema": {"decay"}, "soup": {"cycle_len", "cycle_mult"}, "wise": {"share"}}
_WORDS = {
    "ema": "the moving mean of those after {} steps",
    "soup": "the mean of those at {} cycle ends",
    "wise": "between those before the fit and those it trained in {} steps",
}
_OTHERS = (pl.WeightAveraging, pl.StochasticWeightAveraging, pl.ModelPruning)
_MUST_FOLLOW = (KeepBest, OverfittingStop, CycleSnapshots, TrainMetrics)


class Averaging(pl.OwnCallback):
    """Validate, keep and end with an average of the weights; train on as if there were none.

    - ``ema``: the moving mean of the weights after each step. Its memory grows with the steps, as
      far as ``decay`` says, so that the first steps of a short fit are forgotten as well.
    - ``soup``: the mean of the weights at the ends of cycles, where the rates are lowest.
    - ``wise``: a point between the weights before the fit and those it has trained.

    From its first update on the average stands in the module from the last batch of an epoch to the
    first of the next: validations, ``KeepBest``, ``OverfittingStop``, ``CycleSnapshots``,
    checkpoints written there, and whoever has the module after the fit, see it. Within an epoch
    the module, and checkpoints written there, hold the weights as trained. Batch norm is measured
    anew with the average on 512 training samples, those of the datamodule's
    ``eval_dataloader("train")`` or of the training loader; where that cannot be, its statistics
    are averaged too, which is said. Rates, steps and random numbers stay as they are, and a resumed
    fit ends with the same bits.

    Args:
        kind: ``ema``, ``soup`` or ``wise``.
        decay: Of ``ema``: how much of the mean stays at each step, at least 0 and below 1, at
            first less; 0.999 if ``None``.
        share: Of ``wise``: how much the trained weights count, above 0 and at most 1; 0.5 if
            ``None``.
        cycle_len: Of ``soup``: length of the first cycle in epochs; that of the fit's schedule if
            ``None``.
        cycle_mult: Of ``soup``: growth of each cycle, if ``cycle_len`` is given; 1 if ``None``.

    Attributes:
        num_updates: How many weights, each after a step or a cycle, have gone into the average.

    Raises:
        ConfigurationError: If an argument is out of its range, or belongs to another kind.

    Example:
        >>> Averaging("ema").num_updates
        0

    References:
        Izmailov et al., *Averaging Weights Leads to Wider Optima* (2018); Wortsman et al., *Model
        soups* (2022) and *Robust fine-tuning of zero-shot models* (2022), WiSE-FT.
    """

    def __init__(
        self,
        kind: Literal["ema", "soup", "wise"] = "ema",
        *,
        decay: float | None = None,
        share: float | None = None,
        cycle_len: int | None = None,
        cycle_mult: int | None = None,
    ) -> None:
        check_choice("kind", kind, tuple(_OPTIONS))
        given = {
            "decay": decay, "share": share, "cycle_len": cycle_len, "cycle_mult": cycle_mult,
        }  # fmt: skip
        for name, value in given.items():
            if value is not None and name not in _OPTIONS[kind]:
                owner = next(other for other, names in _OPTIONS.items() if name in names)
                raise ConfigurationError(
                    f"`{name}` belongs to `{owner}`, but `kind` is `{kind}`. Leave it out."
                )
        self.kind = kind
        self.decay = 0.999 if decay is None else decay
        self.share = 0.5 if share is None else share
        if not 0 <= self.decay < 1:
            raise ConfigurationError(f"`decay` must be at least 0 and below 1, got {decay!r}.")
        if not 0 < self.share <= 1:
            raise ConfigurationError(f"`share` must be above 0 and at most 1, got {share!r}.")
        self._ends = CycleEnds("Averaging", cycle_len, 1 if cycle_mult is None else cycle_mult)
        self._forget()

    def _forget(self) -> None:
        self.num_updates = 0
        self._step = 0
        self._average: dict[str, Tensor] = {}  # of `wise`: the weights before the fit
        self._trained: dict[str, Tensor] | None = None  # while the average stands in the module

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "num_updates": self.num_updates,
            "step": self._step,
            "average": self._average,
            "trained": self._trained,
        }

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["kind"] != self.kind:
            raise SetupError(
                f"The fit that is resumed averages by `{state_dict['kind']}`, but"
                f" `Averaging` by `{self.kind}`. Give it the same `kind`."
            )
        self.num_updates, self._step = state_dict["num_updates"], state_dict["step"]
        self._average, self._trained = dict(state_dict["average"]), state_dict["trained"]

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Forget an earlier fit, unless the same trainer continues it."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and trainer.global_step == 0:
            self._forget()

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse fits without the cycles of a soup, and others that average or look too early."""
        if self.kind == "soup":
            self._ends.epochs(trainer)
        callbacks = pl.callbacks_of(trainer)
        for other in callbacks:
            if isinstance(other, _OTHERS):
                raise SetupError(
                    f"`Averaging` and `{type(other).__name__}` both choose the weights that a fit"
                    " ends with. Leave one of them out."
                )
        for earlier in callbacks[: callbacks.index(self)]:
            if isinstance(earlier, _MUST_FOLLOW):
                raise SetupError(
                    f"`Averaging` must come before `{type(earlier).__name__}`, which would look at"
                    " other weights at the end of a fit. Turn them round."
                )

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with the weights as trained."""
        self._take_out(pl_module)

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Go on with the weights as trained, after a validation within an epoch."""
        self._take_out(pl_module)

    @override
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Keep the weights before the fit, and those that are unfrozen in its midst."""
        if self.kind == "wise" or self.num_updates:
            for name, tensor in self._tensors(pl_module).items():
                if name not in self._average and tensor.is_floating_point():
                    self._average[name] = _wide(tensor).clone()

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Update the average after a step; after the last batch of an epoch put it in."""
        if trainer.global_step > self._step:
            self._step = trainer.global_step
            if self.kind == "ema":
                self._update(pl_module, moving_share(self.num_updates, self.decay))
            elif self.kind == "wise":
                self.num_updates += 1
        if trainer.is_last_batch:
            if self.kind == "soup" and self._ends.ending_cycle(trainer) is not None:
                self._update(pl_module, 1 / (self.num_updates + 1))
            self._put_in(trainer, pl_module)

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in for a validation within an epoch."""
        if trainer.state.fn == pl.TrainerFn.FITTING and not trainer.sanity_checking:
            self._put_in(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in where an epoch has ended before its last batch."""
        self._put_in(trainer, pl_module)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End with the average, and say what it is of."""
        self._put_in(trainer, pl_module)
        if self.num_updates:
            words = _WORDS[self.kind].format(self.num_updates)
            rank_zero_info(f"Averaging: the weights are {words}.")
        elif not pl.is_fast_dev_run(trainer):
            missing = "cycle" if self.kind == "soup" else "step"
            rank_zero_warn(
                f"`Averaging` had nothing to average, since no {missing} has ended: the weights are"
                " those that the fit has trained."
            )

    @torch.no_grad()
    def _update(self, module: pl.LightningModule, share: float) -> None:
        self.num_updates += 1
        for name, tensor in self._tensors(module).items():
            if not tensor.is_floating_point():
                continue
            now, held = _wide(tensor), self._average.get(name)
            if held is None:
                self._average[name] = now.clone()
            else:
                self._average[name] = held.to(now.device).lerp_(now, share)

    # Lightning validates in inference mode, whose tensors could not be trained on.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _put_in(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Put the average into the module, if there is one, and keep the weights as trained."""
        if self._trained is not None or not self.num_updates:
            return
        tensors = self._tensors(module)
        self._trained = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        for name, tensor in tensors.items():
            if name in self._average:
                held = self._average[name].to(tensor.device)
                if self.kind == "wise":
                    held = held.lerp(_wide(tensor), self.share)
                tensor.copy_(held)
        measure_norms(trainer, module)

    @torch.inference_mode(False)
    @torch.no_grad()
    def _take_out(self, module: pl.LightningModule) -> None:
        if self._trained is None:
            return
        for name, tensor in self._tensors(module).items():
            if name in self._trained:
                tensor.copy_(self._trained[name])
        self._trained = None

    def _tensors(self, module: pl.LightningModule) -> dict[str, Tensor]:
        """Return what a fit changes: the weights that train, or did, and what batch norm counts."""
        found: dict[str, Tensor] = {
            name: parameter
            for name, parameter in module.named_parameters()
            if (parameter.requires_grad or name in self._average) and not is_lazy(parameter)
        }
        norms = [p for p in module.named_modules() if isinstance(p[1], _BatchNorm)]
        return found | {
            f"{path}.{name}".lstrip("."): buffer
            for path, norm in norms
            for name, buffer in norm.named_buffers(recurse=False)
        }


def _wide(tensor: Tensor) -> Tensor:
    """Return a tensor in at least 32 bits, in which small shares of a mean are not lost."""
    return tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32))
