"""What the figures of a run say, read from the figures as drawn."""

from pathlib import Path

import matplotlib.pyplot
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lightning_fastrecipes.plots.runs import draw_curves, draw_variants

HISTORY = pd.DataFrame(
    {
        "stage": ["head", "all", "all", "all"],
        "epoch": [0, 0, 1, 2],
        "train_loss": [1.0, 0.8, 0.6, 0.5],
        "val_loss": [1.1, np.nan, 0.7, np.nan],
        "val_accuracy": [0.5, np.nan, 0.8, np.nan],
        "val_f1": np.nan,
        "lr": [0.01, 0.01, 0.005, 0.001],
        "seconds": [30.0, 31.0, 31.0, 31.0],
    }
)


@pytest.fixture
def path(tmp_path: Path):
    """Where to draw to; whatever was drawn must be a PNG and leave pyplot alone."""
    plot = tmp_path / "plot.png"
    yield plot
    assert not plot.exists() or plot.read_bytes().startswith(b"\x89PNG")
    assert matplotlib.pyplot.get_fignums() == []


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def labels(figure: Figure, panel: int = 0) -> list[str]:
    return [text.get_text() for text in figure.axes[panel].get_legend().get_texts()]


def points(figure: Figure, panel: int, line: int = 0) -> dict[float, float]:
    drawn = figure.axes[panel].lines[line]
    return {x: y for x, y in zip(*drawn.get_data(), strict=True) if not np.isnan(y)}


def test_curves_run_over_all_stages_and_skip_epochs_without_validation(path):
    figure = draw_curves(HISTORY, path)
    assert points(figure, 0, 0) == {1: 1.0, 2: 0.8, 3: 0.6, 4: 0.5}
    assert points(figure, 0, 1) == {1: 1.1, 3: 0.7}
    assert list(figure.axes[0].lines[1].get_ydata()) == [1.1, 0.7]  # no gap that breaks the line
    assert points(figure, 1) == {1: 0.5, 3: 0.8}
    assert points(figure, 2) == {1: 0.01, 2: 0.01, 3: 0.005, 4: 0.001}
    assert path.exists()


def test_many_epochs_have_markers_that_do_not_hide_the_line(path):
    losses = np.linspace(1.0, 0.5, 200)
    figure = draw_curves(pd.DataFrame({"stage": "head", "train_loss": losses}), path)
    assert figure.axes[0].lines[0].get_markevery() == 5
    figure = draw_curves(HISTORY, path)
    assert figure.axes[0].lines[0].get_markevery() == 1


def test_curves_have_a_panel_each_for_losses_metrics_and_rate(path):
    figure = draw_curves(HISTORY, path)
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "loss",
        "val_accuracy",
        "learning rate (head)",
    ]
    assert labels(figure, 0) == ["train_loss", "val_loss"]
    assert [axes.get_legend() for axes in figure.axes[1:]] == [None, None]
    assert figure.axes[2].get_yscale() == "log"
    assert figure.axes[2].get_xlabel() == "epoch, counted over all stages"
    assert figure.get_suptitle() == "Training: 2 stages, 4 epochs, 2 min 03 s"


def test_several_metrics_of_a_panel_have_a_legend(path):
    figure = draw_curves(HISTORY.assign(val_f2=0.5, train_clean_accuracy=0.9), path)
    assert figure.axes[1].get_ylabel() == "metric"
    assert labels(figure, 1) == ["val_accuracy", "val_f2", "train_clean_accuracy"]
    lines = figure.axes[1].lines[:3]
    assert len({line.get_color() for line in lines}) == 3
    assert len({line.get_marker() for line in lines}) == 3


def test_the_time_is_that_of_the_stages_with_what_comes_before_their_epochs(path):
    figure = draw_curves(HISTORY, path, seconds=200.0)
    assert figure.get_suptitle().endswith("4 epochs, 3 min 20 s")
    assert draw_curves(HISTORY, path, seconds=1.0).get_suptitle().endswith("2 min 03 s")


def test_no_axis_shows_a_negative_loss_or_more_than_all_of_a_share(path):
    history = HISTORY.assign(train_loss=[3.0, 0.01, 0.01, 0.0], val_accuracy=[0.2, 1.0, 1.0, 1.0])
    figure = draw_curves(history, path)
    assert figure.axes[0].get_ylim()[0] == 0.0
    assert figure.axes[1].get_ylim()[1] == 1.0
    below = draw_curves(history.assign(train_loss=-1.0, val_r2=[-2.0, 0.1, 0.2, 0.3]), path)
    assert below.axes[0].get_ylim()[0] < -1.0
    assert below.axes[2].get_ylim()[0] < -2.0


