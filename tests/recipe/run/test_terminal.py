"""What a run prints of a stage that is over."""

import pytest
from rich.console import Console

from lightning_fastrecipes.recipe.run.terminal import print_stage

FIGURES = {"name": "all", "seconds": 2.0, "images_per_second": 9.0, "metrics": {"val_loss": 1.0}}


def test_a_stage_that_was_trained_before_does_not_look_as_if_it_had_run(capsys) -> None:
    print_stage(Console(width=500), FIGURES, seconds_left=None, was_trained=True)
    assert capsys.readouterr().out.startswith("Stage all is finished: it took 2.0 s (9 images/s)")


@pytest.mark.parametrize(
    ("guard", "doubts"),
    [
        ({}, None),
        ({"guard": "fine"}, None),
        ({"guard": "not checked, since nothing was validated before and after"}, None),
        ({"guard": "[loss] val_loss is 9. [modes] they differ. Go back."}, "loss, modes"),
    ],
)
def test_a_stage_that_hands_on_doubtful_weights_says_so_at_its_end(guard, doubts, capsys) -> None:
    print_stage(Console(width=500), FIGURES | guard, seconds_left=None)
    printed = capsys.readouterr().out
    said = f"; `ValidationGuard` doubts these weights: {doubts}\n"
    assert printed.endswith(said if doubts else ": val_loss 1\n")
