"""Heads."""

import math

import pytest
import torch
from torch import nn

from lightning_fastrecipes import Head
from lightning_fastrecipes.nn.heads import create_head


def test_the_course_head_has_the_course_layers() -> None:
    head = create_head("course", 1024, 37)
    assert [type(layer) for layer in head] == [
        nn.BatchNorm1d,
        nn.Dropout,
        nn.Linear,
        nn.ReLU,
        nn.BatchNorm1d,
        nn.Dropout,
        nn.Linear,
    ]
    assert [head[1].p, head[5].p] == [0.25, 0.5]
    assert (head[2].in_features, head[2].out_features, head[6].out_features) == (1024, 512, 37)


def test_the_course_head_starts_from_he_normal_weights_and_zero_biases() -> None:
    torch.manual_seed(0)
    head = create_head("course", 1024, 500)
    assert head[2].weight.std().item() == pytest.approx(math.sqrt(2 / 1024), rel=0.05)
    assert head[6].weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not head[2].bias.any()
    assert not head[6].bias.any()


def test_the_course_head_starts_from_even_probabilities() -> None:
    torch.manual_seed(0)
    head = create_head("course", 256, 10).train()
    loss = nn.functional.cross_entropy(head(torch.randn(400, 256)), torch.arange(400) % 10)
    assert loss.item() == pytest.approx(math.log(10), abs=0.05)


def test_a_linear_head_is_one_layer_after_dropout() -> None:
    head = create_head("linear", 8, 3, dropout=0.2)
    assert [type(layer) for layer in head] == [nn.Dropout, nn.Linear]
    assert head[0].p == 0.2
    assert head(torch.zeros(2, 8)).shape == (2, 3)


@pytest.mark.parametrize(("layout", "num_layers"), [("course", 7), ("linear", 2)])
def test_heads_are_built_by_layout(layout, num_layers) -> None:
    head = create_head(layout, 8, 3, hidden=16, dropout=0.0)
    assert len(head) == num_layers
    assert head(torch.randn(4, 8)).shape == (4, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            {"layout": "mlp"}, "`layout` of a head must be 'course' or 'linear', got 'mlp'", id="k"
        ),
        pytest.param(
            {"num_features": 0}, "`num_features` must be at least 1, got 0", id="features"
        ),
        pytest.param({"num_classes": 0}, "`num_classes` must be at least 1, got 0", id="classes"),
        pytest.param({"hidden": 0}, "`hidden` must be at least 1, got 0", id="hidden"),
        pytest.param({"hidden": 10**20}, "`hidden` must be at most 1,048,576", id="wide"),
        pytest.param({"dropout": 1.0}, r"`dropout` must be in \[0, 1\), got 1.0", id="dropout"),
    ],
)
def test_heads_that_cannot_be_are_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        create_head(**({"layout": "course", "num_features": 8, "num_classes": 2} | arguments))
    if {*arguments} <= {"layout", "hidden", "dropout"}:
        with pytest.raises(ValueError, match=message):
            Head(**arguments)
