"""Numbers depend on the number of threads by at most 1e-5, and not at all on that of workers.

Further than PyTorch's own sums allow: with another number of threads they round otherwise, which
batch norm and Adam make more of with each epoch that all layers are trained.
"""

import json
import logging
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from helpers.kills import callback, image_document, table_document
from helpers.runs import run_recipe

pytestmark = [
    pytest.mark.filterwarnings("ignore:`ValidationGuard`"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def write(home: Path, document: dict) -> Path:
    path = home / "tiny" / "recipe.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def numbers(recipe, folder, threads: int, *overrides: str) -> dict[str, pd.DataFrame]:
    """Run a recipe; return its metrics of each epoch, its results and its predictions."""
    torch.set_num_threads(threads)
    try:
        run_recipe(recipe, folder, *overrides)
    finally:
        torch.set_num_threads(1)
    results = json.loads((folder / "results.json").read_text())
    found = {split: pd.DataFrame([results[split]]) for split in ("val", "test")}
    found["epochs"] = pd.read_csv(folder / "metrics.csv").drop(columns="seconds")
    for split in ("val", "test"):
        found[f"predictions of {split}"] = pd.read_csv(folder / f"predictions_{split}.csv")
    return found


def assert_close(found, expected) -> None:
    for name, table in expected.items():
        pd.testing.assert_frame_equal(found[name], table, rtol=1e-5, atol=1e-5, obj=name)


def test_an_image_recipe_depends_on_neither_threads_nor_workers(squares, tmp_path) -> None:
    document = image_document(squares, image_size=32)
    document["model"]["init_args"]["backbone"]["init_args"] |= {"image_size": 32, "channels": [16]}
    document["stages"]["all"] |= {"max_epochs": 1, "callbacks": [callback("ImageMixing")]}
    document["evaluation"] = {}
    path = write(tmp_path, document)
    expected = numbers(path, tmp_path / "0", 1)
    assert_close(numbers(path, tmp_path / "threads", 2), expected)
    found = numbers(path, tmp_path / "workers", 1, "data.num_workers=2")
    for name, table in expected.items():
        pd.testing.assert_frame_equal(found[name], table, obj=name)


def test_a_table_recipe_does_not_depend_on_threads(tmp_path) -> None:
    document = table_document(tmp_path / "data")
    document["model"]["init_args"]["network"]["layers"] = [500, 400]
    for stage in document["stages"].values():  # at theirs it leaps, and rounding grows
        stage["lr"] /= 10
    path = write(tmp_path, document)
    expected = numbers(path, tmp_path / "1", 1)
    assert_close(numbers(path, tmp_path / "2", 2), expected)


def test_a_run_that_goes_on_with_other_threads_says_so(squares, tmp_path, caplog) -> None:
    path, folder = write(tmp_path, image_document(squares)), tmp_path / "run"
    with caplog.at_level(logging.INFO):
        run_recipe(path, folder)
    assert "PyTorch computes on 1 threads; with another number" in caplog.text
    assert json.loads((folder / "progress.json").read_text())["threads"] == 1
    (folder / "results.json").unlink()
    torch.set_num_threads(2)
    try:
        with pytest.warns(UserWarning, match="began on 1 threads and goes on with 2.*THREADS=1"):
            run_recipe(folder / "recipe.yaml", folder, resume=True)
    finally:
        torch.set_num_threads(1)
    assert json.loads((folder / "progress.json").read_text())["threads"] == 1
    run_recipe(folder / "recipe.yaml", folder, resume=True)  # warnings are errors here