def test_stages_are_named_and_ruled_off_where_they_begin(path):
    figure = draw_curves(HISTORY, path)
    names = {text.get_position()[0]: text.get_text().strip() for text in figure.axes[0].texts}
    assert names == {0.5: "head", 1.5: "all"}
    for axes in figure.axes:
        assert [line.get_xdata() for line in axes.lines if line.get_linestyle() == "--"] == [
            [1.5] * 2
        ]


def test_rates_of_two_stages_are_not_joined(path):
    rates = draw_curves(HISTORY, path).axes[2].lines[0]
    assert np.isnan(rates.get_ydata()[list(rates.get_xdata()).index(1.5)])


def test_metrics_of_different_size_get_panels_of_their_own(path):
    history = HISTORY.assign(val_mae=700.0, val_rmse=1000.0, val_rmspe=0.12)
    figure = draw_curves(history, path)
    panels = [[line.get_label() for line in axes.lines if line.get_label() in history]
              for axes in figure.axes]  # fmt: skip
    assert ["val_mae", "val_rmse"] in panels
    assert panels[1][-1] == "val_rmspe"


def test_a_single_epoch_without_validation_is_seen(path):
    first = HISTORY.iloc[:1][["stage", "epoch", "train_loss"]]
    figure = draw_curves(first, path)
    assert [axes.get_ylabel() for axes in figure.axes] == ["train_loss"]
    assert figure.axes[0].lines[0].get_marker() == "o"
    assert points(figure, 0) == {1: 1.0}
    assert [x for x in figure.axes[0].get_xticks() if 0.5 <= x <= 1.5] == [1]
    assert figure.get_suptitle() == "Training: 1 stage, 1 epoch"


@pytest.mark.parametrize(
    "history",
    [
        pytest.param(HISTORY.iloc[:0], id="no-epoch"),
        pytest.param(HISTORY.drop(columns="stage"), id="no-stage"),
        pytest.param(HISTORY.drop(columns="train_loss"), id="no-loss"),
    ],
)
def test_history_without_the_least_it_needs_is_refused(history, path):
    with pytest.raises(ValueError, match=r"`history` must have one row an epoch .* got \d rows"):
        draw_curves(history, path)


# Variants


def variant(name: str, accuracy: float | None, split: str = "test") -> dict:
    metrics = {"loss": 0.1} | ({} if accuracy is None else {"accuracy": accuracy})
    return {"name": name, "seconds": 90.0, "val": {}, "test": {}} | {split: metrics}


@pytest.mark.parametrize("split", ["test", "val"])
def test_variants_are_bars_of_mistakes_with_their_figures(tmp_path: Path, split: str) -> None:
    variants = [
        variant("linear", 0.9, split),
        variant("deep", 0.99, split),
        variant("perfect", 1.0, split),
    ]
    figure = draw_variants(variants, tmp_path / "variants.png")
    (axes,) = figure.axes
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches]
    assert ends[:2] == pytest.approx([10.0, 1.0])
    assert 0 < ends[2] < 1.0, "no mistake at all gets the shortest bar, which is still seen"
    found = [text.strip() for text in texts(figure)]
    assert found == [f"{value} % right, 1.5 min" for value in ("90.00", "99.00", "100.00")]
    assert axes.get_xscale() == "log"
    assert f"mistakes on the {split} split, without views" in axes.get_xlabel()
    assert axes.get_title() == f"3 variants: mistakes on the {split} split"
    figure.canvas.draw()
    for text in axes.texts:
        assert text.get_window_extent().x1 < figure.bbox.x1
    assert (tmp_path / "variants.png").is_file()


def test_variants_without_an_accuracy_are_not_drawn(tmp_path: Path) -> None:
    assert draw_variants([variant("a", 0.5), variant("b", None)], tmp_path / "variants.png") is None
    assert not (tmp_path / "variants.png").exists()


def test_variants_without_an_accuracy_are_bars_of_their_error(tmp_path: Path) -> None:
    errors = [{"loss": 0.1, "mae": 90.0, "rmspe": share} for share in (0.2, 0.1)]
    variants = [{"name": "ab"[n], "seconds": 90.0, "val": errors[n], "test": {}} for n in (0, 1)]
    figure = draw_variants(variants, tmp_path / "variants.png")
    assert [bar.get_width() for bar in figure.axes[0].patches] == [0.2, 0.1]
    assert figure.axes[0].get_xlabel() == "rmspe on the val split"
    assert [text.strip() for text in texts(figure)] == ["0.2, 1.5 min", "0.1, 1.5 min"]
