"""The section of a report in which labels are mended and duplicates found."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_fastrecipes.functional.images.near_duplicates import Pair
from lightning_fastrecipes.reporting import blocks
from lightning_fastrecipes.reporting.advice import Figures
from lightning_fastrecipes.reporting.blocks import Block, Page
from lightning_fastrecipes.reporting.finished_run import FinishedRun
from lightning_fastrecipes.reporting.image_looks import MOST_THUMB_BYTES, Looker, Place
from lightning_fastrecipes.reporting.image_rows import ImageRows
from lightning_fastrecipes.reporting.label_sources import image_folder, image_key
from lightning_fastrecipes.reporting.label_suspects import (
    MOST_CASES,
    MOST_COMPARED,
    Suspect,
    Tried,
    find_outliers,
    find_pairs,
    find_suspects,
    overlap_block,
    try_labels,
)

_MOST_PAIRS = 100
_SEED = 0


class Review:
    """Gathers the cases of a review, whose images are put on the page as they are needed.

    ``known`` says which images are on the page already: place to number.
    """

    def __init__(self, run: FinishedRun, page: Page, known: Mapping[Place, int]) -> None:
        self.run = run
        self.page = page
        self.known = dict(known)
        self.folder = image_folder(run.data)
        self.joiner = joiner_of(run.description["classes"])
        self._more: dict[Place, dict[str, Any]] = {}

    def image(self, place: Place, file: str, truth: str, prediction: str) -> int:
        """Return the number of an image on the page, and put it there if it is not."""
        if place not in self.known:
            self.known[place] = len(self.page.images)
            record: dict[str, Any] = {
                "name": image_key(file, self.folder), "split": place[0], "truth": truth,
                "prediction": prediction, "sure": None, "right": False, "thumb": None, "heat": None,
            }  # fmt: skip
            self.page.images.append(record)
            self._more[place] = record
        return self.known[place]

    def add_thumbs(self, looker: Looker) -> None:
        """Draw the images that have come, as long as the page has room."""
        taken = sum(len(image["thumb"] or "") for image in self.page.images)
        thumbs = looker.thumbs(list(self._more), MOST_THUMB_BYTES - taken)
        for place, thumb in thumbs.items():
            self._more[place]["thumb"] = thumb

    def label_case(self, tried: Tried, suspect: Suspect) -> dict[str, Any]:
        """Return a label that seems wrong as a case."""
        place, file = tried.places[suspect.row], tried.files[suspect.row]
        given, seems = self.joiner.join(suspect.given), self.joiner.join(suspect.seems)
        return {
            "image": self.image(place, file, given, seems),
            "file": image_key(file, self.folder),
            "split": place[0],
            "given": suspect.given,
            "suggested": suspect.seems,
            "likely": suspect.likely,
            "why": f"seems to be {seems or 'nothing'}: a lead of {100 * suspect.weight:.0f} points",
        }

    def pair_case(self, tried: Tried, names: list[str], rows: tuple[int, int]) -> dict[str, Any]:
        """Return an image that is there twice as a case: the copy outside of training goes."""
        one, other = sorted(rows, key=lambda row: tried.places[row][0] == "train")
        labels = [self._labels(tried, names, row) for row in (one, other)]
        texts = [self.joiner.join(label) for label in labels]
        images = [
            self.image(tried.places[row], tried.files[row], text, text)
            for row, text in zip((one, other), texts, strict=True)
        ]
        other_split = tried.places[other][0]
        differs = "" if texts[0] == texts[1] else f", which is labelled {texts[1] or 'nothing'}"
        return {
            "image": images[0],
            "beside": images[1],
            "file": image_key(tried.files[one], self.folder),
            "split": tried.places[one][0],
            "given": labels[0],
            "suggested": [],
            "likely": [],
            "remove": True,
            "why": f"nearly the same as {image_key(tried.files[other], self.folder)}"
            f" ({other_split}){differs}",
        }

    def _labels(self, tried: Tried, names: list[str], row: int) -> list[str]:
        target = tried.targets[row]
        if tried.targets.ndim == 1:
            return [names[target]] if target >= 0 else []
        return [name for name, holds in zip(names, target >= 0.5, strict=True) if holds]


def joiner_of(classes: list[str]) -> str:
    """Return what several labels are joined by: a space, or a sign that no label has."""
    return next(sign for sign in (" ", ",", ";", "|", "\t") if sign not in "".join(classes))


def add_review(
    run: FinishedRun,
    page: Page,
    figures: Figures,
    rows: ImageRows,
    known: Mapping[Place, int],
    features: npt.NDArray[np.float32] | None,
) -> None:
    """Put suspected labels, near duplicates, outliers and overlapping classes on the page.

    ``features`` ``(images, width)`` are those of the images that are on the page already.
    """
    tried = try_labels(run, rows)
    looker, review = Looker(run.data, run.model), Review(run, page, known)
    suspects = find_suspects(tried, rows.names)
    chosen = _compared(tried, suspects)
    places = [tried.places[row] for row in chosen]
    across, within = find_pairs(looker.compare(places), places)
    figures.suspects, figures.num_tried = len(suspects), len(tried.places)
    figures.leaks, figures.duplicates = len(across), len(within)

    def case(pair: Pair) -> dict[str, Any]:
        return review.pair_case(tried, rows.names, (chosen[pair.one], chosen[pair.other]))

    cases = [case(pair) for pair in across[:_MOST_PAIRS]]
    cases += [review.label_case(tried, suspect) for suspect in suspects[:MOST_CASES]]
    cases += [case(pair) for pair in within[:_MOST_PAIRS]]
    review.add_thumbs(looker)
    remark = (
        f"{len(suspects):,} of {len(tried.places):,} labels seem wrong. {len(across):,} pairs of"
        f" images are nearly the same in two splits, {len(within):,} within one."
    )
    if len(chosen) < len(tried.places):
        remark += f" {len(chosen):,} images were compared with one another."
    if len(suspects) > MOST_CASES:
        remark += f" The {MOST_CASES} most suspicious are shown."
    found: list[Block | None] = [blocks.text(text) for text in (remark, *tried.notes)]
    found.append(_review_block(run, review, rows, cases))
    found.append(overlap_block(tried, rows.names))
    outliers = [] if features is None else find_outliers(features)
    if outliers:
        title = "Images like no other of the validation and test splits"
        found.append({"type": "gallery", "title": title, "images": outliers})
    page.add("labels-to-mend", "Labels to mend, and images that are twice", found)


def _review_block(
    run: FinishedRun, review: Review, rows: ImageRows, cases: list[dict[str, Any]]
) -> Block | None:
    if not cases:
        return None
    where = run.folder.path.name
    return {
        "type": "review",
        "title": "Cases to decide",
        "key": f"fastrecipes {run.recipe.name} {where} {len(cases)} {cases[0]['file']}",
        "classes": rows.names,
        "several": rows.kind == "multi",
        "joiner": review.joiner,
        "items": cases,
        "after": f"Then run: fastrecipes clean {where} --apply relabel.csv",
    }


def _compared(tried: Tried, suspects: list[Suspect]) -> list[int]:
    """Choose the images that are compared with one another: all, or those that say most."""
    total = len(tried.places)
    if total <= MOST_COMPARED:
        return list(range(total))
    first = [suspect.row for suspect in suspects[: MOST_COMPARED // 4]]
    others = np.setdiff1d(np.arange(total), first)
    drawn = np.random.default_rng(_SEED).choice(others, MOST_COMPARED - len(first), replace=False)
    return sorted([*first, *drawn.tolist()])
