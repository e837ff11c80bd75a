"""Recipes whose snapshots predict together, and runs that do."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from helpers.runs import continue_run, recipe_results

from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.nn.averaging import average_state
from lightning_fastrecipes.recipe.images.export import load_export, predict_files

CLASSES = ["blue", "red"]


def with_snapshots(recipe_file: Path, ensemble: str | None) -> Path:
    """Let the last stage keep the ends of its last two cycles."""
    document = yaml.safe_load(recipe_file.read_text())
    keeper = {"class_path": "lightning_fastrecipes.CycleSnapshots", "init_args": {"keep": 2}}
    document["stages"][-1]["callbacks"].append(keeper)
    document["evaluation"] = {"ensemble": ensemble}
    recipe_file.write_text(yaml.safe_dump(document))
    return recipe_file


def test_snapshots_predict_together(recipe_file, tmp_path, squares):
    folder = tmp_path / "run"
    results = recipe_results(with_snapshots(recipe_file, "snapshots"), folder)
    snapshots = sorted((folder / "snapshots" / "all").iterdir())
    assert [path.name for path in snapshots] == ["cycle-2.ckpt", "cycle-3.ckpt"]
    assert set(results["members"]["test"]) == {"cycle-2", "cycle-3"}

    table = pd.read_csv(folder / "predictions_test.csv")
    files = [squares / name for name in table["file"]]
    each = [
        predict_files(folder / "export" / "members" / name, files)[0][CLASSES].to_numpy()
        for name in ("cycle-2", "cycle-3")
    ]
    np.testing.assert_allclose(table[CLASSES], np.mean(each, axis=0), atol=2e-6)
    assert not np.allclose(each[0], each[1], atol=1e-4)
    right = (table["prediction"] == table["target"]).mean()
    assert results["test"]["accuracy"] == pytest.approx(right)
    chosen = [row[row["target"]] for _, row in table.iterrows()]
    assert results["test"]["loss"] == pytest.approx(-np.log(chosen).mean(), rel=1e-4)


def test_exported_snapshots_predict_as_the_evaluation_did(recipe_file, tmp_path, squares):
    folder = tmp_path / "run"
    recipe_results(with_snapshots(recipe_file, "snapshots"), folder)
    expected = pd.read_csv(folder / "predictions_test.csv")
    out = tmp_path / "out.csv"
    files = [str(squares / name) for name in expected["file"]]
    assert main(["predict", str(folder), *files, "--out", str(out)]) == 0
    found = pd.read_csv(out)
    assert found["prediction"].tolist() == expected["prediction"].tolist()
    np.testing.assert_allclose(found[CLASSES], expected[CLASSES], atol=2e-6)
    last = load_export(folder)[0].state_dict()
    final = torch.load(folder / "checkpoints" / "all.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(last[name], value) for name, value in final.items())


def test_a_run_evaluated_again_without_snapshots_predicts_with_its_last_weights(
    recipe_file, tmp_path
):
    folder = tmp_path / "run"
    recipe_results(with_snapshots(recipe_file, "snapshots"), folder)
    assert (folder / "export" / "ensemble.json").is_file()
    continue_run(folder, "evaluation.ensemble=null")
    assert not (folder / "export" / "ensemble.json").exists()


def test_mean_weights_are_evaluated_and_exported(recipe_file, tmp_path):
    folder = tmp_path / "run"
    results = recipe_results(with_snapshots(recipe_file, "average"), folder)
    paths = sorted((folder / "snapshots" / "all").iterdir())
    states = [torch.load(path, weights_only=True)["state_dict"] for path in paths]
    expected = average_state(states)
    exported = load_export(folder)[0].state_dict()
    moved = []
    for name, value in expected.items():
        if "running_" in name or "num_batches" in name:
            moved.append(not torch.equal(exported[name], value))
        else:
            assert torch.equal(exported[name], value), name
    assert any(moved), "batch norm was not measured anew"
    assert "members" not in results
    table = pd.read_csv(folder / "predictions_test.csv")
    assert results["test"]["accuracy"] == (table["prediction"] == table["target"]).mean()


def test_runs_predict_together(recipe_file, tmp_path, squares):
    folders = [tmp_path / "a", tmp_path / "b"]
    for seed, folder in enumerate(folders):
        recipe_results(recipe_file, folder, f"seed={seed}")
    files = sorted((squares / "blue").iterdir())
    tables = [predict_files(folder, files)[0] for folder in folders]
    out = tmp_path / "out.csv"
    words = ["predict", str(folders[0]), *map(str, files), "--with", str(folders[1])]
    assert main([*words, "--out", str(out)]) == 0
    each = np.stack([table[CLASSES].to_numpy() for table in tables])
    mean = np.mean(each, axis=0)
    np.testing.assert_allclose(pd.read_csv(out)[CLASSES], mean, atol=2e-6)
    assert "agreement" not in pd.read_csv(out)
    assert main([*words, "--agreement", "--out", str(out)]) == 0
    np.testing.assert_allclose(pd.read_csv(out)[CLASSES], mean, atol=2e-6)
    share = (each.argmax(2) == mean.argmax(1)).mean(0)
    np.testing.assert_allclose(pd.read_csv(out)["agreement"], share)


def test_runs_of_other_classes_are_refused(recipe_file, tmp_path, squares):
    recipe_results(recipe_file, tmp_path / "a")
    (squares / "red").rename(squares / "green")
    recipe_results(recipe_file, tmp_path / "b")
    with pytest.raises(DataError, match=r"same classes, but one .*: missing 'red'; new 'green'"):
        predict_files([tmp_path / "a", tmp_path / "b"], [squares])


def test_an_ensemble_without_snapshots_is_refused_before_anything_runs(recipe_file, capsys):
    assert main(["check", str(recipe_file), "--evaluation.ensemble=snapshots"]) == 2
    message = capsys.readouterr().err
    assert "evaluation.ensemble: 'snapshots' needs snapshots, but no stage keeps any" in message


def test_a_rehearsal_has_no_snapshots_and_evaluates_the_last_weights(recipe_file, tmp_path):
    results = recipe_results(
        with_snapshots(recipe_file, "snapshots"), tmp_path / "run", fast_dev_run=True
    )
    assert "members" not in results
    assert json.loads((tmp_path / "run" / "results.json").read_text())["test"]
