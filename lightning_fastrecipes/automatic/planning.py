"""What of the candidates fits into the time: measured steps, shorter trainings, shares."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lightning_fastrecipes.automatic.candidates import Candidate, images_within, table_within
from lightning_fastrecipes.automatic.machine import seconds_per_step
from lightning_fastrecipes.automatic.trials import as_recipe
from lightning_fastrecipes.recipe.loading import modality_of
from lightning_fastrecipes.recipe.run.plan import build_parts

Say = Callable[[str], None]

SHARE_OF_REST = 0.8
"""Share of the time after the trials that several models may take."""

SLOWER = 1.2
"""How many times longer a training may last than the one before it."""

_SHARE_TO_TRY = 0.6
"""Share of the time in which candidates are tried; the rest trains what was chosen."""

_OVERHEAD = 2.0
"""How many times longer a training lasts than its bare steps, validation included."""


def share_to_try(found: Sequence[Candidate], folds: int) -> float:
    """Return the share of the time in which candidates are tried; the rest trains what won."""
    is_table = found[0].is_table
    share = _SHARE_TO_TRY if is_table else 1.0
    if not folds:
        return share
    # Candidates of tables take as long as one another, of images the last nearly all.
    trainings = SLOWER * folds / (len(found) if is_table else 1)
    return min(share, SHARE_OF_REST / (SHARE_OF_REST + trainings))


def planned(
    found: list[Candidate], share: float, end: float, folder: Path, say: Say
) -> list[Candidate]:
    """Measure a step of each candidate, and shorten or leave out what would last too long.

    ``share`` of the time until ``end``, of ``time.monotonic``, is for these candidates. ``folder``
    is where the runs that are measured would be.
    """
    left: list[Candidate] = []
    words: list[str] = []
    time_each = share * (end - time.monotonic()) / len(found)
    for candidate in found:
        if not candidate.is_table and candidate.name == "head":
            left.append(candidate)
            continue
        recipe = as_recipe(candidate, folder)
        data, model = build_parts(recipe)
        batch_size = int(candidate.document["data"]["init_args"]["batch_size"])
        seconds = seconds_per_step(data, model, batch_size)
        words.append(f"{candidate.name} {1000 * seconds:.3g} ms")
        num_train = modality_of(recipe).num_samples(data, "train")
        steps = -(-num_train // batch_size)
        shorter = (
            table_within(candidate, steps * seconds * _OVERHEAD, time_each)
            if candidate.is_table
            else images_within(candidate, steps * seconds, 0.7 * share * (end - time.monotonic()))
        )
        if shorter is None:
            say(
                f"{candidate.name}: left out, since an epoch of {steps:,} steps takes about"
                f" {steps * seconds:.3g} s, and {time_each:.3g} s are there for it."
            )
            continue
        if shorter.document["stages"] != candidate.document["stages"]:
            stage = shorter.document["stages"]["all"]
            side = f" of {stage['image_size']} pixels" if "image_size" in stage else ""
            say(f"{candidate.name}: {stage['max_epochs']} epochs{side} fit into the time.")
        left.append(shorter)
    if words:
        say(f"machine: a step takes {', '.join(words)}.")
    return left or found[:1]
