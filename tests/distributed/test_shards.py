"""What sets rates, or only looks, also works where the weights are spread over processes."""

from pathlib import Path

import pytest
import torch
from helpers.processes import run_script

SCRIPT = Path(__file__).with_name("shards_on_two_processes.py")

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


def test_rates_and_weights_are_those_of_whole_weights(tmp_path) -> None:
    run_script(SCRIPT, tmp_path)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"process-{rank}.pt")
        for name, (whole, spread) in found.items():
            assert (whole["is_spread"], spread["is_spread"]) == (False, True)
            assert len(whole["rates"]) == 15, name
            assert spread["rates"] == whole["rates"], name
            torch.testing.assert_close(spread["weights"], whole["weights"])
        assert found["SGDR"][0]["rates"] != found["none"][0]["rates"]
