"""How long a run still takes: what stages have to do, how fast it goes, and where it is said."""

import re
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from lightning_fastrecipes import life_signs
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.nn.backbones import create_backbone
from lightning_fastrecipes.nn.operations import Operations, count_operations
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run import progress_bar
from lightning_fastrecipes.recipe.run.plan import build_parts, plan_stages
from lightning_fastrecipes.recipe.run.time_left import Part, TimeLeft
from lightning_fastrecipes.recipe.run.workload import EVALUATION, expected_work

RUN = Path("run")


def test_operations_are_those_of_a_convolution_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Conv2d(8, 4, 1, bias=False)
    )
    backbone = create_backbone(network)
    first, second = 16 * 16 * 3 * 8 * 9, 16 * 16 * 8 * 4
    # The weights of both, and from the second its input: images need no gradient.
    whole = 2 * (first + second) + second
    assert count_operations(backbone, 16) == Operations(first + second, whole)
    network[0].requires_grad_(False)
    assert count_operations(backbone, 16).training == first + 2 * second
    backbone.requires_grad_(False)
    assert count_operations(backbone, 16) == Operations(first + second, first + second)
    assert [item.requires_grad for item in backbone.parameters()] == [False, False]


def test_a_depthwise_convolution_costs_what_it_does_in_both_directions() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.Conv2d(8, 8, 3, groups=8, padding=1))
    first, second = 16 * 16 * 3 * 8, 16 * 16 * 8 * 9
    found = count_operations(create_backbone(network), 16)
    assert found == Operations(first + second, 2 * first + 3 * second)


