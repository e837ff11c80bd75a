"""Recipes evaluated with test-time augmentation, and what they export."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from helpers.runs import recipe_results

from lightning_fastrecipes import TestTimeAugmentation
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import DataError, RecipeError
from lightning_fastrecipes.functional.labels.merging import best_weight, weigh, weight_losses
from lightning_fastrecipes.recipe.images.export import predict_files
from lightning_fastrecipes.recipe.images.views import build_tta
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run.plan import build_parts, plan_stages

CLASSES = ["blue", "red"]
METRICS = {"loss", "accuracy", "loss_tta", "accuracy_tta"}


def short(recipe_file, **evaluation):
    """Keep the last stage alone, for two epochs."""
    document = yaml.safe_load(recipe_file.read_text())
    document["stages"] = document["stages"][-1:]
    document["stages"][0]["max_epochs"] = 2
    document["evaluation"] = evaluation
    recipe_file.write_text(yaml.safe_dump(document))
    return recipe_file


def with_snapshots(recipe_file, **evaluation):
    """Keep the last stage, whose snapshots predict together."""
    path = short(recipe_file, ensemble="snapshots", **evaluation)
    document = yaml.safe_load(path.read_text())
    keeper = {"class_path": "lightning_fastrecipes.CycleSnapshots"}
    document["stages"][0]["callbacks"].append(keeper)
    path.write_text(yaml.safe_dump(document))
    return path


def predicted(folder, squares, **options):
    table = pd.read_csv(folder / "predictions_test.csv")
    found, _ = predict_files(folder, [squares / name for name in table["file"]], **options)
    return table, found


def test_plain_and_augmented_metrics_stand_side_by_side(recipe_file, tmp_path, squares):
    folder = tmp_path / "run"
    results = recipe_results(short(recipe_file, tta=3), folder)
    assert set(results["test"]) == set(results["val"]) == METRICS
    table, found = predicted(folder, squares)
    np.testing.assert_allclose(table[CLASSES], found[CLASSES], atol=2e-6)
    right = (table["prediction"] == table["target"]).mean()
    assert results["test"]["accuracy_tta"] == pytest.approx(right)
    chosen = [row[row["target"]] for _, row in table.iterrows()]
    assert results["test"]["loss_tta"] == pytest.approx(-np.log(chosen).mean(), rel=1e-4)

    _, plain = predicted(folder, squares, tta=False)
    chosen = [row[table.loc[place, "target"]] for place, row in plain.iterrows()]
    assert results["test"]["loss"] == pytest.approx(-np.log(chosen).mean(), rel=1e-4)
    assert not np.allclose(plain[CLASSES], found[CLASSES], atol=1e-4)
    exported = json.loads((folder / "export" / "model.json").read_text())
    assert exported["tta"]["augmentation"] == "top_down"
    assert exported["tta"]["plain_weight"] == 0.25


LIST = [{"rotate": {"degrees": 30, "p": 1}}, {"hue": 0.5}]
SOLARIZE = {"class_path": "torchvision.transforms.v2.RandomSolarize"}
SOLARIZE["init_args"] = {"threshold": 100}


@pytest.mark.parametrize("preset", ["training", "augmentation"])
def test_a_list_of_a_stage_is_evaluated_and_exported(recipe_file, tmp_path, squares, preset):
    path = short(recipe_file, tta={"n": 2, "preset": preset}, splits=["test"])
    document = yaml.safe_load(path.read_text())
    document["stages"][0]["augmentation"] = [*LIST, SOLARIZE]
    path.write_text(yaml.safe_dump(document))
    folder = tmp_path / "run"
    recipe_results(path, folder)
    exported = json.loads((folder / "export" / "model.json").read_text())
    assert exported["tta"]["transforms"] == [*LIST, SOLARIZE]
    assert exported["tta"]["preset"] == preset
    assert exported["training_views"]["preset"] == "training"
    table, found = predicted(folder, squares)
    np.testing.assert_allclose(table[CLASSES], found[CLASSES], atol=2e-6)
    assert not np.allclose(predicted(folder, squares, tta=False)[1][CLASSES], found[CLASSES])

    # An export of a stranger may not name any class.
    del exported["sha256"]
    exported["tta"]["transforms"][0] = {"class_path": "subprocess.Popen", "init_args": {}}
    (folder / "export" / "model.json").write_text(json.dumps(exported))
    with pytest.raises(ValueError, match=r"`subprocess\.Popen` is not of a package"):
        predicted(folder, squares)


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        (["rotat"], r"stages.all: `transforms\[0\]` must be one of .*Did you mean `rotate`"),
        ([{"class_path": "os.system"}], "`os.system` is not of a package"),
    ],
    ids=["unknown", "not-trusted"],
)
def test_a_wrong_list_is_refused_by_its_key(recipe_file, capsys, transforms, message):
    path = short(recipe_file)
    document = yaml.safe_load(path.read_text())
    document["stages"][0]["augmentation"] = {"transforms": transforms}
    path.write_text(yaml.safe_dump(document))
    assert main(["explain", str(path)]) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))


def test_the_switch_augments_evaluation_and_predictions(recipe_file, tmp_path, squares):
    plain, augmented = tmp_path / "plain", tmp_path / "augmented"
    assert main(["run", str(short(recipe_file)), "--out", str(plain)]) == 0
    assert main(["run", str(recipe_file), "--out", str(augmented), "--tta"]) == 0
    written = yaml.safe_load((augmented / "recipe.yaml").read_text())
    assert written["evaluation"] == {"tta": {}}
    results = json.loads((augmented / "results.json").read_text())
    assert set(results["test"]) == METRICS
    assert set(json.loads((plain / "results.json").read_text())["test"]) == {"loss", "accuracy"}

    table = pd.read_csv(augmented / "predictions_test.csv")
    files = [str(squares / name) for name in table["file"]]
    out = tmp_path / "out.csv"
    assert main(["predict", str(plain), *files, "--out", str(out), "--tta"]) == 0
    np.testing.assert_allclose(pd.read_csv(out)[CLASSES], table[CLASSES], atol=2e-6)
    assert main(["predict", str(augmented), *files, "--out", str(out), "--no-tta"]) == 0
    expected = pd.read_csv(plain / "predictions_test.csv")
    np.testing.assert_allclose(pd.read_csv(out)[CLASSES], expected[CLASSES], atol=2e-6)


def test_the_switch_leaves_what_the_recipe_says(recipe_file, tmp_path):
    folder = tmp_path / "run"
    path = short(recipe_file, tta={"preset": "flips", "n": 3})
    assert main(["run", str(path), "--out", str(folder), "--tta"]) == 0
    exported = json.loads((folder / "export" / "model.json").read_text())
    assert (exported["tta"]["preset"], exported["tta"]["n"]) == ("flips", 3)


def test_snapshots_predict_all_views_together(recipe_file, tmp_path, squares):
    path = with_snapshots(recipe_file, tta={"preset": "flips"})
    folder = tmp_path / "run"
    results = recipe_results(path, folder)
    assert set(results["test"]) == METRICS | {"agreement"}
    assert set(results["members"]["test"]["cycle-1"]) == METRICS

    table, found = predicted(folder, squares)
    assert results["test"]["agreement"] == pytest.approx(table["agreement"].mean())
    np.testing.assert_allclose(table[CLASSES], found[CLASSES], atol=2e-6)
    files = [squares / name for name in table["file"]]
    each = [
        predict_files(folder / "export" / "members" / f"cycle-{cycle}", files)[0][CLASSES]
        for cycle in (1, 2)
    ]
    np.testing.assert_allclose(table[CLASSES], np.mean(each, axis=0), atol=2e-6)
    right = (table["prediction"] == table["target"]).mean()
    assert results["test"]["accuracy_tta"] == pytest.approx(right)


def test_snapshots_learn_one_weight_together(recipe_file, tmp_path, squares):
    views = {"preset": "flips", "plain_weight": "learn"}
    path = with_snapshots(recipe_file, tta=views, splits=["test", "val"])
    folder = tmp_path / "run"
    results = recipe_results(path, folder)
    weight = results["test"]["plain_weight"]
    assert weight == results["val"]["plain_weight"]

    members = [folder / "export" / "members" / f"cycle-{cycle}" for cycle in (1, 2)]
    noted = [json.loads((place / "model.json").read_text())["tta"] for place in members]
    assert [views["plain_weight"] for views in noted] == [weight, weight]
    table, found = predicted(folder, squares)
    np.testing.assert_allclose(table[CLASSES], found[CLASSES], atol=2e-6)

    # In validation the views were merged with the usual weight of a half.
    table = pd.read_csv(folder / "predictions_val.csv")
    files = [squares / name for name in table["file"]]
    each = [predict_files(place, files, tta=False)[0][CLASSES] for place in members]
    plain = np.mean(each, axis=0)
    others = 2 * table[CLASSES].to_numpy() - plain
    rows, places = np.arange(len(table)), [CLASSES.index(name) for name in table["target"]]
    steps = np.arange(101) / 100
    losses = [-np.log((w * plain + (1 - w) * others)[rows, places]).mean() for w in steps]
    assert weight == pytest.approx(steps[np.argmin(losses)], abs=0.011)


def test_the_weight_of_snapshots_is_learned_from_their_means(
    recipe_file, tmp_path, squares, monkeypatch
):
    asked = []

    def learn(self, plain, merged, targets, **_):
        asked.append((plain, merged))
        self.learned_weight = 0.37

    monkeypatch.setattr(TestTimeAugmentation, "learn", learn)
    views = {"preset": "flips", "plain_weight": "learn"}
    path = with_snapshots(recipe_file, tta=views)
    folder = tmp_path / "run"
    results = recipe_results(path, folder)
    assert results["test"]["plain_weight"] == 0.37
    [(_, merged)] = asked
    table = pd.read_csv(folder / "predictions_val.csv")
    np.testing.assert_allclose(merged.numpy(), table[CLASSES], atol=2e-6)
    exported = folder / "export" / "members" / "cycle-1" / "model.json"
    assert json.loads(exported.read_text())["tta"]["plain_weight"] == 0.37


def test_a_weight_is_learned_from_collected_predictions():
    generator = torch.Generator().manual_seed(0)
    plain, views = torch.rand(2, 40, 3, generator=generator).softmax(dim=-1)
    targets = torch.randint(3, (40,), generator=generator)
    callback = TestTimeAugmentation(4, "five_crops", plain_weight="learn")
    callback.learn(plain, weigh(plain, views, callback.views.weight), targets)
    assert callback.weight == best_weight(weight_losses(plain, views, targets))
    callback.learn(views, weigh(views, plain, callback.views.weight), targets)
    assert callback.weight == best_weight(weight_losses(views, plain, targets))


def test_the_learned_weight_is_exported(recipe_file, tmp_path, squares):
    folder = tmp_path / "run"
    results = recipe_results(
        short(recipe_file, tta={"preset": "flips", "plain_weight": "learn"}), folder
    )
    exported = json.loads((folder / "export" / "model.json").read_text())
    assert exported["tta"]["plain_weight"] == pytest.approx(results["val"]["plain_weight"])
    table, found = predicted(folder, squares)
    np.testing.assert_allclose(table[CLASSES], found[CLASSES], atol=2e-6)


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ({"tta": 0}, "evaluation.tta: `n` must be at least 1 .* got 0"),
        ({"tta": {"preset": "mirror"}}, "evaluation.tta.preset: .*mirror"),
        ({"tta": {"views": 3}}, "evaluation.tta: there is no key `views`"),
        ({"tta": {"preset": "five_crops", "n": 9}}, "evaluation.tta: `n` must be in 1 to 4"),
        (
            {"tta": {"preset": "flips", "plain_weight": "learn"}, "splits": ["test"]},
            "plain_weight: 'learn' needs the validation split",
        ),
        ({"tta": {"plain_weight": 2.0}}, "`plain_weight` must lie in"),
    ],
)
def test_views_that_cannot_be_are_refused_before_training(recipe_file, evaluation, message):
    with pytest.raises(RecipeError, match=message):
        recipe_results(short(recipe_file, **evaluation), recipe_file.parent / "run")
    assert not (recipe_file.parent / "run" / "checkpoints").exists()


def test_an_evaluation_sees_more_of_larger_images_and_training_does_not(
    recipe_file, tmp_path, squares
):
    results = {}
    for name, words in {
        "as_trained": [],
        "whole": ["evaluation.image_size=40", "evaluation.crop_fraction=1.0"],
        "enlarged": ["evaluation.image_size=40"],
    }.items():
        results[name] = recipe_results(
            recipe_file, tmp_path / name, "stages.all.max_epochs=1", *words
        )
    stages = [
        torch.load(tmp_path / name / "checkpoints" / "all.ckpt", weights_only=True)["state_dict"]
        for name in results
    ]
    for other in stages[1:]:
        assert all(torch.equal(value, other[key]) for key, value in stages[0].items())
    losses = {found["test"]["loss"] for found in results.values()}
    assert len(losses) == 3
    described = json.loads((tmp_path / "whole" / "export" / "model.json").read_text())
    assert described["geometry"]["image_size"] == 40
    assert described["geometry"]["crop_fraction"] == 1.0
    table, found = predicted(tmp_path / "whole", squares)
    np.testing.assert_allclose(table[CLASSES], found[CLASSES], atol=2e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluation.crop_fraction=1.5"], r"evaluation: `crop_fraction` must lie in \(0, 1\]"),
        (
            ["evaluation.crop_fraction=1.0", "data.geometry={resize: squish}"],
            "evaluation: `crop_fraction` must be left out where images are squished, got 1.0",
        ),
        (
            ["evaluation.image_size=40", "model.backbone=test_vit.r160_in1k"],
            "evaluation: `image_size` must be a multiple of 16 pixels for 'test_vit.r160_in1k'",
        ),
    ],
    ids=["out-of-range", "squished", "size-of-no-use"],
)
def test_an_evaluation_that_cannot_be_is_refused_before_training(recipe_file, words, message):
    path = short(recipe_file)
    with pytest.raises(RecipeError, match=message):
        recipe_results(path, path.parent / "run", *words)
    assert not (path.parent / "run" / "checkpoints").exists()


def test_views_are_those_of_the_last_stage_that_augments(recipe_file):
    recipe = load_recipe(recipe_file, ["stages.all.augmentation=none", "evaluation.tta=2"])
    images, model = build_parts(recipe)
    plan_stages(recipe, images, model)
    assert images.augmentation.preset == "none"
    assert build_tta(recipe, images).resolve(images).augmentation == "side_on"


def test_a_recipe_without_augmentation_is_refused_before_training(recipe_file):
    recipe = load_recipe(short(recipe_file, tta=4), ["stages.all.augmentation=none"])
    with pytest.raises(RecipeError, match=r"evaluation\.tta: .* but those are not\. Set"):
        plan_stages(recipe, *build_parts(recipe))


def test_an_export_without_views_says_so(recipe_file, tmp_path, squares):
    folder = tmp_path / "run"
    recipe_results(short(recipe_file), folder, "stages.all.augmentation=none")
    with pytest.raises(DataError, match="trained without augmentation and evaluated without views"):
        predict_files(folder, [squares], tta=True)


def test_an_export_with_the_old_views_of_whole_images_predicts_plainly(
    recipe_file, tmp_path, squares
):
    folder = tmp_path / "run"
    recipe_results(short(recipe_file, tta=3), folder)
    described = folder / "export" / "model.json"
    noted = json.loads(described.read_text())
    del noted["sha256"]  # earlier versions wrote none
    described.write_text(json.dumps(noted | {"tta": {"preset": "whole", "n": 2}}))
    with pytest.warns(UserWarning, match="must not be `preset: whole`.* predicts without views"):
        _, found = predicted(folder, squares)
    _, plain = predicted(folder, squares, tta=False)
    pd.testing.assert_frame_equal(found, plain)


def test_a_recipe_with_the_old_views_of_whole_images_is_evaluated_plainly(recipe_file):
    path = short(recipe_file, tta={"preset": "whole", "n": 2})
    with pytest.warns(UserWarning, match="evaluation.tta: .* must not be `preset: whole`"):
        assert load_recipe(path).evaluation.tta is None


@pytest.mark.parametrize("normalize", ["dataset", "mean_image"])
def test_an_export_normalises_as_the_run_did(recipe_file, tmp_path, squares, normalize, capsys):
    path = short(recipe_file)
    folder = tmp_path / "run"
    assert (
        main(["run", str(path), "--out", str(folder), f"--data.geometry.normalize={normalize}"])
        == 0
    )
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"input mean.* std \(.*\) of the training images", said)
    exported = json.loads((folder / "export" / "model.json").read_text())
    assert exported["input"]["normalize"] == normalize
    assert (exported["mean_image"] is not None) == (normalize == "mean_image")
    table, found = predicted(folder, squares)
    np.testing.assert_allclose(table[CLASSES], found[CLASSES], atol=2e-6)
    # As the weights would have it, it predicts otherwise.
    del exported["sha256"]
    exported["input"] |= {"mean": [0.5] * 3, "std": [0.1] * 3}
    if normalize == "dataset":
        (folder / "export" / "model.json").write_text(json.dumps(exported))
        assert not np.allclose(predicted(folder, squares)[1][CLASSES], found[CLASSES], atol=1e-4)
