"""What the figures of classes say, read from the figures as drawn."""

from pathlib import Path

import matplotlib.pyplot
import pytest
import torch
from matplotlib.figure import Figure

from lightning_fastrecipes.plots import classes
from lightning_fastrecipes.plots import figure as drawing
from lightning_fastrecipes.plots.classes import draw_confusion_matrix, draw_cooccurrence
from lightning_fastrecipes.plots.figure import RIGHT, WRONG

COUNTS = torch.tensor([[41, 3, 0], [5, 90, 0], [0, 0, 0]])


@pytest.fixture
def path(tmp_path: Path):
    """Where to draw to; whatever was drawn must be a PNG and leave pyplot alone."""
    plot = tmp_path / "plot.png"
    yield plot
    assert not plot.exists() or plot.read_bytes().startswith(b"\x89PNG")
    assert matplotlib.pyplot.get_fignums() == []


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_cells_bear_counts_and_shares_of_the_true_class(path):
    figure = draw_confusion_matrix(COUNTS, ["cat", "dog", "eel"], path)
    cells = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert cells[(0, 0)] == "41\n93 %"
    assert cells[(1, 0)] == "3\n7 %"
    assert cells[(0, 1)] == "5\n5 %"
    assert cells[(2, 2)] == "0"
    assert path.exists()


def test_right_and_wrong_have_colours_of_their_own(path):
    axes = draw_confusion_matrix(COUNTS, ["cat", "dog", "eel"], path).axes[0]
    right, wrong = axes.images
    assert [image.get_cmap().name for image in (right, wrong)] == [RIGHT, WRONG]
    assert right.get_array()[0].tolist() == [pytest.approx(100 * 41 / 44), None, None]
    assert wrong.get_array()[0].tolist() == [None, pytest.approx(100 * 3 / 44), None]


def test_rows_are_true_classes_and_columns_are_predicted_ones(path):
    axes = draw_confusion_matrix(COUNTS, ["cat", "dog", "eel"], path).axes[0]
    assert axes.get_xlabel() == "predicted class"
    assert axes.get_ylabel() == "true class (number of samples)"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["cat", "dog", "eel"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "cat (44)",
        "dog (95)",
        "eel (0)",
    ]
    assert axes.get_title() == "Confusion matrix\n94.2 % of 139 samples right"


def test_the_title_says_split_and_views(path):
    figure = draw_confusion_matrix(
        COUNTS, ["cat", "dog", "eel"], path, split="test", with_views=True
    )
    first, second = figure.axes[0].get_title().split("\n")
    assert first == "Confusion matrix, test split, with views"
    assert second == "94.2 % of 139 samples right"


def test_rare_mistakes_do_not_read_as_none(path):
    figure = draw_confusion_matrix(torch.tensor([[999, 1], [0, 5]]), ["a", "b"], path)
    assert "1\n<1 %" in texts(figure)


def test_many_classes_make_a_larger_image_without_numbers(path, monkeypatch):
    monkeypatch.setattr(drawing, "_DOTS_PER_INCH", 20)
    monkeypatch.setattr(classes, "MAX_CLASSES_WITH_NUMBERS", 9)
    few = draw_confusion_matrix(torch.eye(9), [f"class {i}" for i in range(9)], path)
    assert len(texts(few)) == 81
    many = draw_confusion_matrix(torch.eye(50), [f"class {i}" for i in range(50)], path)
    assert texts(many) == []
    assert many.get_size_inches()[0] > few.get_size_inches()[0] > 8
    assert [tick.get_rotation() for tick in many.axes[0].get_xticklabels()] == [90.0] * 50


def test_a_thousand_classes_are_not_all_named_and_stay_within_a_metre(path, monkeypatch):
    monkeypatch.setattr(drawing, "_DOTS_PER_INCH", 20)
    monkeypatch.setattr(classes, "_MAX_CLASS_NAMES", 10)
    figure = draw_confusion_matrix(torch.eye(1000), [f"class {i}" for i in range(1000)], path)
    assert max(figure.get_size_inches()) < 40
    names = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert names == [f"class {i}" for i in range(0, 1000, 100)]


