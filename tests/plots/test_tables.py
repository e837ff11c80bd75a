"""What the figures of a table's model say, read from the figures as drawn."""

import matplotlib.pyplot
import numpy as np
import pandas as pd
import pytest

from lightning_fastrecipes.plots.tables import (
    MAX_NAMED,
    draw_embeddings,
    draw_importance,
    draw_predictions,
)


@pytest.fixture
def path(tmp_path):
    """Where to draw to; whatever was drawn must be a PNG and leave pyplot alone."""
    plot = tmp_path / "folder" / "plot.png"
    yield plot
    assert not plot.exists() or plot.read_bytes().startswith(b"\x89PNG")
    assert matplotlib.pyplot.get_fignums() == []


def vectors_of(column, values, width):
    vectors = np.random.default_rng(len(values)).normal(size=(len(values), width))
    numbers = {f"e{place}": vectors[:, place] for place in range(width)}
    return pd.DataFrame({"column": column, "value": values, **numbers})


def table():
    days = vectors_of("day", ["(unknown)", "$1", "2$", "3", "(rare)"], 3)
    shops = vectors_of("shop", ["(unknown)", *map(str, range(MAX_NAMED))], 6)
    return pd.concat([days, shops, vectors_of("open", ["(unknown)", "True"], 1)])


def test_each_column_has_a_panel_that_names_its_values(path):
    figure = draw_embeddings(table(), path)
    panels = {axes.get_title().split(":")[0]: axes for axes in figure.axes if axes.axison}
    texts = [text.get_text() for text in panels["day"].texts]

    assert path.exists()
    assert list(panels) == ["day", "shop", "open"]
    assert sorted(texts) == sorted(["(unknown)", "$1", "2$", "3", "(rare)"])
    assert panels["day"].get_title() == "day: 5 values"
    assert len(panels["shop"].texts) == 12
    usual, special = panels["day"].collections
    assert len(usual.get_offsets()) == 3
    assert len(special.get_offsets()) == 2


def test_points_are_the_principal_components(path):
    rows = vectors_of("day", list("abcdef"), 4)
    figure = draw_embeddings(rows, path)
    points = figure.axes[0].collections[0].get_offsets()
    vectors = rows.filter(like="e").drop(columns="value").to_numpy(float)
    centred = vectors - vectors.mean(axis=0)
    _, sizes, _ = np.linalg.svd(centred)

    np.testing.assert_allclose((points**2).sum(axis=0), sizes[:2] ** 2)
    first, second = 100 * sizes[:2] ** 2 / (sizes**2).sum()
    axes = figure.axes[0]
    assert axes.get_xlabel() == f"component 1 of 4 ({first:.0f} % of the variance)"
    assert axes.get_ylabel() == f"component 2 ({second:.0f} %)"


def test_both_axes_of_vectors_have_one_scale(path):
    rows = vectors_of("sex", list("abcdef"), 2)
    rows["e1"] *= 0.02
    (axes,) = draw_embeddings(rows, path).axes
    box = axes.get_window_extent()
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert (right - left) / box.width == pytest.approx((top - bottom) / box.height, rel=0.01)


def test_only_values_with_an_order_are_coloured_by_it(path):
    table = pd.concat([vectors_of("day", ["(unknown)", *"1234"], 2), vectors_of("sex", "abc", 2)])
    day, sex = draw_embeddings(table, path).axes
    usual, special = day.collections
    assert len(set(map(tuple, usual.to_rgba(usual.get_array())))) == 4
    assert day.get_title() == "day: 5 values; dark to light: 1 to 4"
    assert sex.collections[0].get_array() is None
    grey = special.get_edgecolors()[0][:3]
    assert grey[0] == grey[1] == grey[2]


def test_vectors_of_one_number_are_drawn_on_a_line(path):
    figure = draw_embeddings(table(), path, columns=["open"])
    (axes,) = figure.axes

    assert axes.get_title() == "open: 2 values"
    assert axes.get_xlabel() == "component 1 of 1 (100 % of the variance)"
    assert axes.get_ylabel() == ""
    offsets = np.concatenate([part.get_offsets() for part in axes.collections])
    assert (offsets[:, 1] == 0).all()


def test_vectors_that_are_all_the_same_are_drawn(path):
    rows = vectors_of("day", list("abc"), 2).assign(e0=1.0, e1=1.0)
    figure = draw_embeddings(rows, path)
    assert (figure.axes[0].collections[0].get_offsets() == 0).all()


def test_the_most_important_column_is_at_the_top(path):
    importance = pd.DataFrame(
        {
            "column": ["store", "promo", "a" * 30, "b"],
            "importance": [0.3, 0.1, 0.01, -0.001],
            "spread": [0.01, 0.02, np.nan, 0.0],
            "plain_error": 0.125,
        }
    )
    figure = draw_importance(importance, path, max_columns=3, error="rmse of sales", split="val")
    (axes,) = figure.axes

    assert [text.get_text() for text in axes.get_yticklabels()][:2] == ["store", "promo"]
    assert axes.yaxis_inverted()
    assert [bar.get_width() for bar in axes.patches] == [0.3, 0.1, 0.01]
    assert (
        axes.get_xlabel()
        == "rise of the rmse of sales (val split) when only this column is shuffled"
    )
    first, second = axes.get_title().split("\n")
    assert first == "What the model takes from each column, 3 of 4"
    assert second == "rmse of sales with all columns as they are: 0.125"


def test_what_cannot_be_drawn_is_refused(path):
    with pytest.raises(
        ValueError, match=r"got \['days'\], but there are \['day', 'shop', 'open'\]"
    ):
        draw_embeddings(table(), path, columns=["days"])
    with pytest.raises(ValueError, match="got 0 rows and 30"):
        draw_importance(pd.DataFrame({"column": []}), path)


def test_names_do_not_cover_one_another(path):
    rows = vectors_of("maker", [f"a rather long name {n}" for n in range(30)], 5)
    figure = draw_embeddings(rows, path)
    (axes,) = figure.axes
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) >= 8
    covering = [(a, b) for a in range(len(boxes)) for b in range(a) if boxes[a].overlaps(boxes[b])]
    assert covering == []


@pytest.mark.parametrize("log", [False, True])
def test_predictions_are_counted_in_cells_with_a_line_where_they_are_right(path, log):
    targets = [1.0, 10.0, 100.0, 100.0]
    predictions = [2.0, 10.0, 90.0, np.inf]
    figure = draw_predictions(targets, predictions, "sales", path, split="test", log=log)
    axes, bar = figure.axes
    assert axes.get_xscale() == ("log" if log else "linear")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("true sales", "predicted sales")
    assert axes.collections[0].get_array().sum() == 3
    assert axes.lines[0].get_xdata().tolist() == axes.lines[0].get_ydata().tolist() == [1.0, 100.0]
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_xlim()[0] >= 0.0
    assert axes.get_aspect() == 1.0
    assert axes.get_title().startswith("3 rows of the test split; 1 infinite")
    assert bar.get_ylabel() == "rows in a cell"
    viewed = draw_predictions(targets, targets, "a", path, split="val", with_views=True).axes[0]
    assert viewed.get_title().startswith("4 rows of the val split, with views\n")
