"""Several runs of one recipe: variants in order or one by one, and seeds."""

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
from lightning_fastrecipes.recipe.run.series import Series

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
                "split": 0.25,
                "image_size": SIZE,
                "batch_size": 4,
            },
        },
        "model": {
            "class_path": "lightning_fastrecipes.ImageClassifier",
            "init_args": {"backbone": network, "head": {"layout": "linear"}, "num_groups": 2},
        },
        "trainer": {"accelerator": "cpu", "precision": "32-true"},
        "stages": {"all": {"max_epochs": 1}},
        "series": "cumulative",
        "variants": {
            "linear": None,
            "hidden": {"model.backbone.init_args.hidden": [6]},
            "longer": {"stages.all.max_epochs": 2},
            "three": {"seeds": 3},
        },
    }


@pytest.fixture
def series_file(tmp_path: Path) -> Path:
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


def run_series(path: Path, folder: Path, *overrides: str, trainer=train, **options) -> dict:
    recipe = load_recipe(path, overrides)
    series = Series(recipe, folder, show_progress=False, **options)
    series.check()
    return series.run_all(trainer)


def test_in_a_series_each_variant_is_the_one_before_it_changed(series_file: Path) -> None:
    variants = load_recipe(series_file).variants
    assert list(variants) == ["linear", "hidden", "longer", "three"]
    recipes = list(variants.values())
    assert [recipe.seeds for recipe in recipes] == [1, 1, 1, 3]
    assert [recipe.stages[0].max_epochs for recipe in recipes] == [1, 1, 2, 2]
    networks = [recipe.model.init_args["backbone"]["init_args"] for recipe in recipes]
    assert [network.get("hidden") for network in networks] == [None, [6], [6], [6]]
    assert recipes[1].name == "stripes-hidden"
    assert not {"variants", "series"} & set(recipes[1].source)


def with_side_steps(path: Path) -> None:
    """Add two side steps to the series, one of them at its end."""
    written = yaml.safe_load(path.read_text())
    network = "model.backbone.init_args"
    changes = {f"{network}.hidden": [3], f"{network}.activation": "none"}
    steps = list(written["variants"].items())
    aside = ("aside", {"side_step": True, **changes})
    last = ("last", {"side_step": True, "stages.all.max_epochs": 4})
    written["variants"] = dict([*steps[:2], aside, steps[2], last])
    path.write_text(yaml.safe_dump(written, sort_keys=False))


def test_the_next_variant_does_without_a_side_step(series_file: Path, tmp_path, capsys) -> None:
    with_side_steps(series_file)
    variants = load_recipe(series_file).variants
    assert [name for name, recipe in variants.items() if recipe.is_side_step] == ["aside", "last"]
    networks = [recipe.model.init_args["backbone"]["init_args"] for recipe in variants.values()]
    assert [network.get("hidden") for network in networks] == [None, [6], [3], [6], [6]]
    assert [network.get("activation") for network in networks] == [None, None, "none", None, None]
    assert [recipe.stages[0].max_epochs for recipe in variants.values()] == [1, 1, 1, 2, 4]

    assert main(["run", str(series_file), "--out", str(tmp_path / "run")]) == 0
    assert "aside (side step)" in capsys.readouterr().out
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    aside = [row["name"] for row in results["variants"] if row.get("is_side_step")]
    assert aside == ["aside", "last"]
    # The run predicts as its last variant that is none.
    exports = [tmp_path / "run" / "variants" / name / "export" for name in ("longer", "last")]
    weights = [(home / "model.safetensors").read_bytes() for home in exports]
    assert (tmp_path / "run" / "export" / "model.safetensors").read_bytes() == weights[0]
    assert weights[0] != weights[1]


def test_without_a_series_each_variant_changes_the_recipe_itself(series_file: Path) -> None:
    written = yaml.safe_load(series_file.read_text())
    del written["series"]
    series_file.write_text(yaml.safe_dump(written, sort_keys=False))
    recipe = load_recipe(series_file)
    assert not recipe.has_many_runs
    assert "variants" not in recipe.source
    three = load_recipe(series_file, ["stages.all.lr=0.5"], "three")
    assert three.stages[0].max_epochs == 1
    assert three.stages[0].lr == 0.5
    assert three.seeds == 3
    assert "hidden" not in three.model.init_args["backbone"]["init_args"]
    with pytest.raises(RecipeError, match=r"no variant 'thre'\. Variants: linear, hidden"):
        load_recipe(series_file, variant="thre")


