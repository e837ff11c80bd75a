"""A column matters as much as the error grows without it."""

import numpy as np
import pandas as pd
import pytest
from sklearn.inspection import permutation_importance as by_scikit_learn
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_squared_error

from lightning_fastrecipes.functional.tables.importance import permutation_importance

RANDOM = np.random.default_rng(0)
ROWS = pd.DataFrame(RANDOM.normal(size=(2000, 3)), columns=["much", "some", "none"])
ROWS.index += 500
TARGETS = 3 * ROWS["much"].to_numpy() + ROWS["some"].to_numpy()


def predict(rows):
    return 3 * rows["much"].to_numpy() + rows["some"].to_numpy()


def squared(predictions, targets):
    return float(((predictions - targets) ** 2).mean())


def found_of(columns=("none", "some", "much"), **options):
    return permutation_importance(predict, ROWS, TARGETS, list(columns), squared, **options)


def test_importance_agrees_with_theory_and_scikit_learn():
    found = found_of(num_repeats=20)
    model = LinearRegression().fit(ROWS, TARGETS)
    theirs = by_scikit_learn(
        model, ROWS, TARGETS, scoring="neg_mean_squared_error", n_repeats=20, random_state=0
    )

    assert found["column"].tolist() == ["much", "some", "none"]
    # A shuffled copy differs from the original by twice the variance.
    np.testing.assert_allclose(found["importance"], [18, 2, 0], rtol=0.1, atol=1e-9)
    np.testing.assert_allclose(found["importance"], theirs.importances_mean, rtol=0.05, atol=1e-9)
    np.testing.assert_allclose(found["spread"], theirs.importances_std, rtol=0.5, atol=1e-9)
    assert found["plain_error"].eq(mean_squared_error(TARGETS, predict(ROWS))).all()
    np.testing.assert_allclose(found["error"] - found["plain_error"], found["importance"])


def test_a_seed_says_the_shuffles_whatever_other_columns_are_asked_for():
    alone = found_of(["some"], seed=3)
    beside = found_of(["much", "some", "none"], seed=3)

    assert alone.iloc[0].tolist() == beside[beside["column"] == "some"].iloc[0].tolist()
    assert found_of(seed=3).equals(found_of(seed=3))
    assert not found_of(seed=4).equals(found_of(seed=3))
    assert found_of(num_repeats=1)["spread"].isna().all()


def test_columns_of_a_group_are_shuffled_together():
    # Both say the same: shuffled together, nothing is left; alone, their difference grows.
    rows = ROWS.assign(twin=ROWS["much"])
    seen = []

    def note(table):
        seen.append(table)
        return table["much"].to_numpy()

    groups = {"both": ["much", "twin"]}
    permutation_importance(note, rows, TARGETS, groups, squared, num_repeats=1)
    assert (seen[1]["much"] == seen[1]["twin"]).all()
    assert not seen[1]["much"].equals(rows["much"])
    assert sorted(seen[1]["much"]) == sorted(rows["much"])
    assert seen[1]["some"].equals(rows["some"])


def test_the_table_is_left_as_it_was_and_types_are_kept():
    rows = ROWS.assign(kind=pd.Categorical(np.where(ROWS["much"] > 0, "a", "b")))
    before = rows.copy(deep=True)
    types = []

    def note(table):
        types.append(table["kind"].dtype)
        return predict(table)

    permutation_importance(note, rows, TARGETS, ["kind", "much"], squared, num_repeats=2)
    pd.testing.assert_frame_equal(rows, before)
    assert set(types) == {rows["kind"].dtype}


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (["muhc"], {}, r"\['muhc'\] are not among \['much', 'some', 'none'\]"),
        (["much"], {"num_repeats": 0}, "`num_repeats` must be at least 1, got 0"),
        (["much"], {"seed": -1}, "`seed` must be at least 0, got -1"),
    ],
    ids=["column", "repeats", "seed"],
)
def test_bad_arguments_are_refused(columns, options, message):
    with pytest.raises(ValueError, match=message):
        found_of(columns, **options)
    with pytest.raises(ValueError, match="got 3 targets and 2000 rows"):
        permutation_importance(predict, ROWS, TARGETS[:3], ["much"], squared)
