"""Columns that are probably not meant as they are get a sentence, and others none."""

import numpy as np
import pandas as pd
import pytest
import yaml

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
