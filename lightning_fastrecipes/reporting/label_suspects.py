"""Labels of images that seem wrong, images that are twice, and images that are like no other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lightning_fastrecipes.data.images.features import FeatureDataModule
from lightning_fastrecipes.functional.images.near_duplicates import Pair, near_duplicates
from lightning_fastrecipes.functional.labels.fold_probabilities import (
    fold_penalty,
    fold_probabilities,
)
from lightning_fastrecipes.functional.labels.label_errors import (
    label_errors,
    overlapping_classes,
    suspicion,
    tag_errors,
    tag_suspicion,
)
from lightning_fastrecipes.recipe.run.plan import apply_stage
from lightning_fastrecipes.recipe.run.trainers import build_trainer
from lightning_fastrecipes.reporting import blocks
from lightning_fastrecipes.reporting.blocks import Block
from lightning_fastrecipes.reporting.finished_run import FinishedRun
from lightning_fastrecipes.reporting.image_looks import Place
from lightning_fastrecipes.reporting.image_rows import ImageRows

MOST_UNCACHED = 500
"""Training images whose features are computed for the report alone."""

MOST_CASES = 400
MOST_COMPARED = 4000
_NUM_OUTLIERS = 24
_NUM_NEIGHBOURS = 5
_FAR = 4.0  # deviations above the median distance
_SEED = 0


@dataclass(frozen=True)
class Tried:
    """Labels beside probabilities that were not trained on them.

    ``places`` and ``files`` name the images, ``probabilities`` have shape ``(rows, classes)``;
    ``targets`` are class indices, or 0 and 1 for each label, -1 where unknown. ``notes`` say where
    the probabilities are from.
    """

    places: list[Place]
    files: list[str]
    probabilities: npt.NDArray[np.float64]
    targets: npt.NDArray[Any]
    notes: list[str]


def try_labels(run: FinishedRun, rows: ImageRows) -> Tried:
    """Return the labels of all splits that can be tried, with probabilities for them."""
    is_several = rows.kind == "multi"
    targets: npt.NDArray[Any] = rows.targets if is_several else rows.hard
    frame = rows.frame
    found = Tried(
        list(zip(frame["split"], frame["position"].tolist(), strict=True)),
        frame["file"].tolist(),
        rows.predictions,
        targets,
        ["Labels of validation and test are tried by what the run predicts of them."],
    )
    trained, note = _train_probabilities(run, is_several=is_several)
    found.notes.append(note)
    if trained is None:
        return found
    probabilities, labels = trained
    files = [str(name) for name in run.data.eval_dataset("train").files[: len(labels)]]
    return Tried(
        [*found.places, *(("train", place) for place in range(len(labels)))],
        [*found.files, *files],
        np.concatenate([found.probabilities, probabilities]),
        np.concatenate([found.targets, labels]),
        found.notes,
    )


def _train_probabilities(
    run: FinishedRun, *, is_several: bool
) -> tuple[tuple[npt.NDArray[np.float64], npt.NDArray[Any]] | None, str]:
    """Return probabilities of the training images by folds, and their labels; and a remark."""
    untried = "Labels of the training split are not tried: "
    if run.start is None:
        return None, untried + "the data are not to be had."
    if not run.start.backbone.pretrained:
        return None, untried + (
            "the network began from random weights, whose features say little of an image."
        )
    first = run.recipe.stages[0]
    if not first.precompute and len(run.data.train_targets) > MOST_UNCACHED:
        return None, untried + (
            f"there are more than {MOST_UNCACHED:,}, and no features of them are kept. Begin the"
            " recipe with a stage that has `precompute: true`."
        )
    features, targets = _train_features(run)
    if not is_several and targets.ndim == 2:
        targets = targets.shape[1] - 1 - targets.flip(1).argmax(1)
    labels = targets.float() if is_several else targets.long()
    num_classes = len(run.description["classes"])
    penalty = fold_penalty(features, labels, num_classes, seed=_SEED)
    p = fold_probabilities(features, labels, num_classes, seed=_SEED, penalty=penalty)
    wrong = _errors(p.double().numpy(), labels.numpy())
    trusted = torch.from_numpy(~(wrong if wrong.ndim == 1 else wrong.any(1)))
    # Again without the labels that seem wrong, which pull the others along.
    p = fold_probabilities(
        features, labels, num_classes, seed=_SEED, trusted=trusted, penalty=penalty
    )
    note = (
        "Labels of the training split are tried by folds: a linear model on the features of the"
        " pretrained network, which never sees the label that it is asked for."
    )
    return (p.double().numpy(), labels.double().numpy() if is_several else labels.numpy()), note


def _train_features(run: FinishedRun) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features and targets of the training split, from the cache of the run if it has any.

    The data are left as the first stage has them.
    """
    options = run.data.options
    run.data.eval_image_size = None
    run.data.geometry = options["geometry"] or type(run.data.geometry)()
    apply_stage(run.recipe, 0, run.data, run.start, run.folder)
    run.start.freeze_to(-1)
    features = FeatureDataModule(run.data, run.start)
    # A fit of no epoch reads the very features that the stage has kept.
    trainer = build_trainer(
        run.recipe,
        run.start,
        callbacks=[],
        logger=False,
        max_epochs=0,
        enable_progress_bar=False,
        enable_checkpointing=False,
        default_root_dir=run.folder.path,
    )
    trainer.fit(run.start, datamodule=features)
    batches = list(features.eval_dataloader("train"))
    found = torch.cat([batch[0] for batch in batches])
    return found, torch.cat([batch[1] for batch in batches])


