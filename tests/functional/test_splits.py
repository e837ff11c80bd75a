"""Splits are exact per stratum, complete, and the same wherever and however they are drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedShuffleSplit

from lightning_fastrecipes.functional.splits import (
    grouped_split,
    keep_labels,
    rarest_labels,
    stratified_split,
)

STRATA = st.lists(st.sampled_from("abcd"), min_size=1, max_size=60)
FRACTIONS = st.sampled_from([[0.8, 0.2], [0.6, 0.25, 0.15], [1.0], [0.5, 0.5, 0.0]])


@settings(max_examples=40)
@given(STRATA, FRACTIONS, st.integers(0, 5))
def test_every_item_is_in_exactly_one_part(strata, fractions, seed):
    parts = stratified_split(strata, fractions, seed)

    assert len(parts) == len(fractions)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(strata)))


@settings(max_examples=40)
@given(STRATA, FRACTIONS, st.integers(0, 5))
def test_each_stratum_is_shared_out_within_one_item(strata, fractions, seed):
    for part, fraction in zip(stratified_split(strata, fractions, seed), fractions, strict=True):
        for stratum in set(strata):
            count = sum(strata[position] == stratum for position in part)
            assert abs(count - strata.count(stratum) * fraction) < 1


@settings(max_examples=40)
@given(st.data(), STRATA)
def test_the_order_of_the_items_does_not_matter(data, strata):
    names = [f"{position}.png" for position in range(len(strata))]
    order = data.draw(st.permutations(range(len(strata))))

    parts = stratified_split(strata, [0.7, 0.3], seed=1, names=names)
    shuffled = stratified_split(
        [strata[i] for i in order], [0.7, 0.3], seed=1, names=[names[i] for i in order]
    )

    assert [{names[i] for i in part} for part in parts] == [
        {names[order[i]] for i in part} for part in shuffled
    ]


@pytest.mark.parametrize(
    ("count", "fractions", "expected"),
    [
        pytest.param(10, [0.7, 0.3], [7, 3], id="exact"),
        pytest.param(10, [0.75, 0.25], [8, 2], id="a-tie-goes-to-the-earlier-part"),
        pytest.param(5, [1 - 0.9, 0.9], [1, 4], id="a-tie-but-for-rounding-errors"),
        pytest.param(7, [0.6, 0.2, 0.2], [4, 2, 1], id="largest-remainder-first"),
        pytest.param(1, [0.8, 0.2], [1, 0], id="a-single-item-is-trained-on"),
        pytest.param(0, [0.8, 0.2], [0, 0], id="nothing"),
    ],
)
def test_counts_are_rounded_by_largest_remainder(count, fractions, expected):
    assert [len(part) for part in stratified_split(["x"] * count, fractions, 0)] == expected


def test_proportions_agree_with_scikit_learn():
    strata = ["a"] * 31 + ["b"] * 17 + ["c"] * 52
    ours = stratified_split(strata, [0.75, 0.25], seed=0)
    splitter = StratifiedShuffleSplit(n_splits=1, test_size=0.25, random_state=0)
    theirs = next(splitter.split(strata, strata))

    for our_part, their_part in zip(ours, theirs, strict=True):
        for stratum in "abc":
            ours_count = sum(strata[i] == stratum for i in our_part)
            assert abs(ours_count - sum(strata[i] == stratum for i in their_part)) <= 1


def test_the_split_is_the_same_on_every_machine_and_differs_by_seed():
    strata = ["a", "b"] * 10

    golden = stratified_split(strata, [0.8, 0.2], seed=0)[1].tolist()

    assert golden == [4, 5, 6, 15]
    assert golden != stratified_split(strata, [0.8, 0.2], seed=1)[1].tolist()


def test_a_new_item_moves_hardly_any_other():
    names = [f"{i}.png" for i in range(200)]
    before = stratified_split(["x"] * 200, [0.8, 0.2], 0, names=names)[1]
    after = stratified_split(["x"] * 201, [0.8, 0.2], 0, names=["new.png", *names])[1]

    moved = {names[i] for i in before} ^ {["new.png", *names][i] for i in after}
    assert len(moved - {"new.png"}) <= 1


def test_wrong_fractions_and_names_are_refused():
    with pytest.raises(ValueError, match=r"`fractions` must .* sum to 1, got \[0.8, 0.3\]"):
        stratified_split(["a"], [0.8, 0.3], 0)
    with pytest.raises(ValueError, match="`fractions` must be at least 0"):
        stratified_split(["a"], [1.2, -0.2], 0)
    with pytest.raises(ValueError, match="`names` must name each of the 2 items once"):
        stratified_split(["a", "a"], [1.0], 0, names=["same", "same"])


LABELS = st.lists(st.frozensets(st.sampled_from("abcdefghij"), max_size=3), min_size=2, max_size=30)


@settings(max_examples=60)
@given(LABELS, FRACTIONS, st.integers(0, 5))
def test_every_label_is_in_the_first_part_and_every_item_in_one(labels, fractions, seed):
    parts = keep_labels(stratified_split(rarest_labels(labels), fractions, seed), labels)

    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert {name for place in parts[0] for name in labels[place]} == set().union(*labels)
    assert all(part.tolist() == sorted(part) for part in parts)


def test_only_items_that_must_move_do():
    labels = [{"a"}, {"a"}, {"b"}, set(), {"a", "b"}]
    first, second = keep_labels([np.array([0]), np.array([1, 2, 3, 4])], labels)
    assert first.tolist() == [0, 2]
    assert second.tolist() == [1, 3, 4]


def test_the_rarest_label_is_the_stratum_and_ties_are_alphabetical():
    assert rarest_labels([["a", "b"], ["a", "c"], ["a"], []]) == ["b", "c", "a", ""]
    assert rarest_labels([["b", "a"], ["a", "b"]]) == ["a", "a"]


GROUPS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=60)


@settings(max_examples=60)
@given(GROUPS, FRACTIONS, st.integers(0, 5))
def test_groups_stay_together_and_no_part_that_is_asked_for_is_empty(groups, fractions, seed):
    parts = grouped_split(groups, fractions, seed)

    assert sorted(np.concatenate(parts).tolist()) == list(range(len(groups)))
    owners = [{groups[position] for position in part} for part in parts]
    assert sum(map(len, owners)) == len(set(groups))
    wanted = sum(fraction > 0 for fraction in fractions)
    if len(set(groups)) >= wanted:
        assert [bool(owner) for owner in owners] == [fraction > 0 for fraction in fractions]


def test_groups_are_shared_out_as_nearly_as_they_allow_stratum_by_stratum():
    groups = [f"patient {number % 40}" for number in range(400)]
    strata = ["ill" if number % 40 < 10 else "well" for number in range(400)]

    parts = grouped_split(groups, [0.6, 0.2, 0.2], 3, strata=strata)

    for part, count in zip(parts, [60, 20, 20], strict=True):
        assert sum(strata[position] == "ill" for position in part) == count
        assert len(part) == 4 * count


def test_another_seed_draws_other_groups_whatever_the_order_of_the_items():
    groups = [f"{number % 9}" for number in range(90)]
    first = grouped_split(groups, [0.7, 0.3], 0)[1]
    mirrored = grouped_split(groups[::-1], [0.7, 0.3], 0)[1]

    assert {groups[i] for i in first} == {groups[::-1][i] for i in mirrored}
    assert {groups[i] for i in first} == {"4", "5", "6"}
    assert first.tolist() != grouped_split(groups, [0.7, 0.3], 1)[1].tolist()
