"""Figures are saved whole or not at all."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from lightning_fastrecipes.plots import figure as drawing
from lightning_fastrecipes.plots.figure import new_figure, save, shorten, wrapped


def test_a_figure_is_a_png_in_a_new_folder(tmp_path: Path) -> None:
    figure = save(new_figure(2.0, 1.0), tmp_path / "new" / "plot")
    assert isinstance(figure, Figure)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["plot.png"]
    assert (tmp_path / "new" / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_that_cannot_be_drawn_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    path = tmp_path / "plot.png"
    path.write_text("old")

    def half(self: Figure, target: Path, **_: object) -> None:
        target.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match="disk full"):
        save(new_figure(2.0, 1.0), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_letters_that_matplotlib_lacks_come_from_other_fonts(tmp_path, monkeypatch) -> None:
    def drawn(name: str) -> bytes:
        figure = new_figure(1.0, 1.0)
        figure.text(0.1, 0.5, "\u1d8a")
        return save(figure, tmp_path / name)._repr_png_()

    without = drawn("boxes.png")
    monkeypatch.setattr(drawing, "_OTHER_FONTS", ("no such font", "STIXGeneral"))
    drawing._other_fonts.cache_clear()
    try:
        assert drawing._other_fonts() == ["STIXGeneral"]
        assert drawn("letters.png") != without
    finally:
        drawing._other_fonts.cache_clear()


def test_names_are_cut_by_their_width_on_one_line() -> None:
    assert shorten("向" * 14) == "向" * 14
    assert shorten("向" * 15) == "向" * 13 + "…"
    assert shorten("a\n b\tc") == "a b c"
    assert wrapped("one two three four", 8) == "one two\nthree\nfour"
    assert wrapped("one two three four", 8, 2) == "one two\nthree …"
    assert wrapped("向" * 8, 8) == "向" * 4 + "\n" + "向" * 4


def test_long_names_end_with_an_ellipsis() -> None:
    assert shorten("x" * 28) == "x" * 28
    assert shorten("x" * 29) == "x" * 27 + "…"
