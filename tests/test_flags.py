"""Every flag of every command, with odd values: a code of 0, 1 or 2, and no traceback."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.cli.parser import build_parser

ODD = [
    "", "-1", "nan", "x" * 5000, "a\nb", "a\0b", "/dev/null", "[]", "{",
    "~nobody/x", "\udcff", "../..", "--", "[/red]",
]  # fmt: skip
NEEDED = {
    "ls": [], "backbones": None, "copy": ["nowhere", "copied"], "completion": ["bash"],
    "predict": ["nowhere", "a.png"], "report": ["nowhere"], "look kernels": None,
    "look fit": None, "look layers": ["nowhere", "a.png"], "look trace": ["nowhere", "a.png"],
    "clean": ["nowhere", "--apply", "a.csv"],
}  # fmt: skip
"""Words besides a flag; the others get data or a recipe that is nowhere, so that nothing trains."""


def commands() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for name, parser in build_parser()[1].items():
        if name != "look":
            yield name, parser
            continue
        (looks,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        yield from ((f"look {what}", one) for what, one in looks.choices.items())


FLAGS = [
    pytest.param(name, action, id=f"{name}-{action.option_strings[0]}")
    for name, parser in commands()
    for action in parser._actions
    if action.option_strings and action.dest != "help" and NEEDED.get(name, []) is not None
]


@pytest.mark.parametrize(("name", "action"), FLAGS)
def test_no_flag_ends_in_a_traceback(name, action, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*name.split(), *NEEDED.get(name, ["nowhere"])]
    for value in [None] if action.nargs == 0 else ODD:
        flag = action.option_strings[0]
        code = main([*words, flag if value is None else f"{flag}={value}"])
        said = capsys.readouterr().err
        assert code in (0, 1, 2), value
        assert "Traceback" not in said, value
        assert len(said) < 6000, value
        assert code == 0 or "fastrecipes" in said, value
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize("flag", ["--variant", "--stage"])
def test_names_that_a_recipe_has_not_are_said(flag, recipe_file: Path, capsys) -> None:
    for value in ("-1", "x" * 5000, "\udcff"):
        command = "check" if flag == "--variant" else "summary"
        assert main([command, str(recipe_file), f"{flag}={value}"]) == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert said.startswith("fastrecipes: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["auto", "nowhere", "--minutes=inf"], "must be a number above 0, got 'inf'"),
        (["auto", "nowhere", "--minutes=-1"], "must be a number above 0, got '-1'"),
        (["auto", "nowhere", "--minutes=x"], "must be a number above 0, got 'x'"),
        (["lr-find", "nowhere", "--min-lr=nan"], "must be a number above 0, got 'nan'"),
        (["look", "layers", "a", "b", "--images=1.5"], "must be a whole number from 1, got '1.5'"),
    ],
)
def test_numbers_are_refused_before_any_work(words, said, capsys) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err
