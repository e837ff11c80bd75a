"""Decided labels by name, and thresholds that go into an export and come out of it."""

import pytest
import torch

from lightning_fastrecipes.functional.labels.decisions import (
    average_thresholds,
    choose_thresholds,
    decided_names,
    describe_thresholds,
)

CLASSES = ["sun", "sea"]


def test_one_class_or_all_labels_at_their_threshold_are_named() -> None:
    rows = torch.tensor([[0.6, 0.4], [0.1, 0.2]])
    assert decided_names(rows, CLASSES) == ["sun", "sea"]
    assert decided_names(torch.tensor([1, 0]), CLASSES) == ["sea", "sun"]
    assert decided_names(rows, CLASSES, torch.tensor([0.5, 0.2])) == ["sun sea", "sea"]
    assert decided_names(rows, ["a b", "c"], 0.4) == ["a b,c", ""]


def test_an_export_holds_the_thresholds_that_its_predictions_need() -> None:
    plain, views = torch.tensor([0.1, 0.2]), torch.tensor([0.3, 0.4])
    assert describe_thresholds(None, None, CLASSES) == {}
    alone = describe_thresholds(plain, None, CLASSES)
    assert alone == {"thresholds": {"sun": 0.1, "sea": 0.2}}
    both = describe_thresholds(plain, views, CLASSES)
    for with_views, expected in (
        (False, {"sun": 0.1, "sea": 0.2}),
        (True, {"sun": 0.3, "sea": 0.4}),
    ):
        assert choose_thresholds(both, with_views=with_views) == expected
        assert choose_thresholds(alone, with_views=with_views) == alone["thresholds"]
        assert choose_thresholds({}, with_views=with_views) is None


def test_thresholds_of_several_models_are_averaged_by_name() -> None:
    rows = [{"sun": 0.1, "sea": 0.2}, {"sea": 0.4, "sun": 0.3}]
    assert average_thresholds(rows, CLASSES) == pytest.approx([0.2, 0.3])
