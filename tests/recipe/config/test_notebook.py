"""Scripts of recipes as notebooks: the same code, in cells."""

import ast
import json
from pathlib import Path

import pytest

from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.recipe.config.notebook import as_notebook

SCRIPTS = sorted((Path(__file__).parents[3] / "recipes").glob("*/recipe.py"))


def code_cells(notebook: dict) -> list[str]:
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]


@pytest.mark.parametrize("script", SCRIPTS, ids=[path.parent.name for path in SCRIPTS])
def test_the_cells_are_the_script(script: Path) -> None:
    tree = ast.parse(script.read_text())
    [function] = [one for one in tree.body if getattr(one, "name", "") == "main"]
    before, words, *body = code_cells(as_notebook(script.read_text(), script.parent.name))
    expected = ast.dump(ast.Module(tree.body[1 : tree.body.index(function)], []))
    assert ast.dump(ast.parse(before)) == expected
    assert ast.dump(ast.parse("\n".join(body))) == ast.dump(ast.Module(function.body, []))
    assert words.startswith("import sys")
    # The words are those that the script asks for.
    found: dict = {}
    exec("import sys\nargv = sys.argv\n" + words + "\nfound, sys.argv = sys.argv, argv", found)
    asked = [line for line in script.read_text().splitlines() if 'add_argument("' in line]
    needed = [line for line in asked if 'add_argument("-' not in line]
    assert len(found["found"]) == 1 + len(needed)


def test_comments_at_the_margin_are_texts_above_their_cell() -> None:
    script = (
        '"""Adds."""\nimport math\n\ndef main() -> None:\n    x = 1\n    # 1: adds\n    # two.\n'
    )
    script += "    if x:\n        # inside\n        print(x)\n"
    cells = as_notebook(script, "adding")["cells"]
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in cells] == [
        ("markdown", "# adding\n\nAdds."),
        ("code", "import math"),
        ("code", 'import sys\n\nsys.argv = ["recipe.py"]'),
        ("code", "x = 1"),
        ("markdown", "1: adds\ntwo."),
        ("code", "if x:\n    # inside\n    print(x)"),
    ]


def test_a_script_without_main_is_refused() -> None:
    with pytest.raises(ValueError, match="has no function `main`"):
        as_notebook("x = 1", "adding")


def test_copy_writes_a_notebook(tmp_path, capsys) -> None:
    assert main(["copy", "cats_dogs", str(tmp_path), "--notebook"]) == 0
    path = tmp_path / "cats_dogs" / "recipe.ipynb"
    assert str(path) in capsys.readouterr().out
    notebook = json.loads(path.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 4)
    assert any("recipe.py" in cell and '"root"' in cell for cell in code_cells(notebook))
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(notebook)
