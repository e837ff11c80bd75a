import copy
import logging

import pytest

from lightning_fastrecipes.data.common.split_choice import (
    ColumnSplit,
    DateSplit,
    FractionSplit,
    as_split,
)
from lightning_fastrecipes.old_names import (
    has_whole_views,
    split_keys,
    translate_callback_states,
    translate_hparams,
    translate_key,
    translate_recipe,
    translate_results,
)

OLD = {
    "data": {
        "class_path": "lightning_fastrecipes.data.image.ImageFolderDataModule",
        "init_args": {"root": "photos", "valid_fraction": 0.1, "image_size": 32},
    },
    "stages": [
        {
            "name": "all",
            "callbacks": [
                {
                    "class_path": "lightning_fastrecipes.PictureMixing",
                    "init_args": {"kind": "cutmix"},
                }
            ],
        }
    ],
    "evaluation": {"splits": ["valid"]},
    "rungs": [{"name": "one", "set": {"data.valid_fraction": 0.5, "stages.all.lr": 1e-3}}],
}


def test_an_old_recipe_is_translated_and_left_as_it_was() -> None:
    before = copy.deepcopy(OLD)
    today = translate_recipe(OLD)
    assert before == OLD
    assert today["data"]["class_path"] == "lightning_fastrecipes.ImageFolderDataModule"
    assert today["data"]["init_args"] == {"root": "photos", "split": {"val": 0.1}, "image_size": 32}
    callback = today["stages"]["all"]["callbacks"][0]
    assert callback["class_path"] == "lightning_fastrecipes.ImageMixing"
    assert callback["init_args"] == {"method": "cutmix"}
    assert today["evaluation"]["splits"] == ["val"]
    assert today["series"] == "cumulative"
    assert today["variants"] == {"one": {"data.split.val": 0.5, "stages.all.lr": 1e-3}}


def test_an_old_split_of_a_table_is_translated_as_a_whole() -> None:
    split = {"date": "day", "valid_fraction": 0.1, "val_from": None}
    today = translate_recipe({"data": {"init_args": {"split": split}}})
    assert as_split(today["data"]["init_args"]["split"]) == DateSplit("day", val_last=0.1)
    assert translate_key("data.split.only_past", True) == ("data.split.past_only", True)


def test_what_is_of_today_stays_and_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    today = translate_recipe(OLD)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert translate_recipe(today) == today
    assert not caplog.records


def test_one_line_says_what_was_translated(caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    with caplog.at_level(logging.INFO):
        translate_recipe(OLD)
    (line,) = caplog.messages
    assert "The recipe has old names: `lightning_fastrecipes.data.image.ImageFolder" in line
    assert "`data.valid_fraction` to `data.split.val`" in line
    assert "`evaluation.splits: valid` to `val`" in line


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        pytest.param("data.init_args.valid_fraction", 0.1, ("data.split.val", 0.1), id="init-args"),
        pytest.param(
            "data.split",
            {"date": "Day", "valid_from": "2013-09-01"},
            ("data.split", {"column": "Day", "val_from": "2013-09-01"}),
            id="below-the-key",
        ),
        pytest.param("evaluation.splits", ["valid"], ("evaluation.splits", ["val"]), id="value"),
        pytest.param("data.root", "valid", ("data.root", "valid"), id="of-today"),
    ],
)
def test_an_old_key_of_the_command_line_is_translated(key, value, expected) -> None:
    assert translate_key(key, value) == expected


def test_hyperparameters_of_today_stay() -> None:
    hparams = {"backbone": "resnet18", "head": {"hidden": 8}, "num_classes": 2}
    assert translate_hparams("ImageClassifier", hparams) == hparams


def test_arguments_of_tasks_move_into_their_options() -> None:
    old = {"layers": [8], "dropout": [0.1], "embedding_dropout": 0.04, "embedding_rule": "course"}
    old |= {"point": "percentage", "lr": 0.01, "lr_ratio": 3.0}
    old |= {"weight_decay": 0.1, "optimizer": "torch.optim.SGD"}
    assert translate_hparams("TabularRegressor", old) == {
        "network": {
            "layers": [8],
            "dropout": [0.1],
            "embedding_dropout": 0.04,
            "embedding_rule": "course",
        },
        "point_estimate": "min_rmspe",
        "lr": 0.01,
        "lr_ratio": 3.0,
        "optim": {"weight_decay": 0.1, "optimizer": "torch.optim.SGD"},
    }
    old = {"head": {"kind": "linear", "hidden": 8}, "labels": {"thresholds": "per_label"}}
    assert translate_hparams("ImageClassifier", old) == {
        "head": {"layout": "linear", "hidden": 8},
        "labels": {"threshold": "per_label"},
    }
    fbeta = {"class_path": "lightning_fastrecipes.SampleFBeta", "init_args": {"kind": "one"}}
    model = {"class_path": "lightning_fastrecipes.ImageClassifier"}
    today = translate_recipe({"model": model | {"init_args": {"metrics": {"f2": fbeta}}}})
    assert today["model"]["init_args"]["metrics"]["f2"]["init_args"] == {"threshold": "one"}


