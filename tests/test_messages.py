"""Names that fast.ai's users type are answered with ours, wherever unknown names are refused."""

import inspect
import re

import pytest
import pytorch_lightning as pl
import yaml
from conftest import tiny_document

import lightning_fastrecipes as fr
from lightning_fastrecipes.errors import ConfigurationError, RecipeError
from lightning_fastrecipes.messages import _OF_FASTAI, suggestion
from lightning_fastrecipes.recipe.config.building import constructor_arguments
from lightning_fastrecipes.recipe.loading import load_recipe


def own_arguments() -> dict[str, set[str]]:
    """Return the public names that take an argument, by its name."""
    found: dict[str, set[str]] = {}
    for name in fr.__all__:
        item = getattr(fr, name)
        taken = {*inspect.signature(item).parameters}
        for argument in taken | set(constructor_arguments(item) or ()):
            found.setdefault(argument, set()).add(name)
    return found | {name: {name} for name in fr.__all__} | {"max_epochs": {"Trainer"}}


@pytest.mark.parametrize("name", _OF_FASTAI)
def test_what_is_named_in_place_of_it_is_taken(name) -> None:
    known = own_arguments()
    for ours in _OF_FASTAI[name]:
        argument, _, form = ours.partition("=")
        assert argument in known
        for owner, inner in re.findall(r"(\w+)\((\w+)=", form):
            assert owner in known[inner]


def test_a_name_that_is_not_taken_here_is_not_named() -> None:
    assert "image_size" not in suggestion("size", ["kernel_size", "stride"])


def test_keywords_are_answered_with_ours() -> None:
    for given, ours in ({"bs": 8}, "batch_size"), ({"size": 8}, "image_size"), (
        {"valid_pct": 0.2}, "split",
    ), ({"batch_tfms": []}, "augmentation"):  # fmt: skip
        [name] = given
        with pytest.raises(TypeError, match=f"fast.ai's `{name}` is called `{ours}` here"):
            fr.ImageFolderDataModule("photos", **given)
    with pytest.raises(TypeError, match=r"`label_delim`.*`table=LabelTable\(labels=Tags"):
        fr.ImageCSVDataModule("tags.csv", label_delim=" ")
    model, data = fr.TabularRegressor(), pl.LightningDataModule()
    for name, ours in ("base_lr", "lr"), ("freeze_epochs", "head_epochs"), ("cbs", "callbacks"):
        with pytest.raises(TypeError, match=f"`fine_tune` has no argument.*`{name}`.*`{ours}`"):
            fr.fine_tune(model, data, **{name: 1})
    with pytest.raises(TypeError, match=r"`lr_find` has no argument.*`start_lr`.*`min_lr`"):
        fr.lr_find(model, data, start_lr=1e-5)
    with pytest.raises(TypeError, match=r"nor has Lightning's `Trainer`\. Did you mean `devices`"):
        fr.lr_find(model, data, device=1)
    with pytest.raises(ConfigurationError, match=r"`head` has no key 'ps'.*called `dropout` here"):
        fr.ImageClassifier("resnet18", head={"ps": 0.5})


def test_names_of_the_package_are_answered_with_ours() -> None:
    with pytest.raises(AttributeError, match=r"fast.ai's `load_learner` is called `load` here"):
        _ = fr.load_learner
    with pytest.raises(AttributeError, match=r"fast.ai's `untar_data` is not here: no data are"):
        _ = fr.untar_data
    with pytest.raises(AttributeError, match=r"`DataBlock` is called `ImageCSVDataModule` here"):
        _ = fr.DataBlock
    with pytest.raises(AttributeError, match=r"no attribute 'SDGR'\. Did you mean `SGDR`"):
        _ = fr.SDGR
    assert not hasattr(fr, "__nothing__")
    assert not hasattr(fr, "cnn_learner")


def test_names_that_are_imported_from_the_package_are_answered_with_ours() -> None:
    for name, ours in ("cnn_learner", "ImageClassifier"), ("MixUp", "ImageMixing"), (
        "tabular_learner", "TabularRegressor",
    ):  # fmt: skip
        with pytest.raises(ImportError, match=f"fast.ai's `{name}` is called `{ours}` here"):
            exec(f"from lightning_fastrecipes import {name}")
    with pytest.raises(ImportError, match=r"cannot import name 'SDGR'.* Did you mean `SGDR`"):
        exec("from lightning_fastrecipes import SDGR")
    # Modules of the package whose names are near to public ones.
    exec("from lightning_fastrecipes import reporting, trust, batches")


def test_keys_of_a_recipe_are_answered_with_ours(tmp_path) -> None:
    document = tiny_document(tmp_path)
    document["data"]["init_args"]["bs"] = 8
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(RecipeError, match=r"fast.ai's `bs` is called `batch_size` here"):
        load_recipe(path)


@pytest.mark.parametrize("build", [
    lambda metrics: fr.ImageClassifier("test_resnet.r160_in1k", metrics=metrics),
    lambda metrics: fr.ImageRegressor("test_resnet.r160_in1k", metrics=metrics),
    lambda metrics: fr.TabularClassifier(metrics=metrics),
])  # fmt: skip
def test_a_list_of_metrics_is_refused_by_the_constructor(build) -> None:
    with pytest.raises(TypeError, match=r"must be a mapping from names to metrics.*Name each"):
        build(["accuracy"])
