"""A recipe's script as a notebook, cell by cell."""

import ast
import textwrap
from typing import Any


def as_notebook(script: str, name: str) -> dict[str, Any]:
    """Return a ``recipe.py`` as the content of an ``.ipynb`` file.

    What stands before ``main`` is one cell, the words of the command line are the next, and the
    body of ``main`` follows, cut where a comment begins at its margin, which becomes the text above
    the cell. Raise `ValueError` if the script has no ``main``.
    """
    tree, lines = ast.parse(script), script.splitlines()
    mains = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "main"]
    if not mains:
        raise ValueError(f"The script of {name!r} has no function `main` to make a notebook of.")
    main, said = mains[0], ast.get_docstring(tree) or ""
    first = tree.body[1] if said else tree.body[0]
    cells = [_text(f"# {name}\n\n{said}"), _code(lines[first.lineno - 1 : main.lineno - 1])]
    if words := _words(tree):
        cells.append(_code(words))
    body = lines[main.body[0].lineno - 1 : main.end_lineno]
    # Comments above the first statement belong to the body as well.
    body = [line for line in lines[main.lineno : main.body[0].lineno - 1] if "#" in line] + body
    cells += _cells(textwrap.dedent("\n".join(body)).splitlines())
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 4,
    }


def _cells(body: list[str]) -> list[dict[str, Any]]:
    """Cut a body at its comments, which become texts."""
    cells: list[dict[str, Any]] = []
    code: list[str] = []
    comment: list[str] = []
    for line in [*body, "#"]:
        if line.startswith("#"):
            if code:
                cells += [_text("\n".join(comment))] if comment else []
                cells.append(_code(code))
                code, comment = [], []
            comment.append(line.removeprefix("#").strip())
        elif line.strip() or code:
            code.append(line)
    return cells


def _words(tree: ast.Module) -> list[str]:
    """Return code that sets the words which the script reads off the command line."""
    needed = {}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        is_argument = isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"
        first = call.args[0] if is_argument and call.args else None
        if isinstance(first, ast.Constant) and not str(first.value).startswith("-"):
            told = [key.value for key in call.keywords if key.arg == "help"]
            needed[str(first.value)] = ast.literal_eval(told[0]) if told else ""
    if not needed:
        # Not those of the process that runs the notebook.
        return ["import sys", "", 'sys.argv = ["recipe.py"]']
    notes = [f"# {name}: {told}" for name, told in needed.items()]
    words = ", ".join(f'"{name}"' for name in ("recipe.py", *needed))
    return ["import sys", "", *notes, f"sys.argv = [{words}]"]


def _text(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": _lines(text)}


def _code(lines: list[str]) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": _lines("\n".join(lines).strip()),
    }


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)