def test_arguments_of_a_model_of_the_users_own_stay() -> None:
    document = {"model": {"class_path": "own.Model", "init_args": {"weight_decay": 0.1}}}
    assert translate_recipe(document) == document
    key = "model.weight_decay"
    assert translate_key(key, 0.2, document) == (key, 0.2)
    assert translate_key(key, 0.2) == ("model.optim.weight_decay", 0.2)
    old = "model.optimizer.init_args.momentum"
    assert translate_key(old, 0.9) == ("model.optim.optimizer.init_args.momentum", 0.9)


def test_results_name_the_validation_split_as_today() -> None:
    results = {"valid": {"loss": 1.0}, "test": {}, "rungs": [{"name": "one", "valid": {}}]}
    today = {"val": {"loss": 1.0}, "test": {}, "variants": [{"name": "one", "val": {}}]}
    assert translate_results(results) == today


def test_states_of_renamed_callbacks_are_found() -> None:
    states = {"PictureMixing": {"a": 1}, "OverfittingStop": {"best": None}}
    today = {"ImageMixing": {"a": 1}, "OverfittingStop": {"best": None}}
    assert translate_callback_states(states) == today


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        ({}, FractionSplit()),
        ({"valid_fraction": 0.1, "test_fraction": 0.2}, FractionSplit(0.1, 0.2)),
        ({"val_fraction": 0.1, "split_seed": 3}, FractionSplit(0.1, seed=3)),
        ({"column": "part"}, ColumnSplit("part")),
        ({"column": "part", "test_fraction": 0.0, "split_seed": 0}, ColumnSplit("part")),
        ({"date": "day"}, DateSplit("day", val_last=0.2)),
        (
            {"date": "day", "val_from": "2014", "test_from": "2015", "only_past": True},
            DateSplit("day", "2014", test_from="2015", past_only=True),
        ),
        ({"column": "day", "val_from": "2014"}, DateSplit("day", "2014")),
    ],
    ids=str,
)
def test_arguments_of_a_table_split_name_the_same_split(old, expected) -> None:
    assert as_split(split_keys(old)) == expected


@pytest.mark.parametrize(
    "old",
    [
        {"date": "a", "val_from": "2014", "val_fraction": 0.1},
        {"date": "a", "only_past": True},
        {"date": "a", "column": "b"},
    ],
    ids=str,
)
def test_what_contradicted_itself_still_does(old) -> None:
    with pytest.raises(ValueError, match=r"contradict|needs a range|has the key 'date'"):
        as_split(split_keys(old))


@pytest.mark.parametrize(
    ("tta", "expected"),
    [({"preset": "whole", "n": 3}, True), ({"preset": "flips"}, False), (4, False), (None, False)],
)
def test_views_of_whole_images_are_recognised(tta, expected) -> None:
    assert has_whole_views(tta) is expected


def test_old_options_of_images_are_translated() -> None:
    old = {
        "val_fraction": 0.1, "test_fraction": 0.2, "split_seed": 3, "balance": True,
        "augmentation": "side_on", "augment_on": "device",
        "geometry": {"resize": "squish", "max_zoom": 1.2, "max_angle": 5},
    }  # fmt: skip
    today = translate_recipe({"data": {"init_args": old}})["data"]["init_args"]
    assert today == {
        "split": {"val": 0.1, "test": 0.2, "seed": 3},
        "class_balanced": True,
        "augmentation": {"preset": "side_on", "on_device": True, "max_zoom": 1.2, "max_angle": 5},
        "geometry": {"resize": "squish"},
    }


def test_a_column_of_splits_keeps_what_was_drawn_beside_it() -> None:
    old = {"table": {"split_column": "part", "folder": "photos"}, "test_fraction": 0.1}
    today = translate_recipe({"data": {"init_args": old}})["data"]["init_args"]
    assert today["table"] == {"folder": "photos"}
    assert as_split(today["split"]) == ColumnSplit("part", FractionSplit(0.2, 0.1))


@pytest.mark.parametrize(
    ("old", "labels"),
    [
        ({}, None),
        ({"label_column": "tags"}, "tags"),
        ({"label_kind": "single", "label_column": "tags"}, {"column": "tags"}),
        ({"label_kind": "single", "label_columns": ["a", "b"]}, {"one_hot": ["a", "b"]}),
        ({"label_kind": "multi"}, {"column": "label", "separator": "auto"}),
        ({"label_separator": ","}, {"column": "label", "separator": ","}),
        ({"label_columns": ["a", "b"]}, {"columns": ["a", "b"]}),
        (
            {"classes": ["no", "yes"], "probability_column": "p"},
            {"classes": ["no", "yes"], "probability_column": "p"},
        ),
    ],
    ids=str,
)
def test_old_keys_of_a_table_of_labels_become_its_labels(old, labels) -> None:
    table = translate_recipe({"data": {"init_args": {"table": old | {"folder": "x"}}}})
    expected = {"folder": "x"} if labels is None else {"folder": "x", "labels": labels}
    assert table["data"]["init_args"]["table"] == expected
