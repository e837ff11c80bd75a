"""What a search costs and finds, beside full trials: ``pytest -m benchmark -s``.

About an hour on two cores; ``FASTRECIPES_TRIALS`` (60) full trials of each task take most of it.
"""

import json
import os
from pathlib import Path

import pytest
from helpers.processes import TESTS, run_script

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]

NUM_TRIALS = int(os.environ.get("FASTRECIPES_TRIALS", "60"))
NUM_ALONE = int(os.environ.get("FASTRECIPES_ALONE", "64"))
WORKER = TESTS / "benchmarks/search_worker.py"


@pytest.mark.parametrize("task", ["digits", "cells"])
def test_a_search_finds_what_full_trials_do_in_a_quarter_of_their_time(task, tmp_path) -> None:
    if task == "cells":
        pytest.importorskip("elpv_dataset")
    found = json.loads(run_script(WORKER, task, tmp_path, NUM_TRIALS, timeout=4 * 3600))
    print(f"\n{task}: {json.dumps(found)}")
    # Some hundred rows cannot tell a difference of 0.2 points from none.
    allowed = 0.002 + 2 * found["standard_error"]
    assert found["search"]["test"] >= found["full"]["test"] - allowed
    assert found["search"]["seconds"] <= 0.25 * found["full"]["seconds"]


def test_stacked_heads_cost_a_tenth_of_as_many_fits(tmp_path: Path) -> None:
    pytest.importorskip("elpv_dataset")
    found = json.loads(run_script(WORKER, "heads", tmp_path, NUM_ALONE, timeout=4 * 3600))
    print(f"\nheads: {json.dumps(found)}")
    assert found["together"] <= 0.1 * found["alone"]
    # Above a rate of 0.01, rounding decides where a head ends.
    for rate, stacked, alone in found["losses"]:
        assert rate > 0.01 or stacked == pytest.approx(alone, rel=1e-2)
