"""Folds on two processes, of which the first brings them together."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import yaml

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


def test_folds_of_several_labels_end_on_two_processes(
    tagged_images, tagged_document, tmp_path
) -> None:
    document = tagged_document(tagged_images) | {"folds": 2, "report": False}
    document["stages"] = document["stages"][:1]
    document["evaluation"] = {"tta": {"preset": "flips"}}
    document["trainer"] = {"accelerator": "cpu", "strategy": "ddp", "devices": 2}
    path = tmp_path / "tags" / "recipe.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    done = subprocess.run(
        [sys.executable, "-m", "lightning_fastrecipes", "run", str(path), "--out=run"],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=tmp_path, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(results["members"]["val"]) == {"fold-0", "fold-1"}
    rows = pd.read_csv(tmp_path / "run" / "predictions_val.csv")
    tested = pd.read_csv(tmp_path / "run" / "predictions_test.csv")
    assert len(rows) + len(tested) == 40
    assert results["baselines"]["val"]["samples"] == len(rows)
