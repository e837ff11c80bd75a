"""What to try next, in order, each with its reason from the figures of the run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from lightning_fastrecipes.functional.intervals import Interval
from lightning_fastrecipes.reporting.finished_run import FinishedRun

_FEW_STEPS = 100  # of a whole run
_FEW_STEPS_OF_AN_EPOCH = 10
_WIDE = 0.06  # of an interval of a share
_IMBALANCE = 10.0
_LOW_RECALL = 0.15  # below the mean
_CALIBRATION = 0.05
_RISE = 1.05
_FALL = 0.97
_FACTOR = 10.0  # between the rate that was taken and the one that the finder suggests
_MANY_SUSPECTS = 0.01
_LOW_IS_BAD = ("accuracy", "f2", "r2")


class Advice(NamedTuple):
    """What to try, and why; the greater the ``weight``, the sooner."""

    weight: float
    title: str
    reason: str


@dataclass
class Figures:
    """What the parts of a report have found, for advice.

    ``suspects`` and ``leaks`` count labels that seem wrong, and pairs of images or rows that are in
    two splits; ``drift`` names columns and how far they differ between splits.
    """

    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict)
    baselines: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    stages: list[dict[str, Any]] = field(default_factory=list)
    num_train: int = 0
    num_tried: int = 0
    calibration_error: float | None = None
    temperature: float | None = None
    recalls: dict[str, float] = field(default_factory=dict)
    class_shares: dict[str, float] = field(default_factory=dict)
    found_rates: dict[str, tuple[float, float]] = field(default_factory=dict)
    suspects: int = 0
    duplicates: int = 0
    leaks: int = 0
    leaking_columns: list[str] = field(default_factory=list)
    drift: dict[str, float] = field(default_factory=dict)

    def take(
        self,
        run: FinishedRun,
        intervals: Mapping[str, Mapping[str, Interval]],
        baselines: Mapping[str, Mapping[str, Mapping[str, float]]],
    ) -> None:
        """Take what was measured, beside its intervals and baselines."""
        self.metrics = {split: dict(run.results[split]) for split in run.predictions}
        self.intervals = {split: dict(found) for split, found in intervals.items()}
        self.baselines = {
            split: {name: dict(values) for name, values in found.items()}
            for split, found in baselines.items()
        }


def advise(figures: Figures) -> list[Advice]:
    """Return what to try next, the most important first.

    >>> advise(Figures(leaks=3))[0].title
    'Look at the pairs across splits before anything else'
    """
    found = [
        *_of_data(figures), *_of_baselines(figures), *_of_fit(figures), *_of_steps(figures),
        *_of_classes(figures), *_of_measuring(figures),
    ]  # fmt: skip
    if not found:
        found = [
            Advice(
                0.0,
                "Look at the most wrong images or rows",
                "The curves, the splits and the labels show nothing that stands out.",
            )
        ]
    return sorted(found, key=lambda one: -one.weight)


def _of_data(f: Figures) -> list[Advice]:
    found = []
    if f.leaks:
        found.append(
            Advice(
                100,
                "Look at the pairs across splits before anything else",
                f"{f.leaks:,} pairs are nearly the same in two splits. If they show the same thing,"
                " what is measured is too good: keep them together by a `GroupSplit`, or remove one"
                " of each.",
            )
        )
    found += [
        Advice(
            99,
            f"Ask whether the column {name} is known when predicting",
            "By itself it says the target almost exactly, which is usually a leak.",
        )
        for name in f.leaking_columns
    ]
    if f.num_tried and f.suspects / f.num_tried > _MANY_SUSPECTS:
        found.append(
            Advice(
                80,
                "Mend the labels",
                f"{f.suspects:,} of {f.num_tried:,} labels seem wrong"
                f" ({100 * f.suspects / f.num_tried:.1f} %). Go through them below, save"
                " `relabel.csv`, and run `fastrecipes clean`.",
            )
        )
    if f.drift:
        worst = sorted(f.drift, key=lambda name: -f.drift[name])[:3]
        found.append(
            Advice(
                45,
                "Ask why the splits differ",
                f"{', '.join(worst)} are spread otherwise in validation or test than in training."
                " Split as the model will be used, or leave such columns out.",
            )
        )
    return found


def _of_baselines(f: Figures) -> list[Advice]:
    for split, bases in f.baselines.items():
        for base, values in bases.items():
            for metric, value in values.items():
                own = f.metrics.get(split, {}).get(metric)
                if own is None or metric == "loss":
                    continue
                is_worse = own <= value if metric in _LOW_IS_BAD else own >= value
                if is_worse:
                    return [
                        Advice(
                            95,
                            "Find out why the model has learned nothing",
                            f"{metric} of the {split} split is {own:.4g}, and with `{base}` it is"
                            f" {value:.4g}. Look at a batch (`fastrecipes show-batch`), at the"
                            " labels and at the learning rate.",
                        )
                    ]
    return []


def _of_fit(f: Figures) -> list[Advice]:
    if not {"train_loss", "val_loss"} <= set(f.history):
        return []
    rows = f.history.dropna(subset=["val_loss"])
    if len(rows) < 2:
        return []
    stage = rows["stage"].iloc[-1]
    losses = rows["val_loss"].to_numpy()
    best, last = int(losses.argmin()), float(losses[-1])
    train = float(rows["train_loss"].iloc[-1])
    if last > _RISE * losses[best] and train < last:
        return [
            Advice(
                70,
                "It overfits: augment more, train shorter, or get more data",
                f"The validation loss was lowest, {losses[best]:.4g}, after epoch {best + 1} of"
                f" {len(losses)}, and is {last:.4g} at the end, while the training loss fell to"
                f" {train:.4g}. `until_overfitting` stops there by itself.",
            )
        ]
    is_same_stage = bool(rows["stage"].iloc[-2] == stage)
    if is_same_stage and last < _FALL * losses[-2]:
        return [
            Advice(
                60,
                "Train longer",
                f"The validation loss still fell in the last epoch, from {losses[-2]:.4g} to"
                f" {last:.4g}. `fastrecipes run --continue RUN --stages.{stage}.max_epochs=N` goes"
                " on.",
            )
        ]
    if train > 1.5 * last:
        return [
            Advice(
                30,
                "Regularise less, or use a larger model",
                f"The training loss, {train:.4g}, is far above that of validation, {last:.4g}:"
                " augmentation or dropout may be stronger than they need to be.",
            )
        ]
    return []


def _of_steps(f: Figures) -> list[Advice]:
    found: list[Advice] = []
    steps = 0
    for stage in f.stages:
        size, epochs = stage.get("batch_size"), stage.get("epochs") or 1
        if not size or not f.num_train:
            continue
        # Earlier versions noted no steps.
        taken = stage.get("steps") or max(f.num_train // size, 1) * epochs
        per_epoch = max(taken // epochs, 1)
        steps += taken
        if per_epoch < _FEW_STEPS_OF_AN_EPOCH and not found:
            found.append(
                Advice(
                    50,
                    "Make the batches smaller",
                    f"An epoch of the stage {stage['name']} has {per_epoch} steps of {size}:"
                    f" there are {f.num_train:,} samples, and weights move too seldom. Halve"
                    " `batch_size`, and the rate with it.",
                )
            )
    if 0 < steps < _FEW_STEPS:
        found.append(
            Advice(
                55,
                "Take more steps",
                f"The whole run has taken {steps} steps. Give the stages more epochs.",
            )
        )
    for name, (taken, suggested) in f.found_rates.items():
        if max(taken, suggested) > _FACTOR * min(taken, suggested):
            word = "lower" if taken > suggested else "higher"
            found.append(
                Advice(
                    48,
                    f"Try a {word} rate in the stage {name}",
                    f"It trained at {taken:.2g}, and its rate finder suggests {suggested:.2g}.",
                )
            )
    return found


def _of_classes(f: Figures) -> list[Advice]:
    found = []
    shares = {name: share for name, share in f.class_shares.items() if share > 0}
    if len(shares) > 1 and max(shares.values()) > _IMBALANCE * min(shares.values()):
        rare = min(shares, key=lambda name: shares[name])
        mean = sum(f.recalls.values()) / max(len(f.recalls), 1)
        if f.recalls.get(rare, 1.0) < mean - _LOW_RECALL:
            found.append(
                Advice(
                    58,
                    "Show the rare classes more often",
                    f"{rare} has {100 * shares[rare]:.2g} % of the training samples and a recall of"
                    f" {100 * f.recalls[rare]:.0f} %, below the mean of {100 * mean:.0f} %. Set"
                    " `data.class_balanced: true`, or collect more of it.",
                )
            )
    if f.calibration_error is not None and f.calibration_error > _CALIBRATION:
        mend = "" if f.temperature is None else f" The temperature {f.temperature:.3g} mends most."
        found.append(
            Advice(
                25,
                "Do not take the probabilities at their word",
                f"They miss the share that is right by {100 * f.calibration_error:.1f} points on"
                f" average.{mend}",
            )
        )
    return found


def _of_measuring(f: Figures) -> list[Advice]:
    found = []
    for split, metrics in f.intervals.items():
        low, high = metrics.get("accuracy", (0.0, 0.0))
        if high - low > _WIDE:
            found.append(
                Advice(
                    20,
                    f"Measure on more samples than the {split} split has",
                    f"Its accuracy may be anywhere from {low:.3f} to {high:.3f}: between two runs"
                    " smaller differences are chance. Give `split` a larger share, or compare"
                    " seeds.",
                )
            )
    for metric in ("accuracy", "f2"):
        ends = [f.intervals.get(split, {}).get(metric) for split in ("val", "test")]
        if ends[0] and ends[1] and (ends[0][0] > ends[1][1] or ends[1][0] > ends[0][1]):
            found.append(
                Advice(
                    65,
                    "Ask why validation and test differ",
                    f"{metric} is {ends[0][0]:.3f} to {ends[0][1]:.3f} on validation and"
                    f" {ends[1][0]:.3f} to {ends[1][1]:.3f} on test, which is no chance: the splits"
                    " are of different data, or too much was chosen on one of them.",
                )
            )
    return found
