"""Processes that are killed within an epoch: others go on with its order over all, or refuse."""

import json
from pathlib import Path

import pytest
from helpers.processes import run_script

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("begun_epochs.py")


def test_other_numbers_of_processes_go_on_with_the_same_order_or_refuse(tmp_path) -> None:
    run_script(SCRIPT, tmp_path)
    for kind in ("table", "images"):
        found = {
            name: json.loads((tmp_path / f"{kind}-{name}.json").read_text())
            for name in ("whole", "one", "three", "other")
        }
        whole = found["whole"]
        assert len(whole["steps"]) == 8
        for name in ("one", "three"):
            assert found[name]["steps"] == whole["steps"][2:], (kind, name)
            assert found[name]["means"] == whole["means"] == [[23.5, 23.5]] * 2, (kind, name)
        said = found["other"]["refused"]
        assert "A step must be of 12 samples over all processes" in said
        assert "but it is of 18. Start as many processes as before" in said
        assert found["other"]["steps"] == []
