"""What a report says to try next, from the figures of a run."""

from lightning_fastrecipes.reporting.advice import Figures, advise


def test_steps_are_those_that_the_run_took() -> None:
    # 100 samples in batches of 32 are 4 steps an epoch, the last of them a smaller one.
    stage = {"name": "all", "batch_size": 32, "epochs": 12, "steps": 48}
    said = [one.reason for one in advise(Figures(num_train=100, stages=[stage]))]
    assert any("An epoch of the stage all has 4 steps of 32:" in one for one in said)
    assert any("The whole run has taken 48 steps." in one for one in said)


def test_steps_are_reckoned_where_an_earlier_version_noted_none() -> None:
    stage = {"name": "all", "batch_size": 32, "epochs": 12}
    said = [one.reason for one in advise(Figures(num_train=100, stages=[stage]))]
    assert any("The whole run has taken 36 steps." in one for one in said)
