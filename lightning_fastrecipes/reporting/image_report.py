"""The report of a run of images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.functional.flat_map import flat_map
from lightning_fastrecipes.functional.intervals import Interval, mean_interval, share_interval
from lightning_fastrecipes.reporting import blocks
from lightning_fastrecipes.reporting.advice import Figures
from lightning_fastrecipes.reporting.blocks import Block, Page
from lightning_fastrecipes.reporting.class_sections import (
    Decided,
    calibration_blocks,
    class_intervals,
    commonest_class,
    confusion_blocks,
    measure_calibration,
)
from lightning_fastrecipes.reporting.finished_run import FinishedRun
from lightning_fastrecipes.reporting.image_looks import Looker, Looks, Place
from lightning_fastrecipes.reporting.image_rows import ImageRows, read_rows, same_rows
from lightning_fastrecipes.reporting.label_sources import other_columns
from lightning_fastrecipes.reporting.number_sections import (
    number_blocks,
    number_intervals,
    number_metrics,
)
from lightning_fastrecipes.reporting.overview import results_blocks
from lightning_fastrecipes.reporting.review_section import add_review
from lightning_fastrecipes.reporting.slices import slice_blocks
from lightning_fastrecipes.reporting.tag_sections import (
    commonest_tags,
    tag_blocks,
    tag_intervals,
)

MOST_SHOWN = 2000
"""Images with a thumbnail, of those that were predicted."""

_MOST_MAPPED = 1500
_HEATED = 24
_HEATED_PER_CLASS = 3
_MOST_HEATED = 240
_SEED = 0


@dataclass
class ImageReport:
    """The parts of a report of images, which one after the other are put on a page."""

    run: FinishedRun
    page: Page
    figures: Figures
    rows: ImageRows
    shown: npt.NDArray[np.int64]
    looks: Looks
    looker: Looker | None
    notes: list[str] = field(default_factory=list)

    def write(self) -> None:
        """Put everything that is known of images on the page."""
        splits = list(self.run.predictions)
        write = {"multi": self._tags, "numbers": self._numbers}.get(self.rows.kind, self._classes)
        write(splits)
        self._add_images()
        self._galleries()
        self._map()
        self._slices()
        if self.looker is not None and self.rows.kind != "numbers":
            known = {self._place(row): place for place, row in enumerate(self.shown.tolist())}
            add_review(self.run, self.page, self.figures, self.rows, known, self.looks.features)

    def _decided(self, split: str) -> Decided:
        places = self.rows.of(split)
        losses = self.rows.frame["wrongness"].to_numpy()[places]
        return Decided(self.rows.predictions[places], self.rows.hard[places], losses)

    def _classes(self, splits: Sequence[str]) -> None:
        rows, figures = self.rows, self.figures
        found = {split: self._decided(split) for split in splits}
        shares = self._train_shares()
        measured = {split: class_intervals(one) for split, one in found.items()}
        baselines = {}
        for split, one in found.items():
            own = shares
            if own is None:
                counts = np.bincount(one.truth[one.truth >= 0], minlength=len(rows.names))
                own = counts / max(counts.sum(), 1)
            baselines[split] = {"the commonest class always": commonest_class(one, own)}
        self._results(measured, baselines)
        self.page.add("classes", "Classes", confusion_blocks(found, rows.names))
        calibration = measure_calibration(found)
        self.page.add("calibration", "Calibration", calibration_blocks(found, calibration))
        last = found[splits[-1]]
        counts = last.counts()
        support = np.maximum(counts.sum(1), 1)
        figures.calibration_error = calibration.errors[splits[-1]]
        figures.temperature = calibration.temperature
        figures.recalls = dict(zip(rows.names, (np.diag(counts) / support).tolist(), strict=True))
        if shares is not None:
            figures.class_shares = dict(zip(rows.names, shares.tolist(), strict=True))

    def _tags(self, splits: Sequence[str]) -> None:
        rows = self.rows
        assert rows.thresholds is not None
        measured, baselines, parts = {}, {}, []
        shares = self._train_shares()
        for split in splits:
            places = rows.of(split)
            p, targets = rows.predictions[places], rows.targets[places]
            measured[split] = tag_intervals(p, targets, rows.thresholds)
            own = (targets >= 0.5).mean(0) if shares is None else shares
            name, scores = commonest_tags(targets, own)
            baselines[split] = {name: scores}
            parts.append(tag_blocks(split, p, targets, rows.thresholds, rows.names))
        self._results(measured, baselines)
        self.page.add("labels", "Labels", [one for part in reversed(parts) for one in part])

    def _numbers(self, splits: Sequence[str]) -> None:
        rows = self.rows
        measured, baselines, parts = {}, {}, []
        centres = [number["mean"] for number in self.run.description["numbers"]]
        logs = [number.get("log", False) for number in self.run.description["numbers"]]
        for split in splits:
            places = rows.of(split)
            several: dict[str, Interval] = {}
            base: dict[str, float] = {}
            for place, name in enumerate(rows.names):
                truth, predicted = rows.targets[places, place], rows.predictions[places, place]
                end = "" if len(rows.names) == 1 else f"_{name}"
                centre = float(np.exp(centres[place]) if logs[place] else centres[place])
                plain = number_metrics(truth, np.full(len(truth), centre))
                intervals = number_intervals(truth, predicted)
                several |= {f"{metric}{end}": one for metric, one in intervals.items()}
                base |= {f"{metric}{end}": value for metric, value in plain.items()}
                parts.append(number_blocks(split, name, truth, predicted))
            measured[split] = several
            baselines[split] = {"the mean always": base}
        self._results(measured, baselines)
        self.page.add("numbers", "Numbers", [one for part in parts for one in part])

    def _results(self, measured: Any, baselines: Any) -> None:
        self.figures.take(self.run, measured, baselines)
        self.page.add("results", "Results", results_blocks(self.run, measured, baselines))

    def _train_shares(self) -> npt.NDArray[np.float64] | None:
        """Return the share of each class, or label, among the training images."""
        if self.run.data is None:
            return None
        targets = self.run.data.train_targets.numpy()
        if targets.ndim == 2:
            known = targets >= 0
            shares = np.where(known, targets, 0).sum(0) / np.maximum(known.sum(0), 1)
            return np.asarray(shares, dtype=np.float64)
        counts = np.bincount(targets[targets >= 0], minlength=len(self.rows.names))
        return np.asarray(counts / max(counts.sum(), 1), dtype=np.float64)

    def _place(self, row: int) -> Place:
        frame = self.rows.frame
        return str(frame["split"].iat[row]), int(frame["position"].to_numpy()[row])

    def _add_images(self) -> None:
        frame, heat = self.rows.frame, self._heat()
        for row in self.shown.tolist():
            place = self._place(row)
            self.page.images.append(
                {
                    "name": short_name(str(frame["file"].iat[row])),
                    "split": place[0],
                    "truth": frame["truth"].iat[row],
                    "prediction": frame["prediction"].iat[row],
                    "sure": frame["sureness"].iat[row],
                    "right": bool(frame["is_right"].iat[row]),
                    "thumb": self.looks.thumbs.get(place),
                    "heat": heat.get(place),
                }
            )

    def _orders(self) -> dict[str, npt.NDArray[np.int64]]:
        """Return the galleries: places in ``shown``, the most telling first."""
        frame = self.rows.frame.iloc[self.shown]
        worst = np.argsort(-frame["wrongness"].to_numpy(), kind="stable")
        right = frame["is_right"].to_numpy(bool)
        if self.rows.kind == "numbers":
            return {"Most wrong": worst, "Nearest to the truth": worst[::-1]}
        unsure = np.argsort(-frame["unsureness"].to_numpy(), kind="stable")
        return {
            "Most wrong": worst[~right[worst]],
            "Most unsure": unsure,
            "Surest and right": worst[::-1][right[worst[::-1]]],
        }

    def _heat(self) -> dict[Place, dict[str, Any]]:
        """Return the heat maps of the images that stand first in a gallery, or for their class."""
        if self.looker is None:
            return {}
        truths = self.rows.frame["truth"].to_numpy()[self.shown]
        chosen: dict[int, None] = {}
        for order in self._orders().values():
            chosen |= dict.fromkeys(order[:_HEATED].tolist())
        for order in self._orders().values():
            first = pd.Series(order).groupby(truths[order], sort=False).head(_HEATED_PER_CLASS)
            chosen |= dict.fromkeys(first.tolist())
        rows = self.shown[list(chosen)[:_MOST_HEATED]]
        outputs = self.rows.predictions[rows]
        # Of several numbers the first; of classes and labels the likeliest.
        wanted = outputs.argmax(1) if self.rows.kind != "numbers" else np.zeros(len(rows), int)
        return self.looker.heat([self._place(row) for row in rows.tolist()], wanted.tolist())

    def _galleries(self) -> None:
        found: list[Block | None] = [
            {"type": "gallery", "title": title, "images": order.tolist()}
            for title, order in self._orders().items()
            if len(order)
        ]
        self.page.add("galleries", "Images", [*map(blocks.text, self.notes), *found])

    def _map(self) -> None:
        features = self.looks.features
        if features is None or len(features) < 3:
            return
        places = np.arange(len(features))
        if len(places) > _MOST_MAPPED:
            places = np.sort(np.random.default_rng(_SEED).choice(places, _MOST_MAPPED, False))
        flat = flat_map(features[places], _SEED)
        note = (
            "Features of the trained model. Like lies near like; far distances mean little. Point"
            " at a dot to see its image. Wrong ones have a ring."
        )
        points = np.column_stack([places, flat]).tolist()
        self.page.add(
            "map", "Map of the features", [blocks.text(note), {"type": "map", "points": points}]
        )

    def _slices(self) -> None:
        frame = self.rows.frame
        if self.run.data is None:
            return
        others = other_columns(self.run.data, frame["file"].tolist())
        if others is None:
            return
        if self.rows.kind == "numbers":
            errors = frame["wrongness"].to_numpy()
            found = slice_blocks(
                others, lambda rows: (float(errors[rows].mean()), mean_interval(errors[rows])),
                "error in deviations", low_is_bad=False,
            )  # fmt: skip
        else:
            right = frame["is_right"].to_numpy(bool)
            found = slice_blocks(
                others,
                lambda rows: (
                    float(right[rows].mean()), share_interval(int(right[rows].sum()), len(rows))
                ),
                "share that is right", low_is_bad=True,
            )  # fmt: skip
        self.page.add("slices", "Parts of the data", found)


def short_name(file: str) -> str:
    """Return the last two parts of a path, which name an image and often its class."""
    return "/".join(Path(file).parts[-2:])


def choose_shown(rows: ImageRows, most: int = MOST_SHOWN) -> npt.NDArray[np.int64]:
    """Choose the rows that are shown: half of them the most wrong, the others drawn at random."""
    total = len(rows.frame)
    if total <= most:
        return np.arange(total)
    worst = np.argsort(-rows.frame["wrongness"].to_numpy(), kind="stable")[: most // 2]
    rest = np.setdiff1d(np.arange(total), worst)
    drawn = np.random.default_rng(_SEED).choice(rest, most - len(worst), replace=False)
    return np.sort(np.concatenate([worst, drawn]))


def begin_image_report(run: FinishedRun, page: Page, figures: Figures) -> ImageReport:
    """Read the predictions of images, and look at those that are shown."""
    rows = read_rows(run)
    shown, notes = choose_shown(rows), []
    if len(shown) < len(rows.frame):
        notes.append(
            f"{len(shown):,} of {len(rows.frame):,} images are shown: the {MOST_SHOWN // 2:,} most"
            " wrong, the others drawn at random. Figures are of all."
        )
    gone = [split for split in run.predictions if same_rows(run, split) is None]
    looker, looks = None, Looks()
    if run.missing:
        notes.append(f"The images are not to be had, so that none is shown: {run.missing}")
    elif gone:
        notes.append(
            "The data are no longer those of the run, whose splits had other images. None is shown."
        )
    else:
        looker = Looker(run.data, run.model)
        frame = rows.frame.iloc[shown]
        places = list(zip(frame["split"], frame["position"].tolist(), strict=True))
        looks = looker.look(places)
    return ImageReport(run, page, figures, rows, shown, looks, looker, notes)
