"""Views of outputs of all kinds: two processes measure, learn and predict what one does."""

from pathlib import Path

import pytest
import torch
from helpers.processes import load_script, run_script

SCRIPT = Path(__file__).with_name("views_on_two_processes.py")

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


def test_views_of_every_kind_are_those_of_one_process(tmp_path) -> None:
    run_script(SCRIPT, tmp_path)
    script = load_script(SCRIPT)
    for kind, (measured, predicted, weight) in script.work(1).items():
        for rank in (0, 1):
            found = torch.load(tmp_path / f"process-{rank}.pt")[kind]
            assert found[0] == pytest.approx(measured, rel=1e-4), kind
            torch.testing.assert_close(found[1], predicted[rank::2], msg=kind)
            assert found[2] == weight, kind
