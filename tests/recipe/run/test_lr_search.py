"""Stages that find their learning rate, and the command that sweeps one of them."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from helpers.runs import run_recipe

from lightning_fastrecipes import life_signs
from lightning_fastrecipes.callbacks.engine import lr_curve
from lightning_fastrecipes.callbacks.engine.lr_curve import LRCurve
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.functional.training.lr_curves import LRSuggestion, sweep_lrs
from lightning_fastrecipes.recipe.images.export import load_export
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run import lr_search
from lightning_fastrecipes.recipe.run.lr_search import find_stage_lr
from lightning_fastrecipes.recipe.run.runner import Run


@pytest.fixture
def finding_file(recipe_file: Path) -> Path:
    """The tiny recipe, whose first stage finds its rate."""
    document = yaml.safe_load(recipe_file.read_text())
    document["stages"][0]["lr"] = "find"
    document["validation_guard"] = False  # 14 images are too few for it
    document["stages"][0]["max_epochs"] = 3
    document["data"]["init_args"]["batch_size"] = 14
    document["model"]["init_args"] |= {"head": "linear", "optim": {"optimizer": "torch.optim.SGD"}}
    finder = {"class_path": "lightning_fastrecipes.LRFinder"}
    finder["init_args"] = {"min_lr": 1e-5, "max_lr": 1e5, "on_refusal": "raise"}
    document["stages"][0]["callbacks"] = [finder]
    recipe_file.write_text(yaml.safe_dump(document))
    return recipe_file


def test_a_stage_trains_with_the_rate_that_it_found(finding_file, tmp_path):
    run_recipe(finding_file, tmp_path / "run")
    found = json.loads((tmp_path / "run" / "lr_finder_head.json").read_text())
    assert found["suggestion"] == found["picks"]["midway"]
    rows = pd.read_csv(tmp_path / "run" / "metrics.csv")
    head = rows[rows["stage"] == "head"]
    assert head["lr"].tolist() == pytest.approx([found["suggestion"]] * 3)
    assert (tmp_path / "run" / "lr_finder_head.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "run").glob("lr_finder_*")) == [
        "lr_finder_head.json",
        "lr_finder_head.png",
    ]


def test_the_terminal_shows_the_rate_of_every_group(finding_file, tmp_path, capsys):
    document = yaml.safe_load(finding_file.read_text())
    head, *_ = document["stages"]
    all_groups = {"name": "all", "max_epochs": 1, "lr": "as_before", "freeze_to": 0, "lr_ratio": 10}
    document["stages"] = [head, all_groups]
    finding_file.write_text(yaml.safe_dump(document))
    assert main(["run", str(finding_file), "--out", str(tmp_path / "run")]) == 0
    lines = [x for x in capsys.readouterr().out.splitlines() if x.startswith("Learning rates")]
    lr = json.loads((tmp_path / "run" / "lr_finder_head.json").read_text())["suggestion"]
    assert lines == [
        f"Learning rates, found by midway: early frozen, late frozen, head {lr:.2e}",
        f"Learning rates, as before: early {lr / 100:.2e}, late {lr / 10:.2e}, head {lr:.2e}",
    ]


def test_a_killed_and_resumed_run_keeps_the_found_rate_bit_for_bit(
    finding_file, tmp_path, monkeypatch
):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_recipe(finding_file, whole)

    class KilledError(Exception):
        pass

    make_trainer = Run._trainer

    def killed(self, callbacks, **arguments):
        trainer = make_trainer(self, callbacks, **arguments)
        history = next(c for c in trainer.callbacks if type(c).__name__ == "History")
        start = history.on_train_epoch_start

        def stop(trainer, pl_module):
            if trainer.current_epoch == 2:
                raise KilledError
            start(trainer, pl_module)

        history.on_train_epoch_start = stop
        return trainer

    monkeypatch.setattr(Run, "_trainer", killed)
    with pytest.raises(KilledError):
        run_recipe(finding_file, cut)
    monkeypatch.setattr(Run, "_trainer", make_trainer)
    with pytest.warns(UserWarning, match="`LRFinder` is skipped .* Only a fit that begins"):
        run_recipe(finding_file, cut, resume=True)
    ours, theirs = (load_export(folder)[0].state_dict() for folder in (whole, cut))
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_own_settings_of_the_finder_are_taken_instead_of_the_default(finding_file, tmp_path):
    document = yaml.safe_load(finding_file.read_text())
    settings = {"num_steps": 30, "max_lr": 100.0, "rule": "minimum/10", "on_refusal": "ignore"}
    spec = {"class_path": "lightning_fastrecipes.LRFinder", "init_args": settings}
    document["stages"][0]["callbacks"] = [spec]
    finding_file.write_text(yaml.safe_dump(document))
    run_recipe(finding_file, tmp_path / "run")
    found = json.loads((tmp_path / "run" / "lr_finder_head.json").read_text())
    assert found["rule"] == "minimum/10"
    assert len(found["lrs"]) <= 30


def test_without_settings_the_default_finder_sweeps(finding_file, tmp_path):
    document = yaml.safe_load(finding_file.read_text())
    document["stages"][0]["callbacks"] = []
    finding_file.write_text(yaml.safe_dump(document))
    curve = find_stage_lr(load_recipe(finding_file), "head")
    assert (curve.lrs[0], curve.rule, curve.on) == (1e-7, "midway", "train")


def test_a_curve_that_tells_nothing_ends_the_run_with_the_reason(finding_file, tmp_path, capsys):
    narrow = {"class_path": "lightning_fastrecipes.LRFinder"}
    narrow["init_args"] = {"min_lr": 1e-12, "max_lr": 1e-11, "on_refusal": "raise"}
    document = yaml.safe_load(finding_file.read_text())
    document["stages"][0]["callbacks"] = [narrow]
    finding_file.write_text(yaml.safe_dump(document))
    assert main(["run", str(finding_file), "--out", str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert "stages.head: `LRFinder` cannot suggest a learning rate" in message
    assert "Or configure a learning rate." in message
    assert_curve_is_kept(tmp_path / "run")


def assert_curve_is_kept(folder: Path) -> None:
    found = json.loads((folder / "lr_finder_head.json").read_text())
    assert found["suggestion"] is None
    assert found["refusal"]
    assert len(found["losses"]) > 20
    assert (folder / "lr_finder_head.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("lr", "expected"),
    [
        pytest.param("find", 1e-4, id="by-default"),
        pytest.param({"find": "largest_falling", "otherwise": 3e-3}, 3e-3, id="as-stated"),
    ],
)
def test_a_stage_whose_curve_tells_nothing_goes_on_with_a_stated_rate(
    lr, expected, finding_file, tmp_path, monkeypatch, recwarn
):
    document = yaml.safe_load(finding_file.read_text())
    document["stages"] = [document["stages"][0] | {"lr": lr, "callbacks": []}]
    finding_file.write_text(yaml.safe_dump(document))
    refused = LRSuggestion({}, "this curve tells nothing.")
    monkeypatch.setattr(lr_curve, "suggest_lr", lambda lrs, losses: refused)
    run_recipe(finding_file, tmp_path / "run")
    rows = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert rows["lr"].tolist() == pytest.approx([expected] * 3)
    assert_curve_is_kept(tmp_path / "run")
    said = "\n".join(str(warning.message) for warning in recwarn)
    assert (
        f"The fit keeps the configured rates: early frozen, late frozen, head {expected:.2e}"
        in said
    )
    is_stated = lr != "find"
    assert ("stages.head: no rate was found, so that the stage trains with" in said) != is_stated


def test_a_stage_names_the_rule_that_finds_its_rate(finding_file, tmp_path):
    document = yaml.safe_load(finding_file.read_text())
    document["stages"][0] |= {"lr": {"find": "minimum/10"}, "callbacks": []}
    finding_file.write_text(yaml.safe_dump(document))
    assert find_stage_lr(load_recipe(finding_file), "head").rule == "minimum/10"


@pytest.mark.parametrize(
    ("lr", "message"),
    [
        pytest.param({"otherwise": 1e-4}, "stages.head.lr: must be a rate, an array", id="no-rule"),
        pytest.param({"low": 1e-4}, "stages.head.lr: must be a rate, an array", id="half-a-range"),
        pytest.param({"find": "best"}, "stages.head.lr", id="unknown-rule"),
        pytest.param({"find": "valley", "otherwise": 0.0}, "otherwise: must be above 0", id="zero"),
        pytest.param({"find": "valley"}, "the stage has an `LRFinder` of its own", id="twice"),
        pytest.param([1e-3, 0.0], "stages.head: `lr` must be above 0", id="zero-in-an-array"),
    ],
)
def test_rates_that_no_stage_can_have_are_refused_with_their_key(lr, message, finding_file, capsys):
    document = yaml.safe_load(finding_file.read_text())
    document["stages"][0]["lr"] = lr
    if "twice" not in message and lr != {"find": "valley"}:
        document["stages"][0]["callbacks"] = []
    finding_file.write_text(yaml.safe_dump(document))
    assert main(["explain", str(finding_file)]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_stage_takes_arrays_and_ranges(finding_file, capsys):
    for lr, early in (("[1e-5, 1e-3]", "1.00e-05"), ("{low: 1e-5, high: 1e-3}", "1.00e-04")):
        assert (
            main(["explain", str(finding_file), f"--stages.all.lr={lr}", "--stages.all.lr_ratio=1"])
            == 0
        )
        last = capsys.readouterr().out.rpartition("Stage all")[2]
        assert early in last
        assert "1.00e-03" in last


def test_a_rehearsal_sweeps_nothing(finding_file, tmp_path):
    job = Run(load_recipe(finding_file), tmp_path, fast_dev_run=True, show_progress=False)
    job.prepare()
    job.run_stage(0)
    assert list(tmp_path.glob("lr_finder_*")) == []


def test_explain_says_what_will_be_found(finding_file, capsys):
    assert main(["explain", str(finding_file), "--stages.all.lr=find"]) == 0
    text = capsys.readouterr().out
    assert "found x 1 " in text
    assert "found x 0.111" in text


def test_another_word_than_find_is_refused(recipe_file, capsys):
    assert main(["check", str(recipe_file), "--stages.head.lr=seek"]) == 2
    assert "stages.head" in capsys.readouterr().err


def test_command_sweeps_one_stage_and_trains_nothing(finding_file, tmp_path, monkeypatch, capsys):
    out = tmp_path / "sweep"
    monkeypatch.setattr(life_signs, "FIRST_LINE", 0.0)
    monkeypatch.setattr(life_signs, "NEXT_LINES", 0.0)
    assert main(["lr-find", str(finding_file), "--stage", "head", "--out", str(out)]) == 0
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert any(line.startswith("Trying learning rates: 2 of 200, about ") for line in lines)
    # Nothing of Lightning's: devices, products, warnings of what torch will drop.
    own = ("Trying", "Checking", "Decoding", "Computing")
    assert [line for line in lines if not line.startswith(own)] == []
    text = said.out
    assert re.search(r"the rules (agree within|disagree by) a factor", text)
    assert "Suggested lr:" in text
    assert all(
        rule in text
        for rule in (
            "midway",
            "largest_falling",
            "course",
            "steepest",
            "minimum/10",
            "valley",
            "slide",
        )
    )
    assert "frozen" in text
    assert sorted(path.name for path in out.iterdir()) == [
        "lr_finder_head.json",
        "lr_finder_head.png",
    ]


def test_the_command_names_what_can_be_typed(finding_file, tmp_path, monkeypatch, capsys):
    lrs = sweep_lrs(1e-6, 1e-2, 50)
    falling = LRCurve(lrs, [1 - number / 50 for number in range(50)], {"head": 1.0}, "midway")
    monkeypatch.setattr(lr_search, "find_stage_lr", lambda *_, **__: falling)
    words = ["lr-find", str(finding_file), "--stage", "head", "--out", str(tmp_path / "sweep")]
    assert main(words) == 1
    said = "the largest rate. Raise `--max-lr`. It was swept from 1e-06 to 1e-02. See"
    assert said in capsys.readouterr().err


def test_the_command_takes_the_ends_of_the_sweep(finding_file, tmp_path, capsys):
    words = ["lr-find", str(finding_file), "--stage", "head", "--out", str(tmp_path / "sweep")]
    assert main([*words, "--min-lr=1e-4", "--max-lr=1e3"]) == 0
    lrs = json.loads((tmp_path / "sweep" / "lr_finder_head.json").read_text())["lrs"]
    assert lrs[0] == pytest.approx(1e-4)
    assert lrs[1] / lrs[0] == pytest.approx(10 ** (7 / 199))
    assert main([*words, "--min-lr=0"]) == 2
    assert "--min-lr: must be a number above 0, got '0'" in capsys.readouterr().err


def test_command_finds_what_the_run_finds(finding_file, tmp_path):
    run_recipe(finding_file, tmp_path / "run")
    in_run = json.loads((tmp_path / "run" / "lr_finder_head.json").read_text())
    alone = find_stage_lr(load_recipe(finding_file), "head")
    assert alone.suggestion == in_run["suggestion"]
    assert list(alone.losses) == in_run["losses"]


def test_a_later_stage_starts_from_the_weights_of_a_run(finding_file, tmp_path):
    run_recipe(finding_file, tmp_path / "run")
    recipe = load_recipe(finding_file)
    fresh = find_stage_lr(recipe, "augmented")
    trained = find_stage_lr(recipe, "augmented", tmp_path / "run")
    assert len(fresh.lrs) > 20
    assert trained.losses[0] != fresh.losses[0]


def test_without_a_stage_the_command_names_them(finding_file, tmp_path, capsys):
    assert main(["lr-find", str(finding_file), "--out", str(tmp_path / "sweep")]) == 2
    assert "`--stage=all`. Stages: head, augmented, all." in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("stage", "folder", "message"),
    [
        pytest.param("heads", None, "no stage 'heads'. Stages: head, augmented, all", id="stage"),
        pytest.param("head", Path("nowhere"), "is the first stage", id="first-stage"),
        pytest.param("all", Path("nowhere"), r"augmented.ckpt is missing", id="checkpoint"),
    ],
)
def test_what_is_not_there_is_named(stage, folder, message, finding_file):
    with pytest.raises(RecipeError, match=message):
        find_stage_lr(load_recipe(finding_file), stage, folder)


@pytest.mark.filterwarnings("ignore:`ValidationGuard`")  # the rate is high for so small a model
def test_a_stage_begins_with_what_the_stage_before_it_found(finding_file, tmp_path):
    document = yaml.safe_load(finding_file.read_text())
    document["stages"][1] |= {"lr": "as_before", "lr_ratio": 1}
    document["stages"][1].pop("callbacks", None)
    finding_file.write_text(yaml.safe_dump(document))
    run_recipe(finding_file, tmp_path / "run")
    found = json.loads((tmp_path / "run" / "lr_finder_head.json").read_text())["suggestion"]
    rows = pd.read_csv(tmp_path / "run" / "metrics.csv")
    second = rows[rows["stage"] == document["stages"][1]["name"]]
    assert second["lr"].tolist() == pytest.approx([found] * len(second))


def test_the_first_stage_has_no_rate_before_it(finding_file):
    with pytest.raises(RecipeError, match=r"head\.lr: must not be `as_before`"):
        load_recipe(finding_file, ["stages.head.lr=as_before"])
