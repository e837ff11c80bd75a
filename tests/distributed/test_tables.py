"""Several processes train on every row of a table once, and measure what one does."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.processes import load_script, run_script

SCRIPT = Path(__file__).with_name("tables_on_processes.py")
NUM_TRAIN, NUM_VALID = 34, 11

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Return a folder with a table, and the table; both splits are odd."""
    folder = tmp_path_factory.mktemp("tables")
    draw, num_rows = np.random.default_rng(0), NUM_TRAIN + NUM_VALID
    parts = ["train"] * NUM_TRAIN + ["val"] * NUM_VALID
    frame = pd.DataFrame(
        {
            "shop": draw.choice(list("abcd"), num_rows),
            "km": draw.random(num_rows),
            "row": np.arange(num_rows),
            "part": draw.permutation(parts),
            "count": draw.choice([0.0, 0.5, 1.0, 4.0], num_rows),
        }
    )
    frame.to_csv(folder / "table.csv", index=False)
    return folder, frame


@pytest.fixture(scope="module", params=[2, 3])
def results(request, table):
    """Return what one process found, and what each of several did."""
    folder, frame = table
    run_script(SCRIPT, folder, request.param)
    script = load_script(SCRIPT)
    one = script.work(folder, num_processes=1)
    paths = [folder / f"process-{rank}-of-{request.param}.pt" for rank in range(request.param)]
    return frame, one, [torch.load(path) for path in paths]


def test_every_training_row_is_seen_once_an_epoch_but_for_evening_out(results) -> None:
    frame, one, several = results
    expected = sorted(frame.query("part == 'train'")["row"])
    sizes = {2: [6, 6, 5], 3: [4, 4, 4]}[len(several)]
    for epoch in (0, 1):
        shares = [process["trained"][epoch] for process in several]
        assert [[len(batch) for batch in share] for share in shares] == [sizes] * len(several)
        rows = [row for share in shares for batch in share for row in batch]
        assert len(rows) == len(several) * sum(sizes)
        assert sorted(set(rows)) == expected
        # Step by step the processes see together what one sees.
        for step, batch in enumerate(one["trained"][epoch]):
            assert set(batch) <= {row for share in shares for row in share[step]}
    assert several[0]["trained"][0] != several[0]["trained"][1]


def test_processes_mask_apart(results) -> None:
    _, _, (first, *others) = results
    assert all(other["masks"] != first["masks"] for other in others)


def test_every_validation_row_is_measured_once(results) -> None:
    frame, one, several = results
    expected = sorted(frame.query("part == 'val'")["row"])

    assert sorted(one["measured"]) == expected
    assert sorted(row for process in several for row in process["measured"]) == expected
    for process in several:
        assert process["before"] == pytest.approx(one["before"], rel=1e-6)


def test_metrics_of_several_targets_are_those_of_one_process(results) -> None:
    _, one, several = results
    assert {*one["several"]} == {"val_loss", "val_mae_row", "val_rmse_row", "val_accuracy_kind"}
    for process in several:
        assert process["several"] == pytest.approx(one["several"], rel=1e-6)


def test_rows_that_count_differently_train_as_in_one_process(results) -> None:
    _, one, several = results
    assert {"train_loss", "val_loss", "val_rmse"} <= {*one["weighted"]}
    for process in several:
        for name in ("val_loss", "val_mae", "val_rmse"):
            assert process["weighted"][name] == pytest.approx(one["weighted"][name], rel=1e-5)


def test_predictions_are_those_of_one_process(results) -> None:
    frame, one, several = results
    assert len(one["predictions"]) == len(frame)
    for rank, process in enumerate(several):
        expected = one["predictions"][rank :: len(several)]
        torch.testing.assert_close(process["predictions"], expected)


def test_processes_end_with_the_same_weights_and_one_cache(results) -> None:
    _, _, (first, *others) = results
    assert first["made"] != []
    for other in others:
        assert torch.equal(other["weights"], first["weights"])
        assert other["made"] == first["made"]
