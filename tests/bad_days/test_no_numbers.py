"""A rate that ruins the weights: the command says so, and neither keeps nor exports the ruin."""

import json
import os
import re

import pytest
import torch

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.mark.parametrize(
    ("fresh_victim", "stage", "kept"),
    [("images", "head", []), ("images", "all", ["head"]), ("table", "all", ["top"])],
    indirect=["fresh_victim"],
)
def test_a_rate_that_ruins_the_weights_stops_the_run(fresh_victim, stage, kept) -> None:
    ended = fresh_victim.start(f"--stages.{stage}.lr=1e30")
    folder = fresh_victim.folder
    assert ended.code == 1, ended.said[-3000:]
    assert "Traceback" not in ended.said
    [line] = [one for one in ended.said.splitlines() if one.startswith("fastrecipes: The ")]
    assert "must be a finite number" in line or "must be finite numbers" in line
    assert re.search(r"in epoch 1, with the rates .*\de\+(29|30)", line)
    assert not (folder / "export").exists()
    assert not (folder / "results.json").exists()
    whole = [path for path in (folder / "checkpoints").glob("*.ckpt") if "begun" not in path.name]
    assert [path.stem for path in whole] == kept
    for path in folder.rglob("*.ckpt"):
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for value in state.values() if value.is_floating_point())
    for path in folder.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)
    assert not list(folder.rglob("predictions_*"))


@pytest.mark.parametrize(
    ("fresh_victim", "more", "what"),
    [
        ("images", "--fast-dev-run", "Losses of the validation must be finite numbers"),
        ("table", "--data.batch_size=64", "The trained model must predict finite numbers"),
    ],
    indirect=["fresh_victim"],
)
def test_weights_that_the_last_step_ruins_are_not_exported(fresh_victim, more, what) -> None:
    ended = fresh_victim.start(
        "--stages.all.lr=1e30", "--stages.all.max_epochs=1", "--evaluation.ensemble=null", more
    )
    assert ended.code == 1, ended.said[-3000:]
    assert f"\nfastrecipes: {what}" in ended.said
    assert "Traceback" not in ended.said
    assert not (fresh_victim.folder / "export").exists()
    assert not (fresh_victim.folder / "results.json").exists()
