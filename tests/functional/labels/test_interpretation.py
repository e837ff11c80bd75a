"""Confusions and worst samples of a table of predictions, against scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, log_loss

import lightning_fastrecipes as fr
from lightning_fastrecipes.errors import DataError

CLASSES = ["b", "a", "c"]


@pytest.fixture
def table() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(3), size=40)
    return pd.DataFrame(
        {
            "file": [f"{number}.png" for number in range(40)],
            "prediction": [CLASSES[place] for place in probabilities.argmax(axis=1)],
            "target": generator.choice(CLASSES, 40),
            **dict(zip(CLASSES, probabilities.T, strict=True)),
        }
    )


def test_counts_are_those_of_scikit_learn_in_the_order_of_the_columns(table) -> None:
    counts = fr.confusion(table)
    assert list(counts.index) == list(counts.columns) == CLASSES
    expected = confusion_matrix(table["target"], table["prediction"], labels=CLASSES)
    np.testing.assert_array_equal(counts, expected)


def test_pairs_are_the_cells_beside_the_diagonal_the_commonest_first(table) -> None:
    counts, pairs = fr.confusion(table), fr.most_confused(table)
    assert pairs["count"].sum() == counts.to_numpy().sum() - np.trace(counts)
    assert pairs["count"].is_monotonic_decreasing
    first = pairs.iloc[0]
    assert first["count"] == counts.loc[first["target"], first["prediction"]]
    assert first["share"] == first["count"] / counts.loc[first["target"]].sum()
    assert (fr.most_confused(table, 4)["count"] >= 4).all()


def test_losses_are_those_of_scikit_learn_the_worst_first(table) -> None:
    worst = fr.top_losses(table, 40)
    assert list(worst.columns) == ["file", "prediction", "target", "probability", "loss"]
    assert worst["loss"].is_monotonic_decreasing
    labels = sorted(CLASSES)
    expected = log_loss(table["target"], table[labels], labels=labels)
    assert worst["loss"].mean() == pytest.approx(expected)
    assert len(fr.top_losses(table)) == 9


def test_classes_that_are_numbers_are_read_from_a_file(tmp_path) -> None:
    content = "file,prediction,target,0,1\na.png,1,0,0.25,0.75\nb.png,1,1,0.5,0.5\n"
    (tmp_path / "p.csv").write_text(content)
    table = pd.read_csv(tmp_path / "p.csv")
    assert fr.confusion(table).to_numpy().tolist() == [[0, 1], [0, 1]]
    assert fr.top_losses(table, 1)["file"].tolist() == ["a.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="target"), "has no `target`"),
        (lambda t: t.head(0), "must have rows"),
        (lambda t: t.drop(columns="a"), r"has none for \['a'\]"),
    ],
)
def test_tables_that_say_too_little_are_refused(table, change, message) -> None:
    with pytest.raises(DataError, match=message):
        fr.top_losses(change(table))


def test_at_least_one_sample_is_asked_for(table) -> None:
    with pytest.raises(DataError, match="`k` must be at least 1"):
        fr.top_losses(table, 0)
