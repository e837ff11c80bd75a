"""What a user reads before, during and after a run."""

import json
import re
from functools import partial

import pandas as pd
import pytest
from rich.console import Console

from lightning_fastrecipes import life_signs
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.nn.backbones import Backbone
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run import explaining
from lightning_fastrecipes.recipe.run.plan import build_parts, plan_stages
from lightning_fastrecipes.recipe.run.terminal import headline

SHORT = [
    "--stages.head.max_epochs=1",
    "--stages.all.max_epochs=1",
    "--evaluation.tta={preset: flips}",
]


def test_a_run_ends_with_what_it_reached_against_the_commonest_class(recipe_file, tmp_path, capsys):
    assert main(["run", str(recipe_file), "--out", str(tmp_path / "run"), *SHORT]) == 0
    lines = capsys.readouterr().out.splitlines()
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    reached = results["test"]["accuracy_tta"]
    [line] = [line for line in lines if line.startswith("Test split")]
    targets = pd.read_csv(tmp_path / "run" / "predictions_test.csv")["target"]
    commonest, share = next(iter(targets.value_counts(normalize=True).items()))
    if targets.nunique() == 2 and share == 0.5:
        commonest = results["baselines"]["test"]["commonest_class"]
    is_tied = targets.nunique() == 2 and share == 0.5
    what = "one of 2 equally common classes" if is_tied else "the commonest class"
    assert line == (
        f"Test split, {len(targets)} samples, with views: accuracy {reached:.4f}; always"
        f" '{commonest}', {what}, has {share:.4f}"
    )


@pytest.mark.parametrize(
    ("results", "line"),
    [
        (
            {"val": {"loss": 1.0, "rmse": 2.0}, "test": {}, "baselines": {"val": {"rmse": 4.0}}},
            "Validation split: rmse 2.0000; always the mean has 4.0000",
        ),
        (
            {
                "val": {"loss": 1.0, "accuracy": 0.7},
                "test": {},
                "baselines": {
                    "val": {"commonest_class": "0", "equally_common": 4, "accuracy": 0.25}
                },
            },
            "Validation split: accuracy 0.7000; always '0', one of 4 equally common classes, has"
            " 0.2500",
        ),
        ({"val": {"loss": 1.0, "f2": 0.5}, "test": {}}, "Validation split: f2 0.5000"),
        (
            {
                "val": {"loss": 1.0, "accuracy": 0.7, "f2": 0.6},
                "test": {},
                "baselines": {"val": {"samples": 9, "f2": 0.5, "commonest_labels": ["sun", "sea"]}},
            },
            "Validation split, 9 samples: f2 0.6000; always 'sun', 'sea' has 0.5000",
        ),
        ({"val": {"loss": 1.0}, "test": {}}, "Validation split: loss 1.0000"),
        ({"val": {}, "test": {}}, "No split was measured."),
    ],
)
def test_the_headline_of_other_results(results, line) -> None:
    assert headline(results) == line


def test_explain_says_how_the_evaluation_works_and_how_long_stages_take(recipe_file, capsys):
    assert main(["explain", str(recipe_file), *SHORT]) == 0
    told = capsys.readouterr().out
    evaluation = (
        "Evaluation: val (8 images) and test (6 images), 32 px, plain and with views (flips)"
    )
    assert evaluation in told
    assert told.count("on this machine, measured on two steps") == 3
    assert re.search(r"about \d+ s; the whole run about \d+ s, without decoding", told)
    assert main(["explain", str(recipe_file), "--no-time"]) == 0
    assert "on this machine" not in capsys.readouterr().out
    assert main(["explain", str(recipe_file), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [stage["name"] for stage in values["stages"]] == ["head", "augmented", "all"]
    assert all(stage["seconds"] >= 0 for stage in values["stages"])
    assert values["evaluation_seconds"] >= 0
    assert values["stages"][2]["layer_groups"][-1]["trained"] is True
    assert values["evaluation"].endswith("without views")


class TimeOfForward:
    """Time that passes by one second for each image that a backbone sees."""

    def __init__(self, monkeypatch) -> None:
        self.now, forward = 0.0, Backbone.forward

        def timed(backbone, images):
            self.now += len(images)
            return forward(backbone, images)

        monkeypatch.setattr(Backbone, "forward", timed)

    def perf_counter(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("views", "ahead", "evaluation"),
    [("true", 14 + 8, "null"), ("{views: poses}", 8 * 14 + 8, "{preset: flips}")],
    ids=["plain", "views"],
)
def test_the_seconds_of_stages_and_evaluation_count_every_view(
    shared_recipe_file, monkeypatch, views, ahead, evaluation
) -> None:
    words = [f"stages.head.precompute={views}", "stages.head.augmentation=top_down"]
    recipe = load_recipe(shared_recipe_file, [*words, f"evaluation.tta={evaluation}"])
    data, model = build_parts(recipe)
    plan_stages(recipe, data, model)
    monkeypatch.setattr(explaining, "time", TimeOfForward(monkeypatch))
    assert explaining.stage_seconds(recipe, data, model, 0) == ahead
    assert explaining.stage_seconds(recipe, data, model, 2) == 3 * (14 + 8)
    passes = 1 if evaluation == "null" else 2
    assert explaining.evaluation_seconds(recipe, data, model) == passes * (8 + 6)


def test_the_seconds_of_a_stage_count_its_search_for_a_rate(
    shared_recipe_file, monkeypatch
) -> None:
    words = ["stages.all.lr=find"]
    recipe = load_recipe(shared_recipe_file, words)
    data, model = build_parts(recipe)
    plan_stages(recipe, data, model)
    monkeypatch.setattr(explaining, "time", TimeOfForward(monkeypatch))
    # 200 steps of a batch of 4, each of which is asked once more.
    searched = 200 * 4 * 1.35
    assert explaining.stage_seconds(recipe, data, model, 2) == pytest.approx(
        3 * (14 + 8) + searched
    )


class Clock:
    """Time that passes by one second at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


def test_long_work_writes_a_line_now_and_then_where_there_is_no_terminal(monkeypatch, capsys):
    monkeypatch.setattr(life_signs, "time", Clock())
    batches = [[0] * 4] * 30
    assert list(life_signs.track(batches, "Decoding images", 120, len)) == batches
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "Decoding images: 20 of 120, about 25 s left",
        "Decoding images: 100 of 120, about 5 s left",
    ]


def test_the_first_step_alone_says_nothing_of_the_time_left(monkeypatch, capsys):
    monkeypatch.setattr(life_signs, "time", Clock())
    with life_signs.LifeSign("Trying", 100, due=0) as sign:
        sign.show(1)
        sign.due = 0
        sign.show(3)
    assert capsys.readouterr().err.splitlines() == [
        "Trying: 1 of 100, time left not known yet",
        "Trying: 3 of 100, about 48 s left",
    ]


def test_short_work_and_other_processes_write_nothing(monkeypatch, capsys):
    assert list(life_signs.track(range(3), "Decoding images", 3)) == [0, 1, 2]
    monkeypatch.setattr(life_signs, "time", Clock())
    monkeypatch.setattr(life_signs.rank_zero_only, "rank", 1)
    assert len(list(life_signs.track(range(99), "Decoding images", 99))) == 99
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    terminal = partial(Console, force_terminal=True, width=100)
    monkeypatch.setattr(life_signs, "Console", terminal)
    assert list(life_signs.track(range(3), "Decoding images", 3)) == [0, 1, 2]
    assert "Decoding images" in capsys.readouterr().err
