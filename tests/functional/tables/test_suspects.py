"""Columns that are probably not meant as they are get a sentence, and others none."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.expressions import evaluate
from lightning_fastrecipes.functional.tables.spec import TableSpec
from lightning_fastrecipes.functional.tables.suspects import suspicions

ROWS = 400
RNG = np.random.default_rng(0)
X = RNG.normal(0, 1, ROWS)
PLAIN = pd.DataFrame(
    {
        "x": X,
        "late": RNG.integers(0, 2, ROWS),
        "shop": RNG.choice(list("abcd"), ROWS),
        "y": 3 * X + RNG.normal(0, 0.1, ROWS),
        "kind": RNG.choice(["no", "yes"], ROWS),
    }
)


def said(frame: pd.DataFrame, target="y", task="regression", **roles) -> list[str]:
    roles = {"categorical": ["shop"], "continuous": ["x", "late"]} | roles
    return suspicions(frame, TableSpec.fit(frame, target=target, task=task, **roles))


def mended(frame: pd.DataFrame, sentence: str) -> pd.DataFrame:
    """Do the step that a sentence asks for, as it stands there, in YAML."""
    [(name, expression)] = yaml.safe_load(sentence.split("`")[-2])["derive"].items()
    return frame.assign(**{name: evaluate(frame, name, expression)})


def test_a_plain_table_has_none() -> None:
    assert said(PLAIN) == []
    assert said(PLAIN, "kind", "classes") == []
    assert said(PLAIN, ["y", "kind"], {"y": "regression", "kind": "classes"}) == []


@pytest.mark.parametrize("scale", [2.5, -1e-6])
def test_a_multiple_of_the_target_is_named(scale) -> None:
    frame = PLAIN.assign(cents=scale * PLAIN["y"] + 7)
    frame.loc[::9, "cents"] = None
    [sentence] = said(frame, continuous=["x", "cents"])
    assert sentence.startswith("'cents' says the target 'y' by itself: their correlation is 1.0000")
    assert "take it out of `continuous`" in sentence
    assert said(frame, "kind", "classes", continuous=["x", "cents"]) == []


@pytest.mark.parametrize("codes", [{"no": "N", "yes": "Y"}, {"no": 0, "yes": 1}])
def test_another_spelling_of_the_classes_is_named(codes) -> None:
    frame = PLAIN.assign(again=PLAIN["kind"].map(codes))
    [sentence] = said(frame, "kind", "classes", categorical=["shop", "again"])
    assert "'again' says the target 'kind' by itself: each of its 2 values is one cl" in sentence
    assert "take it out of `categorical`" in sentence
    frame.loc[3, "again"] = codes["no" if frame["kind"][3] == "yes" else "yes"]
    assert said(frame, "kind", "classes", categorical=["shop", "again"]) == []


def test_an_id_among_categories_is_named() -> None:
    frame = PLAIN.assign(id=[f"n{row}" for row in range(ROWS)])
    [sentence] = said(frame, categorical=["id"])
    assert sentence.startswith("'id' has 400 different values in 400 training rows")
    assert said(frame.assign(id=[f"n{row % 350}" for row in range(ROWS)]), categorical=["id"]) == []
    # Rare ones share one index, and are still as many.
    spec = TableSpec.fit(frame, target="y", categorical=["id"], continuous=[], min_count=2)
    assert len(suspicions(frame, spec)) == 1


@pytest.mark.parametrize("rows", [30, 60, ROWS])
@pytest.mark.parametrize("value", [1e9, -1e5])
def test_a_value_beside_which_all_others_are_alike_is_named(rows, value) -> None:
    frame = PLAIN[:rows].copy()
    frame.index += 1000
    frame.loc[1017, "x"] = value
    [sentence] = said(frame)
    low, high = frame["x"].drop(1017).sort_values().iloc[[1, -2]] if rows == 30 else (None, None)
    assert f"but is {value:g} in row 1017" in sentence
    assert sentence.startswith("'x' lies between ")
    assert low is None or f"{low:g}" in sentence or f"{high:g}" in sentence
    assert said(mended(frame, sentence)) == []


def test_an_outlier_of_the_target_is_named_and_heavy_tails_are_none() -> None:
    frame = PLAIN.copy()
    frame.loc[3, "y"] = 1e6
    [sentence] = said(frame)
    assert sentence.startswith("The target 'y' lies between")
    tails = PLAIN.assign(x=np.exp(RNG.normal(0, 1.5, ROWS)), late=RNG.random(ROWS) < 0.005)
    assert said(tails) == []
    assert said(PLAIN.assign(x=[0.0] * (ROWS - 1) + [500.0])) == []


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        (np.arange(20, 80), [-999]),
        (np.arange(20, 80), [9999, -1]),
        (np.linspace(0.0, 1.0, 77), [-1]),
        (np.linspace(-200.0, 1500.0, 77), [-999]),
        (np.arange(28), [999]),
        (np.linspace(1e3, 5e4, 60), [99999]),
        (np.arange(-60, -40), [0]),
    ],
)
@pytest.mark.parametrize("target", [False, True])
def test_numbers_that_stand_for_missing_values_are_named(values, codes, target) -> None:
    numbers = np.resize(values, ROWS)
    for place, code in enumerate(codes):
        numbers[place :: 10 + place] = code
    frame = PLAIN.assign(**{"y" if target else "x": RNG.permutation(numbers)})
    [sentence] = said(frame)
    name = "The target 'y'" if target else "'x'"
    counts = ", ".join(f"{code} in {np.sum(numbers == code)}" for code in sorted(codes))
    assert sentence.startswith(f"{name} is {counts} of 400 training rows")
    if target:
        where = sentence.split("`where: ")[1].split("` leaves")[0]
        left = frame[evaluate(frame, "where", where)]
    else:
        left = mended(frame, sentence)
        assert left["x"].isna().sum() == np.isin(numbers, codes).sum()
    assert said(left) == []


@pytest.mark.parametrize(
    "values",
    [
        np.arange(-5, 20), np.arange(6), np.arange(100), [0] * 360 + [*range(1, 41)],
        np.arange(0, 1000, 10), np.exp(np.linspace(0, 8, 80)).round(), [0, 1], [*range(60), 99],
    ],
)  # fmt: skip
def test_numbers_that_may_be_values_are_not_named(values) -> None:
    assert said(PLAIN.assign(x=RNG.permutation(np.resize(values, ROWS)))) == []


@pytest.mark.parametrize("word", ["?", "none", "-", "unknown"])
def test_numbers_beside_a_word_are_named(word) -> None:
    texts = np.where(PLAIN.index % 9, (PLAIN.index % 50).astype(str), word)
    frame = PLAIN.assign(shop=texts)
    [sentence] = said(frame)
    assert sentence.startswith(f"'shop' is text of numbers, but for '{word}', so that each")
    assert f"`reading: {{na_values: ['{word}']}}` makes gaps of them" in sentence
    with pytest.raises(DataError, match=rf"has text, such as '{re.escape(word)}' in row 0.*na_val"):
        said(frame, categorical=[], continuous=["shop"])
    assert said(PLAIN.assign(shop=np.where(PLAIN.index % 9, "02139", "AB1"))) == []
    assert said(PLAIN.assign(shop=[f"{row % 50}{'ab'[row % 2]}" for row in range(ROWS)])) == []


def test_types_of_columns_do_not_matter() -> None:
    frame = PLAIN.assign(
        x=PLAIN["x"].round(1).astype("Float64").mask(PLAIN.index == 5),
        late=PLAIN["late"].astype("boolean"),
        whole=pd.Series(RNG.integers(0, 9, ROWS)).astype("category"),
    )
    assert said(frame, continuous=["x", "late", "whole"]) == []
    frame.loc[7, "x"] = 1e8
    assert "1e+08 in row 7" in said(frame, continuous=["x", "late", "whole"])[0]


@pytest.mark.parametrize(
    "other", ["A", "a ", " a", "\u00e4", "a  b", "\u0430", "\uff41", "a\u200b", "a.", "a\ufe0f"]
)
def test_categories_that_differ_by_spelling_alone_are_named(other) -> None:
    base = {"\u00e4": "a\u0308", "a  b": "a b"}.get(other, "a")
    frame = PLAIN.assign(shop=np.where(PLAIN.index % 3, base, other))
    for sentences in (said(frame), said(frame, "shop", "classes", categorical=["late"],
                                        continuous=["x"])):  # fmt: skip
        [sentence] = sentences
        assert sentence.startswith(f"'shop' has {base!r}, {other!r}") or repr(other) in sentence
        assert "differ by blanks, case, invisible signs or form of their letters" in sentence
        assert said(mended(frame, sentence)) == []


def test_text_of_lists_is_named_as_target_and_as_feature() -> None:
    frame = PLAIN.assign(tags=PLAIN["shop"].map({"a": "['x']", "b": "['x', 'y']"}).fillna("[]"))
    for sentences in (said(frame, "tags", "classes"), said(frame, categorical=["tags"])):
        assert sentences[0].startswith("'tags' is text of lists, such as ")
        assert "`TabularMultiTarget`" in sentences[0]
    cut = PLAIN.assign(part=pd.cut(PLAIN["x"], 3).astype(str))
    assert said(cut, "part", "classes") == []