def test_the_command_line_has_the_last_word_on_every_variant(series_file: Path, tmp_path) -> None:
    overrides = ["stages.all.max_epochs=5", "variants.three.seeds=2", "seed=7"]
    recipe = load_recipe(series_file, overrides)
    variants = recipe.variants
    assert [variant.stages[0].max_epochs for variant in variants.values()] == [5] * 4
    assert [variant.seed for variant in variants.values()] == [7] * 4
    assert variants["three"].seeds == 2
    # The same once more, from the file that a run folder holds.
    again = tmp_path / "recipe.yaml"
    again.write_text(yaml.safe_dump(recipe.source, sort_keys=False))
    for name, variant in load_recipe(again).variants.items():
        assert variant.source == variants[name].source


def as_rungs(written: dict) -> dict:
    """Return the same recipe in the words of earlier versions."""
    rungs = []
    for name, changes in written["variants"].items():
        changes = dict(changes or {})
        seeds = {key: changes.pop(key) for key in ("seeds",) if key in changes}
        rungs.append({"name": name} | ({"set": changes} if changes else {}) | seeds)
    stages = [{"name": name, **stage} for name, stage in written["stages"].items()]
    old = {k: v for k, v in written.items() if k not in ("variants", "series")}
    return old | {"rungs": rungs, "stages": stages}


def test_rungs_read_as_a_series_of_variants(series_file: Path, tmp_path: Path) -> None:
    written = yaml.safe_load(series_file.read_text())
    old = tmp_path / "old" / "recipe.yaml"
    old.parent.mkdir()
    rungs = as_rungs(written)
    # The seeds of a rung were its own.
    rungs["rungs"].append({"name": "last"})
    old.write_text(yaml.safe_dump(rungs | {"name": "stripes"}, sort_keys=False))
    written["variants"]["last"] = {"seeds": 1}
    series_file.write_text(yaml.safe_dump(written, sort_keys=False))
    ours, theirs = (
        load_recipe(path, ["variants.three.seeds=2", "stages.all.lr=0.1"])
        for path in (series_file, old)
    )
    assert theirs.series == "cumulative"
    assert [variant.seeds for variant in theirs.variants.values()] == [1, 1, 1, 2, 1]
    for name, variant in ours.variants.items():
        assert theirs.variants[name].stages == variant.stages
        assert theirs.variants[name].model == variant.model


