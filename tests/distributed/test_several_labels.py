"""Several labels per image on two processes, with splits of odd length that samplers must pad."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import fbeta_score

pytestmark = pytest.mark.distributed

CLASSES = ["blue", "green", "rare", "red"]


def test_a_run_measures_and_decides_as_its_predictions_say(
    tmp_path, tagged_images, tagged_document
) -> None:
    document = tagged_document(tagged_images)
    document["evaluation"] = {"ensemble": "snapshots"}
    document["trainer"] |= {"strategy": "ddp", "devices": 2}
    document["data"]["init_args"]["split"]["val"] = 0.22
    for stage in document["stages"]:
        stage.setdefault("callbacks", []).append(
            {"class_path": "witness.Witness", "init_args": {"stage": stage["name"]}}
        )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(document))
    (tmp_path / "notes").mkdir()
    paths = [os.path.dirname(__file__), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "lightning_fastrecipes", "run", "recipe.yaml", "--out", "run",
         "--trust", "witness"],
        env=os.environ | {"WITNESS": str(tmp_path / "notes"), "PYTHONPATH": os.pathsep.join(paths)},
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        assert (tmp_path / "notes" / f"in-group-{rank}").read_text().split() == ["False"]

    # Weights and the buffer of thresholds are the same in both processes.
    first, second = ((tmp_path / "notes" / f"weights-{rank}").read_text() for rank in (0, 1))
    assert first == second

    results = json.loads((tmp_path / "run" / "results.json").read_text())
    noted = json.loads((tmp_path / "run" / "export" / "ensemble.json").read_text())["thresholds"]
    sizes = []
    for split in ("val", "test"):
        table = pd.read_csv(tmp_path / "run" / f"predictions_{split}.csv", keep_default_na=False)
        sizes.append(len(table))
        assert table["file"].is_unique
        truth, predicted = (
            np.array([[name in cell.split() for name in CLASSES] for cell in table[column]])
            for column in ("target", "prediction")
        )
        thresholds = np.array([noted[name] for name in CLASSES])
        assert (predicted == (table[CLASSES].to_numpy() >= thresholds)).all()
        score = fbeta_score(truth, predicted, beta=2, average="samples", zero_division=1)
        assert results[split]["f2"] == pytest.approx(score, abs=1e-6)
    assert any(size % 2 for size in sizes)
