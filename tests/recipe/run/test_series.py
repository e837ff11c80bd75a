"""Recipes with rungs: each is the one before it, changed, and runs in a folder of its own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.images.export import predict_files
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run.runner import Run
from lightning_fastrecipes.recipe.run.series import Ladder

SIZE = 8
MLP = "lightning_fastrecipes.nn.small.SmallMLP"


def train(run: Run) -> dict[str, Any]:
    for index, _ in enumerate(run.prepare()):
        run.run_stage(index)
    return run.finish()


def document(source: Path) -> dict:
    network = {"class_path": MLP, "init_args": {"image_size": SIZE}}
    return {
        "description": "Stripes.",
        "data": {
            "class_path": "lightning_fastrecipes.ImageArrayDataModule",
            "init_args": {
                "source": str(source),
                "val_fraction": 0.25,
                "image_size": SIZE,
                "batch_size": 4,
            },
        },
        "model": {
            "class_path": "lightning_fastrecipes.ImageClassifier",
            "init_args": {"backbone": network, "head": {"layout": "linear"}, "num_groups": 2},
        },
        "trainer": {"accelerator": "cpu", "precision": "32-true"},
        "stages": [{"name": "all", "max_epochs": 1}],
        "rungs": [
            {"name": "linear"},
            {"name": "hidden", "set": {"model.backbone.init_args.hidden": [6]}},
            {"name": "longer", "set": {"stages.all.max_epochs": 2}},
            {"name": "three", "seeds": 3},
        ],
    }


@pytest.fixture
def ladder_file(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 100, (32, SIZE, SIZE), dtype=np.uint8)
    labels = np.arange(32) % 2
    pixels[labels == 1, :, ::2] += 100
    np.savez(
        tmp_path / "stripes.npz",
        x_train=pixels[:24], y_train=labels[:24], x_test=pixels[24:], y_test=labels[24:],
    )  # fmt: skip
    path = tmp_path / "stripes" / "recipe.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(document(tmp_path / "stripes.npz"), sort_keys=False))
    return path


def climb(path: Path, folder: Path, *overrides: str, trainer=train, **options) -> dict:
    recipe = load_recipe(path, overrides)
    ladder = Ladder(recipe, folder, show_progress=False, **options)
    ladder.check()
    return ladder.climb(trainer)


def test_each_rung_is_the_one_before_it_changed(ladder_file: Path) -> None:
    rungs = load_recipe(ladder_file).rungs
    assert [rung.name for rung in rungs] == ["linear", "hidden", "longer", "three"]
    assert [rung.num_models for rung in rungs] == [1, 1, 1, 3]
    assert [rung.recipe.stages[0].max_epochs for rung in rungs] == [1, 1, 2, 2]
    networks = [rung.recipe.model.init_args["backbone"]["init_args"] for rung in rungs]
    assert [network.get("hidden") for network in networks] == [None, [6], [6], [6]]
    assert rungs[1].recipe.name == "stripes-hidden"
    assert "rungs" not in rungs[1].recipe.source


def test_the_command_line_has_the_last_word_on_every_rung(ladder_file: Path, tmp_path) -> None:
    overrides = ["stages.all.max_epochs=5", "rungs.three.seeds=2", "seed=7"]
    recipe = load_recipe(ladder_file, overrides)
    assert [rung.recipe.stages[0].max_epochs for rung in recipe.rungs] == [5] * 4
    assert [rung.recipe.seed for rung in recipe.rungs] == [7] * 4
    assert recipe.rungs[-1].num_models == 2
    # The same once more, from the file that a run folder holds.
    again = tmp_path / "recipe.yaml"
    again.write_text(yaml.safe_dump(recipe.source, sort_keys=False))
    for rung, before in zip(load_recipe(again).rungs, recipe.rungs, strict=True):
        assert rung.recipe.source == before.recipe.source


@pytest.fixture(scope="module")
def climbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """Return a finished run that no test may change."""
    home = tmp_path_factory.mktemp("climbed")
    path = ladder_file.__wrapped__(home)
    return home / "run", climb(path, home / "run")


def test_every_rung_has_a_run_folder_and_a_row(climbed) -> None:
    folder, results = climbed
    assert json.loads((folder / "results.json").read_text()) == results
    rows = {row["name"]: row for row in results["rungs"]}
    for name in ("linear", "hidden", "longer"):
        alone = json.loads((folder / "rungs" / name / "results.json").read_text())
        assert rows[name]["test"] == alone["test"]
        assert rows[name]["seconds"] == pytest.approx(sum(s["seconds"] for s in alone["stages"]))
    assert (folder / "rungs.png").stat().st_size > 5000
    assert (folder / "recipe.yaml").is_file()


def test_models_of_several_seeds_predict_together(climbed) -> None:
    folder, results = climbed
    three = folder / "rungs" / "three"
    found = json.loads((three / "results.json").read_text())
    assert set(found["members"]["test"]) == {"seed-0", "seed-1", "seed-2"}
    homes = [folder / "rungs" / "longer", three / "seed-1", three / "seed-2"]
    columns = ["0", "1"]
    each = [pd.read_csv(home / "predictions_test.csv")[columns].to_numpy() for home in homes]
    assert not np.allclose(each[0], each[1], atol=1e-3)
    merged = pd.read_csv(three / "predictions_test.csv")
    np.testing.assert_allclose(merged[columns], np.mean(each, axis=0), atol=2e-6)
    right = (merged["prediction"] == merged["target"]).mean()
    assert results["rungs"][-1]["test"]["accuracy"] == pytest.approx(right)
    assert results["rungs"][-1]["num_models"] == 3


def test_a_model_that_an_earlier_rung_trained_is_not_trained_again(climbed) -> None:
    folder, _ = climbed
    three = folder / "rungs" / "three"
    assert not (three / "seed-0").exists()
    exported = three / "export" / "members" / "seed-0" / "model.safetensors"
    earlier = folder / "rungs" / "longer" / "export" / "model.safetensors"
    assert exported.read_bytes() == earlier.read_bytes()


def test_the_run_predicts_with_its_last_rung(climbed, tmp_path: Path) -> None:
    folder, _ = climbed
    generator = np.random.default_rng(1)
    for number in range(3):
        pixels = generator.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    found, bad = predict_files(folder, [tmp_path])
    assert not bad
    expected, _ = predict_files(folder / "rungs" / "three", [tmp_path])
    pd.testing.assert_frame_equal(found, expected)
    single, _ = predict_files(folder / "rungs" / "longer", [tmp_path])
    assert not np.allclose(found["0"], single["0"], atol=1e-4)


def test_an_interrupted_run_goes_on_where_it_stopped(
    ladder_file: Path, climbed, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    trained: list[str] = []

    def train_two_and_a_half(run: Run) -> dict[str, Any]:
        trained.append(run.folder.path.name)
        if len(trained) == 3:
            # Power fails after the stage, before the evaluation.
            run.prepare()
            run.run_stage(0)
            raise KeyboardInterrupt
        return train(run)

    with pytest.raises(KeyboardInterrupt):
        climb(ladder_file, folder, trainer=train_two_and_a_half)
    assert not (folder / "results.json").exists()
    trained_again: list[str] = []

    def train_and_note(run: Run) -> dict[str, Any]:
        trained_again.append(run.folder.path.name)
        return train(run)

    results = climb(folder / "recipe.yaml", folder, trainer=train_and_note, resume=True)
    assert trained_again == ["longer", "seed-1", "seed-2"]
    expected = climbed[1]
    for row, uninterrupted in zip(results["rungs"], expected["rungs"], strict=True):
        assert row["test"] == uninterrupted["test"], row["name"]
    weights = Path("rungs", "longer", "checkpoints", "all.ckpt")
    ours = torch.load(folder / weights, weights_only=True)["state_dict"]
    theirs = torch.load(climbed[0] / weights, weights_only=True)["state_dict"]
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_the_command_runs_explains_and_rehearses_rungs(ladder_file, tmp_path, capsys) -> None:
    assert main(["check", str(ladder_file)]) == 0
    assert "4 rungs of 1 stages" in capsys.readouterr().out
    assert main(["explain", str(ladder_file)]) == 0
    printed = capsys.readouterr().out
    for text in ("Rung linear, models: 1", "Rung three, models: 3", "2 epochs of"):
        assert text in printed
    folder = tmp_path / "trial"
    assert main(["run", str(ladder_file), "--fast-dev-run", "--out", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "Rungs, test split" in printed
    assert sorted(path.name for path in (folder / "rungs").iterdir()) == [
        "hidden", "linear", "longer", "three",
    ]  # fmt: skip


def test_the_rate_of_a_rungs_stage_is_found_by_name(ladder_file, tmp_path, capsys) -> None:
    words = ["lr-find", str(ladder_file), "--stage", "all", "--out", str(tmp_path / "found")]
    assert main(words) == 2
    assert "`--rung` must name a rung of the recipe. Rungs: linear, hidden" in (
        capsys.readouterr().err
    )
    main([*words, "--rung", "hidden"])
    curve = json.loads((tmp_path / "found" / "lr_finder_all.json").read_text())
    assert set(curve["group_lrs"] or {"backbone", "head"}) == {"backbone", "head"}
    assert len(curve["losses"]) > 10


def test_only_recipes_with_rungs_take_a_rung(recipe_file, capsys) -> None:
    assert main(["lr-find", str(recipe_file), "--stage", "all", "--rung", "a"]) == 2
    assert "It has no rungs: leave it out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(rungs={"a": 1}), "rungs: must be a list"),
        (lambda d: d["rungs"].append("linear"), r"rungs\[4\]: must be a mapping"),
        (lambda d: d["rungs"].append({"name": "linear"}), "two rungs are named 'linear'"),
        (lambda d: d["rungs"].append({"name": "a b"}), r"rungs\[4\]\.name: must be letters"),
        (lambda d: d["rungs"].append({"nam": "a"}), "there is no key `nam`. Did you mean `name`"),
        (lambda d: d["rungs"][0].update(seeds=0), r"rungs\[0\]\.seeds: must be at least 1"),
        (lambda d: d["rungs"][0].update(seeds="many"), r"rungs\[0\]\.seeds: must be int"),
        (lambda d: d["rungs"][0].update(set=["a"]), r"rungs\[0\]\.set: must be a mapping"),
        (
            lambda d: d["rungs"][1].update(set={"stages.al.max_epochs": 1}),
            r"rungs\[1\]\.set: stages\.al\.max_epochs: there is no stage 'al'",
        ),
        (
            lambda d: d["rungs"][1].update(set={"modle.lr": 1}),
            r"rungs\[1\]\.set: modle\.lr: there is no key `modle`. Did you mean `model`",
        ),
        (
            lambda d: d["rungs"][1].update(set={"data.batch_siz": 1}),
            "`ImageArrayDataModule` has no argument `batch_siz`",
        ),
        (lambda d: d["rungs"][1].update(set={"rungs": []}), "a rung changes the recipe alone"),
    ],
)
def test_wrong_rungs_are_refused_before_anything_runs(ladder_file, change, message) -> None:
    written = yaml.safe_load(ladder_file.read_text())
    change(written)
    ladder_file.write_text(yaml.safe_dump(written, sort_keys=False))
    with pytest.raises(RecipeError, match=message):
        load_recipe(ladder_file)


def test_seeds_and_snapshots_do_not_predict_together(ladder_file: Path) -> None:
    written = yaml.safe_load(ladder_file.read_text())
    written["stages"][0]["callbacks"] = [
        {"class_path": "lightning_fastrecipes.SGDR"},
        {"class_path": "lightning_fastrecipes.CycleSnapshots"},
    ]
    written["evaluation"] = {"ensemble": "snapshots"}
    ladder_file.write_text(yaml.safe_dump(written, sort_keys=False))
    with pytest.raises(RecipeError, match="3 models predict together"):
        load_recipe(ladder_file)


def test_a_mistake_in_the_last_rung_shows_before_the_first_is_trained(ladder_file, tmp_path):
    written = yaml.safe_load(ladder_file.read_text())
    written["rungs"][-1]["set"] = {"stages.all.image_size": 16}
    ladder_file.write_text(yaml.safe_dump(written, sort_keys=False))
    with pytest.raises(RecipeError, match="`image_size` must be 8"):
        climb(ladder_file, tmp_path / "run")
    assert not (tmp_path / "run" / "rungs").exists()
