"""The lessons as plain scripts at defaults: no step may lose what the one before it had.

``FASTRECIPES_DATA`` names the folder that ``course_story_worker.py`` describes, and
``FASTRECIPES_STORIES`` the file where its steps are kept: what is in it is not trained again.
``pytest -m benchmark -s tests/benchmarks/test_course_story.py`` prints a line for each step.
"""

import json
import os
import statistics
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from lightning_fastrecipes.functional.training.worsening import is_clearly_worse

pytestmark = pytest.mark.benchmark

WORKER = Path(__file__).with_name("course_story_worker.py")
COUNTS = {"fashion": 1500, "photos": 2000, "cells": 2624, "digits": 2000, "flights": 20000}
SEEDS = (0, 1, 2)
ENOUGH = 0.82
"""F2 that the story of the tags ends with under AdamW, the mean of all seeds."""


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("story", COUNTS)
def test_no_step_is_worse_than_the_one_before(story: str, optimizer: str, tmp_path: Path) -> None:
    if not os.environ.get("FASTRECIPES_DATA"):
        pytest.skip("FASTRECIPES_DATA names no folder")
    kept = Path(os.environ.get("FASTRECIPES_STORIES", tmp_path / "stories.jsonl"))
    asked = {"story": story, "optimizer": optimizer, "count": COUNTS[story]}
    for seed in SEEDS:
        words = [story, "--optimizer", optimizer, "--seed", seed, "--count", COUNTS[story]]
        subprocess.run([sys.executable, WORKER, kept, *map(str, words)], check=True)
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    told = [
        [row for row in rows if (asked | {"seed": seed}).items() <= row.items()] for seed in SEEDS
    ]
    for steps in told:
        for before, after in pairwise(steps):
            worse = is_clearly_worse(
                before["score"], after["score"], after["num_val"], higher_is_better=True
            )
            assert not worse, (before, after)
    if (story, optimizer) == ("fashion", "adamw"):
        assert statistics.mean(steps[-1]["score"] for steps in told) >= ENOUGH