def _errors(p: npt.NDArray[np.float64], targets: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return label_errors(p, targets) if targets.ndim == 1 else tag_errors(p, targets)


@dataclass(frozen=True)
class Suspect:
    """A label that seems wrong: the row of ``Tried``, what is given and what it seems to be."""

    row: int
    given: list[str]
    seems: list[str]
    likely: list[str]
    weight: float


def find_suspects(tried: Tried, names: Sequence[str]) -> list[Suspect]:
    """Return the labels that are probably wrong, the most suspicious first."""
    p, targets = tried.probabilities, tried.targets
    found = []
    if targets.ndim == 1:
        doubts = suspicion(p, targets)
        for row in np.flatnonzero(label_errors(p, targets)).tolist():
            order = np.argsort(-p[row], kind="stable")
            other = next(place for place in order.tolist() if place != targets[row])
            likely = [names[place] for place in order[:5].tolist()]
            found.append(
                Suspect(row, [names[targets[row]]], [names[other]], likely, float(doubts[row]))
            )
    else:
        doubts, wrong = tag_suspicion(p, targets), tag_errors(p, targets)
        for row in np.flatnonzero(wrong.any(axis=1)).tolist():
            given = targets[row] >= 0.5
            seems = given ^ wrong[row]
            found.append(
                Suspect(
                    row,
                    [name for name, holds in zip(names, given, strict=True) if holds],
                    [name for name, holds in zip(names, seems, strict=True) if holds],
                    [names[place] for place in np.argsort(-p[row], kind="stable")[:5].tolist()],
                    float(doubts[row].max()),
                )
            )
    return sorted(found, key=lambda one: -one.weight)


def overlap_block(tried: Tried, names: Sequence[str]) -> Block | None:
    """Return which classes overlap, or nothing of several labels."""
    if tried.targets.ndim == 2:
        return None
    pairs = overlapping_classes(tried.probabilities, tried.targets, names)
    rows = [[one.one, one.other, one.rows, 100 * one.share] for one in pairs]
    note = "Rows of either class that seem to be of the other. Merge them, or say what tells them."
    columns = ["class", "other class", "rows", "% of both"]
    return blocks.table("Classes that overlap", columns, rows, note)


def find_pairs(looks: torch.Tensor, places: Sequence[Place]) -> tuple[list[Pair], list[Pair]]:
    """Return pairs of near duplicates across splits, and within a split."""
    pairs = near_duplicates(looks)
    across = [pair for pair in pairs if places[pair.one][0] != places[pair.other][0]]
    within = [pair for pair in pairs if places[pair.one][0] == places[pair.other][0]]
    return across, within


def find_outliers(features: npt.NDArray[np.float32]) -> list[int]:
    """Return rows that are far from their nearest neighbours, the farthest first."""
    if len(features) < 10 * _NUM_NEIGHBOURS:
        return []
    values = torch.from_numpy(np.array(features)).float()
    values = torch.nn.functional.normalize(values - values.mean(0))
    likest = [(part @ values.T).topk(_NUM_NEIGHBOURS + 1)[0] for part in torch.split(values, 512)]
    distances = 1 - torch.cat(likest)[:, 1:].mean(1).double().numpy()
    middle = float(np.median(distances))
    spread = 1.4826 * float(np.median(np.abs(distances - middle)))
    order = np.argsort(-distances, kind="stable")[:_NUM_OUTLIERS]
    return [int(row) for row in order if distances[row] > middle + _FAR * spread]