def test_seeds_without_variants_predict_together(series_file: Path, tmp_path: Path, capsys) -> None:
    words = ["run", str(series_file), "--variant", "three", "--seeds=2", "--out"]
    assert main([*words, str(tmp_path / "run")]) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(results["members"]["test"]) == {"seed-0", "seed-1"}
    assert (tmp_path / "run" / "seed-1" / "results.json").is_file()
    capsys.readouterr()
    assert main(["run", "--resume", str(tmp_path / "run")]) == 0
    assert "Stage all took" not in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "results.json").read_text())["test"] == results["test"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """Return a finished run that no test may change."""
    home = tmp_path_factory.mktemp("finished")
    path = series_file.__wrapped__(home)
    return home / "run", run_series(path, home / "run")


def test_every_variant_has_a_run_folder_and_a_row(finished) -> None:
    folder, results = finished
    assert json.loads((folder / "results.json").read_text()) == results
    rows = {row["name"]: row for row in results["variants"]}
    for name in ("linear", "hidden", "longer"):
        alone = json.loads((folder / "variants" / name / "results.json").read_text())
        assert rows[name]["test"] == alone["test"]
        assert rows[name]["seconds"] == pytest.approx(sum(s["seconds"] for s in alone["stages"]))
    assert (folder / "variants.png").stat().st_size > 5000
    assert (folder / "recipe.yaml").is_file()


def test_models_of_several_seeds_predict_together(finished) -> None:
    folder, results = finished
    three = folder / "variants" / "three"
    found = json.loads((three / "results.json").read_text())
    assert set(found["members"]["test"]) == {"seed-0", "seed-1", "seed-2"}
    homes = [folder / "variants" / "longer", three / "seed-1", three / "seed-2"]
    columns = ["0", "1"]
    each = [pd.read_csv(home / "predictions_test.csv")[columns].to_numpy() for home in homes]
    assert not np.allclose(each[0], each[1], atol=1e-3)
    merged = pd.read_csv(three / "predictions_test.csv")
    np.testing.assert_allclose(merged[columns], np.mean(each, axis=0), atol=2e-6)
    right = (merged["prediction"] == merged["target"]).mean()
    assert results["variants"][-1]["test"]["accuracy"] == pytest.approx(right)
    assert results["variants"][-1]["num_models"] == 3
    # How many of the three decide as they do together.
    decided = np.array([columns[index] for index in np.stack(each).argmax(2).flat]).reshape(3, -1)
    agree = (decided == merged["prediction"].astype(str).to_numpy()).mean(axis=0)
    np.testing.assert_allclose(merged["agreement"], agree, atol=1e-6)
    assert results["variants"][-1]["test"]["agreement"] == pytest.approx(agree.mean())
    assert "agreement" not in results["variants"][-2]["test"]


def test_a_model_that_an_earlier_variant_trained_is_not_trained_again(finished) -> None:
    folder, _ = finished
    three = folder / "variants" / "three"
    assert not (three / "seed-0").exists()
    exported = three / "export" / "members" / "seed-0" / "model.safetensors"
    earlier = folder / "variants" / "longer" / "export" / "model.safetensors"
    assert exported.read_bytes() == earlier.read_bytes()


def test_the_run_predicts_as_its_last_variant(finished, tmp_path: Path) -> None:
    folder, _ = finished
    generator = np.random.default_rng(1)
    for number in range(3):
        pixels = generator.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    names = json.loads((folder / "export" / "ensemble.json").read_text())["members"]
    assert all((folder / "export" / name / "model.safetensors").is_file() for name in names)
    assert not any(".." in name for name in names)
    found, bad = predict_files(folder, [tmp_path])
    assert not bad
    expected, _ = predict_files(folder / "variants" / "three", [tmp_path])
    pd.testing.assert_frame_equal(found, expected)
    single, _ = predict_files(folder / "variants" / "longer", [tmp_path])
    assert not np.allclose(found["0"], single["0"], atol=1e-4)


def test_an_interrupted_run_goes_on_where_it_stopped(
    series_file: Path, finished, tmp_path: Path
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
        run_series(series_file, folder, trainer=train_two_and_a_half)
    assert not (folder / "results.json").exists()
    trained_again: list[str] = []

    def train_and_note(run: Run) -> dict[str, Any]:
        trained_again.append(run.folder.path.name)
        return train(run)

    results = run_series(folder / "recipe.yaml", folder, trainer=train_and_note, resume=True)
    assert trained_again == ["longer", "seed-1", "seed-2"]
    expected = finished[1]
    for row, uninterrupted in zip(results["variants"], expected["variants"], strict=True):
        assert row["test"] == uninterrupted["test"], row["name"]
    weights = Path("variants", "longer", "checkpoints", "all.ckpt")
    ours = torch.load(folder / weights, weights_only=True)["state_dict"]
    theirs = torch.load(finished[0] / weights, weights_only=True)["state_dict"]
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_the_command_runs_explains_and_rehearses_variants(series_file, tmp_path, capsys) -> None:
    assert main(["check", str(series_file)]) == 0
    assert "4 variants of 1 stages" in capsys.readouterr().out
    assert main(["explain", str(series_file)]) == 0
    printed = capsys.readouterr().out
    for text in ("Variant linear, models: 1", "Variant three, models: 3", "2 epochs of"):
        assert text in printed
    folder = tmp_path / "trial"
    assert main(["run", str(series_file), "--fast-dev-run", "--out", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "Variants, test split" in printed
    assert sorted(path.name for path in (folder / "variants").iterdir()) == [
        "hidden", "linear", "longer", "three",
    ]  # fmt: skip


def test_list_show_and_copy_know_variants(series_file: Path, tmp_path: Path, capsys) -> None:
    assert main(["ls"]) == 0
    assert "Variants: linear, hidden_layer, " in capsys.readouterr().out
    assert main(["show", str(series_file), "--variant", "longer"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["stages"]["all"]["max_epochs"] == 2
    assert "variants" not in shown
    assert main(["copy", str(series_file), str(tmp_path / "copies"), "--variant", "longer"]) == 0
    copied = load_recipe(tmp_path / "copies" / "stripes" / "recipe.yaml")
    assert copied.source == shown
    assert not copied.has_many_runs


def test_the_rate_of_a_stage_of_a_variant_is_found_by_name(series_file, tmp_path, capsys) -> None:
    words = ["lr-find", str(series_file), "--stage", "all", "--out", str(tmp_path / "found")]
    assert main(words) == 2
    assert "`--variant` must name a variant of the recipe" in (capsys.readouterr().err)
    main([*words, "--variant", "hidden"])
    curve = json.loads((tmp_path / "found" / "lr_finder_all.json").read_text())
    assert set(curve["group_lrs"] or {"backbone", "head"}) == {"backbone", "head"}
    assert len(curve["losses"]) > 10


def test_only_recipes_with_variants_take_one(recipe_file, capsys) -> None:
    assert main(["lr-find", str(recipe_file), "--stage", "all", "--variant", "a"]) == 2
    assert "there is no variant 'a'. It has none." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(variants=["a"]), "variants: must be a mapping from name to"),
        (lambda d: d.pop("variants"), "variants: must be a mapping from name to"),
        (lambda d: d.update(series="each"), "series: must be `cumulative` or be left out"),
        (lambda d: d["variants"].update(x=3), r"variants\.x: must be a mapping"),
        (lambda d: d["variants"].update({"a b": {}}), r"variants\.a b: a name must be letters"),
        (lambda d: d["variants"]["linear"].update(seeds=0), r"linear\.seeds: must be at least 1"),
        (
            lambda d: d["variants"]["linear"].update(seeds="x"),
            r"linear\.seeds: must be a whole number",
        ),
        (
            lambda d: d["variants"]["hidden"].update({"stages.al.max_epochs": 1}),
            r"variants\.hidden: stages\.al\.max_epochs: there is no stage 'al'",
        ),
        (
            lambda d: d["variants"]["hidden"].update({"modle.lr": 1}),
            r"variants\.hidden: modle\.lr: there is no key `modle`. Did you mean `model`",
        ),
        (
            lambda d: d["variants"]["hidden"].update({"data.batch_siz": 1}),
            r"variants\.hidden\.data: `ImageArrayDataModule` has no argument `batch_siz`",
        ),
        (lambda d: d["variants"]["hidden"].update(variants={}), "A variant cannot change it"),
        (
            lambda d: d["variants"]["hidden"].update(side_step="yes"),
            r"variants\.hidden\.side_step: must be true or false, but is 'yes'",
        ),
        (
            lambda d: d["variants"]["hidden"].update(side_step=True) or d.pop("series"),
            r"variants\.hidden\.side_step: needs `series: cumulative`",
        ),
        (
            lambda d: d.update(variants={"a": {"side_step": True}}),
            "the series must end with a variant that is no `side_step`, but all of them are",
        ),
    ],
)
def test_wrong_variants_are_refused_before_anything_runs(series_file, change, message) -> None:
    written = yaml.safe_load(series_file.read_text())
    written["variants"]["linear"] = {}
    change(written)
    series_file.write_text(yaml.safe_dump(written, sort_keys=False))
    with pytest.raises(RecipeError, match=message):
        load_recipe(series_file)


def test_seeds_and_snapshots_do_not_predict_together(series_file: Path) -> None:
    written = yaml.safe_load(series_file.read_text())
    written["stages"]["all"]["callbacks"] = [
        {"class_path": "lightning_fastrecipes.SGDR"},
        {"class_path": "lightning_fastrecipes.CycleSnapshots"},
    ]
    written["evaluation"] = {"ensemble": "snapshots"}
    series_file.write_text(yaml.safe_dump(written, sort_keys=False))
    with pytest.raises(RecipeError, match="3 models predict together"):
        load_recipe(series_file)


def test_a_mistake_in_the_last_variant_shows_before_the_first_is_trained(series_file, tmp_path):
    written = yaml.safe_load(series_file.read_text())
    written["variants"]["three"]["stages.all.image_size"] = 16
    series_file.write_text(yaml.safe_dump(written, sort_keys=False))
    with pytest.raises(RecipeError, match="`image_size` must be 8"):
        run_series(series_file, tmp_path / "run")
    assert not (tmp_path / "run" / "variants").exists()
