"""What a search costs and finds, beside full trials: ``pytest -m benchmark -s``.

About an hour on two cores; ``FASTRECIPES_TRIALS`` (60) full trials of each task take most of it.
"""

import json
import os
import time
from pathlib import Path

import pytest
import yaml
from helpers.processes import TESTS, run_script

from lightning_fastrecipes.recipe.config.documents import Place
from lightning_fastrecipes.recipe.config.merging import searched_document
from lightning_fastrecipes.searching.definition import define
from lightning_fastrecipes.searching.stacked import train_heads
from lightning_fastrecipes.searching.trials import PausingRun

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]

NUM_TRIALS = int(os.environ.get("FASTRECIPES_TRIALS", "60"))
NUM_ALONE = int(os.environ.get("FASTRECIPES_ALONE", "64"))
NUM_HEADS = 64
WORKER = TESTS / "benchmarks/search_worker.py"


@pytest.mark.parametrize("task", ["digits", "cells"])
def test_a_search_finds_what_full_trials_do_in_a_quarter_of_their_time(task, tmp_path) -> None:
    if task == "cells":
        pytest.importorskip("elpv_dataset")
    found = json.loads(run_script(WORKER, task, tmp_path, NUM_TRIALS, timeout=4 * 3600))
    print(f"\n{task}: {json.dumps(found)}")
    assert found["search"]["test"] >= found["full"]["test"] - 0.002
    assert found["search"]["seconds"] <= 0.25 * found["full"]["seconds"]


def test_stacked_heads_cost_a_tenth_of_as_many_fits(tmp_path: Path) -> None:
    pytest.importorskip("elpv_dataset")
    from search_worker import cells

    document = cells(tmp_path)
    document["model"]["init_args"]["head"] = {"layout": "linear", "dropout": 0.0}
    document |= {"initial_checks": False, "validation_guard": False}
    document["trainer"] = {"accelerator": "cpu", "precision": "32-true"}
    path = tmp_path / "heads.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    place = Place(path)
    definition = define(searched_document(place, [])[0], place, NUM_HEADS)
    shares = [(number + 0.5) / NUM_HEADS for number in range(NUM_HEADS)]
    values = [definition.values([share, 1 - share]) for share in shares]
    train_heads(definition, values[:2], path)  # the features are computed
    started = time.process_time()
    heads = train_heads(definition, values, path)
    together = time.process_time() - started
    started = time.process_time()
    for number in range(NUM_ALONE):
        recipe = definition.recipe(values[number], path)
        run = PausingRun(recipe, tmp_path / str(number), recipe.stages[0].max_epochs)
        run.prepare()
        run.run_stage(0)
        assert run.stages[0]["metrics"]["val_loss"] == pytest.approx(heads[number].loss, rel=1e-3)
    alone = (time.process_time() - started) * NUM_HEADS / NUM_ALONE
    print(f"\n{NUM_HEADS} heads: {together:.1f} s together, {alone:.1f} s one by one")
    assert together <= 0.1 * alone
