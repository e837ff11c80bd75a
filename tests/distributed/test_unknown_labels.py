"""Labels some of which are unknown, on two processes and splits that cannot be halved."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.processes import load_script, run_script
from PIL import Image

SCRIPT = Path(__file__).with_name("labels_on_two_processes.py")
NUM_TRAIN, NUM_VAL = 9, 11

pytestmark = pytest.mark.distributed


def test_they_are_measured_as_in_one_process(tmp_path) -> None:
    draw, num_images = np.random.default_rng(0), NUM_TRAIN + NUM_VAL
    cells = (draw.random((num_images, 3)) < 0.5).astype(float)
    # Unlike between the processes: one has every label of its images, the other few.
    cells[1::2][draw.random((num_images // 2, 3)) < 0.6] = np.nan
    frame = pd.DataFrame(cells, columns=["a", "b", "c"])
    frame["c"] = frame["c"].fillna(-1)
    frame["file"] = [f"{number:02}.png" for number in range(num_images)]
    frame["split"] = ["train"] * NUM_TRAIN + ["val"] * NUM_VAL
    frame.to_csv(tmp_path / "labels.csv", index=False)
    for name in frame["file"]:
        pixels = draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    run_script(SCRIPT, tmp_path)
    one = load_script(SCRIPT).work(tmp_path, 1)
    two = [torch.load(tmp_path / f"process-{rank}.pt") for rank in (0, 1)]
    assert {"val_loss", "val_auc"} <= {*one["before"]}
    for process in two:
        assert process["before"] == pytest.approx(one["before"], rel=1e-5)
    assert torch.isfinite(two[0]["weights"]).all()
    for name in ("weights", "thresholds"):
        assert torch.equal(two[0][name], two[1][name])