def test_class_names_are_shortened_and_never_read_as_formulas(path):
    figure = draw_confusion_matrix(torch.eye(2), ["$5 \\bill$", "x" * 50], path)
    first, second = (tick.get_text() for tick in figure.axes[0].get_xticklabels())
    assert first == "$5 \\bill$"
    assert second == "x" * 27 + "…"


def test_matrix_that_does_not_fit_the_classes_is_refused(path):
    with pytest.raises(ValueError, match=r"`counts` must .* 2 classes, got shape \(3, 3\). Count"):
        draw_confusion_matrix(COUNTS, ["cat", "dog"], path)


def test_many_classes_have_their_worst_pairs_beside(path, monkeypatch):
    monkeypatch.setattr(drawing, "_DOTS_PER_INCH", 20)
    counts = 10 * torch.eye(13).long()
    counts[2, 7], counts[9, 0], counts[4, 5] = 30, 1, 5
    figure = draw_confusion_matrix(counts, [f"class {i}" for i in range(13)], path)
    pairs = figure.axes[-1]
    assert [tick.get_text() for tick in pairs.get_yticklabels()] == [
        "class 2 → class 7",
        "class 4 → class 5",
        "class 9 → class 0",
    ]
    assert [bar.get_width() for bar in pairs.patches] == [30, 5, 1]
    assert [text.get_text() for text in pairs.texts] == ["30 (75 %)", "5 (33 %)", "1 (9 %)"]


def test_many_classes_that_are_mixed_up_stand_together(path, monkeypatch):
    monkeypatch.setattr(drawing, "_DOTS_PER_INCH", 20)
    counts = 100 * torch.eye(13).long()
    counts[2, 7], counts[7, 12], counts[3, 8] = 40, 30, 1
    axes = draw_confusion_matrix(counts, [f"class {i}" for i in range(13)], path).axes[0]
    order = [int(tick.get_text().split()[1]) for tick in axes.get_xticklabels()]
    assert order == [0, 1, 2, 7, 12, 3, 4, 5, 6, 8, 9, 10, 11]
    rows = [tick.get_text().split(" (")[0] for tick in axes.get_yticklabels()]
    assert rows == [f"class {place}" for place in order]
    assert axes.get_xlabel().endswith("stand together")
    right, wrong = axes.images
    assert wrong.get_array()[2, 3] == pytest.approx(100 * 40 / 140)
    assert right.get_array()[2, 2] == pytest.approx(100 * 100 / 140)


def test_labels_are_sorted_and_the_difference_is_drawn(path):
    true = torch.tensor([[4, 1, 0], [1, 8, 2], [0, 2, 2]])
    found = torch.tensor([[4, 3, 0], [3, 10, 1], [0, 1, 0]])
    figure = draw_cooccurrence(
        true, found, ["sea", "sun", "fog"], path, split="val", with_views=True
    )
    left, right, *_ = figure.axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["sun (8)", "sea (4)", "fog (2)"]
    assert right.get_yticklabels()[0].get_text() == "sun (10)"
    assert left.images[0].get_array()[0].tolist() == [100.0, 12.5, 25.0]
    growth = right.images[0].get_array()
    assert growth[0].tolist() == [0.0, pytest.approx(30.0 - 12.5), pytest.approx(10.0 - 25.0)]
    assert growth.mask[2].all(), "a label that is never predicted has no share"
    assert left.get_title() == "Labels that go together, val split\nas they are"
    assert right.get_title().startswith("as predicted, with views, minus as they are")
    assert "18" in [text.get_text() for text in right.texts]


def test_of_many_labels_the_commonest_are_drawn(path, monkeypatch):
    monkeypatch.setattr(drawing, "_DOTS_PER_INCH", 20)
    monkeypatch.setattr(classes, "MAX_LABELS", 2)
    counts = torch.diag(torch.tensor([3, 9, 5]))
    left = draw_cooccurrence(counts, counts, ["a", "b", "c"], path).axes[0]
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["b", "c"]
    assert "the 2 commonest of 3" in left.get_title()
