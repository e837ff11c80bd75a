"""Notebooks as people run them: executed in a kernel of their own, on tiny data."""

from pathlib import Path

import numpy as np
import pytest

from lightning_fastrecipes.cli.main import main

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

PHOTOS = Path(__file__).parent / "fixtures" / "house_one" / "run_folders" / "photos"
NOISE = ("GPU", "TPU", "litlogger", "LeafSpec", "eval mode")
CELLS = [
    "import pytorch_lightning as pl\nimport lightning_fastrecipes as fr",
    "data = fr.ImageFolderDataModule(ROOT, split=fr.FractionSplit(0.25, 0.25), image_size=32,\n"
    "    batch_size=4, num_workers=0)\ndata.show_batch(2, 1)",
    "data",
    "model = fr.ImageClassifier('test_resnet.r160_in1k', 2)\n"
    "curve = fr.lr_find(model, data, num_steps=40, accelerator='cpu')\ncurve",
    "done = fr.fine_tune(model, data, 2, steps=['head', 'all'], lr=1e-2, accelerator='cpu',\n"
    "    enable_progress_bar=False, logger=False, enable_checkpointing=False,\n"
    "    callbacks=[fr.EpochTable()])\ndone",
    "predictor = fr.load(RUN, tta=False)\npredictor.show_results(ROOT + '/red', 3)",
    "predictor",
    "frame = {'x': list(range(40)), 'y': [1.0, 2.0] * 20}\n"
    "table = fr.TabularDataModule(frame, fr.TableColumns('y', [], ['x']), cache='off')\n"
    "table.show_batch(3)",
]


def execute(notebook, folder: Path, monkeypatch) -> list[list[dict]]:
    """Run a notebook in a folder, and return the outputs of its code cells."""
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    with monkeypatch.context() as patch:
        for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            patch.setenv(name, str(folder / name.lower()))
        client.execute()
    return [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]


def shown(outputs: list[dict]) -> set[str]:
    """Return the types of what a cell shows."""
    return {kind for output in outputs for kind in output.get("data", {})}


def said(outputs: list[dict], stream: str) -> str:
    return "".join(one["text"] for one in outputs if one.get("name") == stream)


def test_a_notebook_shows_images_curves_tables_and_results(squares, tmp_path, monkeypatch) -> None:
    start = f"ROOT, RUN = {str(squares)!r}, {str(PHOTOS)!r}\n"
    cells = [start + CELLS[0], *CELLS[1:]]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    outputs = execute(notebook, tmp_path, monkeypatch)
    _, batch, data, curve, trained, results, predictor, rows = outputs
    for figure in (batch, curve, results):
        assert "image/png" in shown(figure)
    for table in (data, trained, predictor, rows):
        assert "text/html" in shown(table)
    epochs = [o for o in trained if "val_accuracy" in o.get("data", {}).get("text/html", "")]
    # The table of each stage stays, and then that of the stages.
    assert len(epochs) == 3
    assert all(len(one) == 1 for one in (batch, data, results, predictor))
    assert len(curve[-1]["data"]["text/plain"]) < 400
    for cell in (curve, trained, rows):
        assert not any(word in said(cell, "stderr") for word in NOISE), said(cell, "stderr")


def test_the_notebook_of_a_recipe_runs(tmp_path, monkeypatch) -> None:
    draw = np.random.default_rng(0)
    digits, labels = draw.integers(0, 256, (420, 28, 28), dtype=np.uint8), np.arange(420) % 10
    splits = {"x_train": digits[:400], "y_train": labels[:400]}
    np.savez(tmp_path / "d.npz", **splits, x_test=digits[400:], y_test=labels[400:])
    assert main(["copy", "mnist_ladder", str(tmp_path), "--notebook"]) == 0
    path = tmp_path / "mnist_ladder" / "recipe.ipynb"
    notebook = nbformat.read(path, as_version=4)
    [words] = [cell for cell in notebook["cells"] if "sys.argv" in cell["source"]]
    given = ["recipe.py", str(tmp_path / "d.npz"), "--fast-dev-run"]
    words["source"] = f"import sys\nsys.argv = {given!r}"
    outputs = execute(notebook, tmp_path, monkeypatch)
    assert "Mean of six: " in said(outputs[-1], "stdout")
