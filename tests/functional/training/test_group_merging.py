"""Dividing a network into groups, and merging groups."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightning_fastrecipes.functional.training.group_merging import groups_by_prefix, merge_groups


def _weights(*sizes: int) -> dict[str, torch.Tensor]:
    return {f"w{i}": torch.zeros(1, size) for i, size in enumerate(sizes)}


@pytest.mark.parametrize(
    ("layers", "num_groups", "expected"),
    [
        pytest.param([1, 6, 8, 12, 6], 2, [3, 2], id="resnet34-is-cut-before-layer3-as-in-fastai"),
        pytest.param([1, 1, 1, 1, 1, 1], 3, [2, 2, 2], id="equal-blocks-in-thirds"),
        pytest.param([1, 1, 1], 3, [1, 1, 1], id="as-many-as-there-are"),
        pytest.param([5, 1, 1, 1], 2, [1, 3], id="a-deep-start-stands-alone"),
        pytest.param([2, 3, 4], 1, [3], id="one-takes-all"),
    ],
)
def test_groups_are_merged_to_equal_depth(layers, num_groups, expected) -> None:
    groups = [[f"g{i}.w{j}" for j in range(count)] for i, count in enumerate(layers)]
    parameters = {name: torch.zeros(1, 1) for group in groups for name in group}
    merged = merge_groups(groups, parameters, num_groups)
    starts = [len({name.split(".")[0] for name in group.parameters}) for group in merged]
    assert starts == expected


def test_equally_deep_cuts_are_decided_by_parameter_counts() -> None:
    parameters = _weights(10, 1, 1)
    merged = merge_groups([["w0"], ["w1"], ["w2"]], parameters, 2)
    assert [group.parameters for group in merged] == [("w0",), ("w1", "w2")]
    parameters = _weights(1, 1, 10)
    merged = merge_groups([["w0"], ["w1"], ["w2"]], parameters, 2)
    assert [group.parameters for group in merged] == [("w0", "w1"), ("w2",)]


@pytest.mark.parametrize(
    ("num_groups", "names"),
    [(1, ["backbone"]), (2, ["early", "late"]), (3, ["backbone_0", "backbone_1", "backbone_2"])],
    ids=["one", "two", "three"],
)
def test_groups_are_named_by_their_number(num_groups, names) -> None:
    merged = merge_groups([["w0"], ["w1"], ["w2"]], _weights(1, 1, 1), num_groups)
    assert [group.name for group in merged] == names


@pytest.mark.parametrize("num_groups", [0, 4], ids=["none", "too-many"])
def test_more_groups_than_there_are_is_refused_with_their_number(num_groups) -> None:
    with pytest.raises(ValueError, match=r"between 1 and the 3 groups .* got \d"):
        merge_groups([["w0"], ["w1"], ["w2"]], _weights(1, 1, 1), num_groups)


@given(
    sizes=st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=3), min_size=1, max_size=8),
    data=st.data(),
)
def test_merging_keeps_every_name_in_order(sizes, data) -> None:
    num_groups = data.draw(st.integers(1, len(sizes)))
    groups = [[f"{i}.{j}" for j in range(len(group))] for i, group in enumerate(sizes)]
    parameters = {
        f"{i}.{j}": torch.zeros(1, size)
        for i, group in enumerate(sizes)
        for j, size in enumerate(group)
    }
    merged = merge_groups(groups, parameters, num_groups)
    assert len(merged) == num_groups
    assert all(group.parameters for group in merged)
    assert [name for group in merged for name in group.parameters] == list(parameters)


class _Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1))
        self.stem = nn.Linear(1, 1)
        self.stages = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))


@pytest.mark.parametrize(
    ("at_least", "expected"),
    [
        pytest.param(1, ["stem", "stages"], id="children"),
        pytest.param(2, ["stem", "stages"], id="children-are-enough"),
        pytest.param(3, ["stem", "stages.0", "stages.1"], id="the-largest-child-is-opened"),
        pytest.param(9, ["stem", "stages.0", "stages.1"], id="no-more-modules"),
    ],
)
def test_division_opens_children_while_there_are_too_few(at_least, expected) -> None:
    parameters = dict(_Nested().named_parameters())
    groups = groups_by_prefix(parameters, at_least)
    assert [name for group in groups for name in group] == list(parameters)
    assert groups[0][0] == "position"
    assert all(
        group[-1].startswith(f"{name}.") for group, name in zip(groups, expected, strict=True)
    )


def test_a_single_wrapper_is_opened() -> None:
    wrapped = nn.Sequential(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1)))
    groups = groups_by_prefix(dict(wrapped.named_parameters()), at_least=3)
    assert [group[0] for group in groups] == ["0.0.weight", "0.1.weight", "0.2.weight"]