class LooksAtValues(nn.Module):
    """A network that cannot run where there are no values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images) * float(images.sum() >= 0)


def test_a_network_that_looks_at_values_is_not_counted() -> None:
    assert count_operations(create_backbone(LooksAtValues()), 16) == Operations()


def test_a_network_that_cannot_be_copied_is_not_counted() -> None:
    backbone = create_backbone(nn.Conv2d(3, 4, 1))
    backbone.model.held = threading.Lock()  # as profilers hang into the layers they look at
    assert count_operations(backbone, 16) == Operations()


def expected(recipe_file: Path, *overrides: str) -> dict[str, list[Part]]:
    recipe = load_recipe(recipe_file, overrides)
    data, model = build_parts(recipe)
    return expected_work(recipe, data, model, plan_stages(recipe, data, model))


def test_the_work_of_stages_counts_sizes_frozen_groups_and_views(shared_recipe_file) -> None:
    name = "lightning_fastrecipes.ProgressiveResizing"
    resize = f"{{class_path: {name}, init_args: {{sizes: {{0: 32, 1: 64}}}}}}"
    words = [f"stages.all.callbacks=[{resize}]", "stages.all.max_epochs=2"]
    work = expected(shared_recipe_file, *words)
    assert list(work) == ["head", "augmented", "all", EVALUATION]
    # Features of 14 training and 8 validation images ahead; then the head alone, in steps.
    ahead, *epochs = work["head"]
    forward = ahead.amount / 22
    assert ahead.kind == "arithmetic"
    assert epochs == [Part("steps", 4.0), Part("steps", 2.0)] * 2
    _, train, val = work["augmented"]
    assert (train.amount, val.amount) == (14 * forward, 8 * forward)
    _, *epochs = work["all"]
    assert epochs[2].amount == 4 * epochs[0].amount > 2.5 * 4 * train.amount
    assert epochs[3].amount == 4 * val.amount
    # At the last size, 64 px.
    assert [part.amount for part in work[EVALUATION]] == [4 * 8 * forward, 4 * 6 * forward]
    views = expected(
        shared_recipe_file, *words, "evaluation={tta: {preset: flips}, image_size: 32}"
    )
    assert views[EVALUATION][0].amount == 8 * forward * (1 + 1)


def test_the_search_of_a_stage_for_its_rate_is_work_ahead(shared_recipe_file) -> None:
    plain = expected(shared_recipe_file)
    work = expected(shared_recipe_file, "stages.all.lr=find", "stages.head.lr=find")
    search, train, *_ = work["all"]
    assert plain["all"] == [Part("arithmetic", 0.0), *work["all"][1:]]
    # 200 batches of 4 of 14 images; each is asked once more, without a backward pass.
    assert search.amount == pytest.approx(1.35 * 200 * 4 / 14 * train.amount)
    # Steps on features are short beside the features.
    assert work["head"] == plain["head"]


def test_speeds_are_those_of_what_was_done_and_the_recent_counts_more() -> None:
    time_left = TimeLeft()
    head = [Part("arithmetic", 0.0), Part("steps", 10.0), Part("steps", 10.0)]
    late = [Part("arithmetic", 0.0), Part("arithmetic", 100.0), Part("arithmetic", 300.0)]
    time_left.expect(RUN, {"head": head, "all": late})
    assert time_left.seconds() is None
    time_left.advance(RUN, "head", 1, share=1.0, seconds=5.0)
    assert time_left.seconds() is None  # of the arithmetic nothing is known
    assert time_left.needs_trial()
    time_left.try_out("arithmetic", 10.0, 1.0)
    assert not time_left.needs_trial()
    assert time_left.seconds() == pytest.approx(5.0 + 40.0)
    time_left.drop(RUN, "head")
    assert time_left.seconds() == pytest.approx(40.0)
    # A trial counts no longer once there is something real; the wait before it is not counted.
    time_left.advance(RUN, "all", 1, share=0.0, seconds=0.0)
    time_left.advance(RUN, "all", 1, share=0.5, seconds=100.0)
    assert time_left.seconds() == pytest.approx(2.0 * (50 + 300))
    time_left.expect(Path("other"), {"all": [Part("arithmetic", 50.0)]})
    assert time_left.seconds() == pytest.approx(2.0 * (50 + 300 + 50))
    time_left.drop(RUN)
    # 50 at 2 seconds weigh a quarter by now, and less with each phase.
    time_left.advance(Path("other"), "all", 0, share=0.5, seconds=25.0)
    assert 25 < time_left.seconds() < 2.0 * 25 * 0.75


SHORT = ["--stages.head.max_epochs=1", "--stages.all.max_epochs=2"]


def test_a_pipe_gets_lines_with_loss_and_the_time_left_of_the_run(
    recipe_file, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(progress_bar, "FIRST_LINE", 0.0)
    monkeypatch.setattr(life_signs, "FIRST_LINE", 0.0)
    monkeypatch.setattr(progress_bar, "_NEXT_LINES", 0.0)
    assert main(["run", str(recipe_file), "--out", str(tmp_path / "run"), *SHORT]) == 0
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith(("Stage", "Evaluating"))]
    [first] = [line for line in lines if line.startswith("Stage all, epoch 1 of 2: 1 of 6")]
    assert re.search(r": 1 of 6, loss [\d.]+, about \d+ s left$", first)
    [then] = [line for line in lines if line.startswith("Stage all, epoch 2 of 2: 1 of 6")]
    assert re.search(r"loss [\d.]+, val_loss [\d.]+, val_accuracy [\d.]+, about \d+ s left$", then)
    assert any(line.startswith("Evaluating val: 1 of 2, ") for line in lines)
    # The table of epochs says it as well, until nothing is left; stages count epochs from 1.
    rows = [line.split() for line in said.out.splitlines()]
    header = next(row for row in rows if row[:1] == ["epoch"])
    last = [row for row in rows if row[:1] == ["2/2"]][-1]
    assert header[-1] == "left"
    assert re.fullmatch(r"\d+", last[-2])
    assert re.search(r"Stage augmented took .*; about \d+ s left of the run", said.out)


def test_a_terminal_shows_loss_metrics_and_the_time_left_in_the_bar(
    recipe_file, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(life_signs, "_REFRESH", 0.0)
    monkeypatch.setattr(life_signs, "Console", partial(Console, force_terminal=True, width=200))
    words = ["--evaluation.tta={preset: flips}", *SHORT]
    assert main(["run", str(recipe_file), "--out", str(tmp_path / "run"), *words]) == 0
    shown = capsys.readouterr().err
    assert "Stage all, epoch 2 of 2" in shown
    assert re.search(r"loss [\d.]+, val_loss [\d.]+, val_accuracy [\d.]+, about \d+ s left", shown)
    assert "Evaluating test, 2 views of each image" in shown
