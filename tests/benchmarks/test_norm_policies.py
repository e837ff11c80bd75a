"""The default norm policy at the course's rates: ``pytest -m benchmark -s``.

``FASTRECIPES_DATA`` names the folder that ``norm_policy_worker.py`` describes.
"""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark

WORKER = Path(__file__).with_name("norm_policy_worker.py")
NOISE = 0.03
"""Of a score on 320 validation images."""


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_default_never_ends_below_the_head(optimizer: str, tmp_path: Path) -> None:
    data = os.environ.get("FASTRECIPES_DATA")
    if not data:
        pytest.skip("FASTRECIPES_DATA names no folder")
    table = tmp_path / "policies.csv"
    asked = ["--data", data, "--policies", "calibrated", "eval", "--optimizers", optimizer]
    subprocess.run([sys.executable, str(WORKER), str(table), *asked], check=True)
    with table.open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        print(*(row[name] for name in ("data", "factor", "policy", "head", "score")))
        if row["policy"] == "calibrated":
            assert float(row["score"]) >= float(row["head"]) - NOISE, row
