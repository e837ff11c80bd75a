"""Links and figures of pages lead somewhere in the site as in the repository."""

import importlib.util
import re
from pathlib import Path

import pytest

import lightning_fastrecipes as fr
from lightning_fastrecipes.cli.parser import build_parser

DOCS = Path(__file__).parents[1] / ".github/docs"
FIGURE = r'(?:src="|\]\()([^")]*\.png)'
PAGES = [DOCS.parents[1] / "README.md", *sorted(DOCS.glob("*.md"))]


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("build", DOCS / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_figures_are_those_of_the_site(build, page: Path) -> None:
    text = build.with_site_links(page, PAGES)
    up = "" if page.name == "README.md" else "../"
    figures = re.findall(FIGURE, text)
    assert len(figures) == len(re.findall(FIGURE, page.read_text("utf-8")))
    assert all((DOCS / figure.removeprefix(up)).is_file() for figure in figures)
    assert all(figure.startswith(up) and "/" not in figure.removeprefix(up) for figure in figures)
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+\.html)", text):
        name = link.removeprefix("../").removeprefix("guide/").removesuffix(".html")
        assert name == "guide" or (DOCS / f"{name}.md").is_file()


@pytest.mark.parametrize("figure", sorted(DOCS.glob("*.png")), ids=lambda path: path.name)
def test_figures_are_small_and_used(figure: Path) -> None:
    assert figure.stat().st_size < 200_000
    assert any(figure.name in page.read_text("utf-8") for page in PAGES)


def test_the_page_of_the_course_names_what_there_is() -> None:
    """Classes, functions and commands of "The course, sentence by sentence", and its recipes."""
    text = (DOCS / "course.md").read_text("utf-8")
    spans = re.findall(r"`([^`]+)`", text)
    classes = {m for span in spans for m in re.findall(r"(?<![\w.])[A-Z][a-z]+[A-Z]\w+", span)}
    functions = {m for span in spans for m in re.findall(r"\bfr\.(\w+)", span)}
    commands = {m for span in spans for m in re.findall(r"\bfastrecipes (\w[\w-]*)", span)}
    assert len(classes) > 15
    assert sorted(name for name in classes | functions if not hasattr(fr, name)) == []
    assert sorted(commands - set(build_parser()[1])) == []
    recipes = DOCS.parents[1] / "recipes"
    named = {span for span in spans if (recipes / span / "recipe.yaml").is_file()}
    assert {"cats_dogs", "mnist_ladder", "fashion_tags", "solar_cells", "course"} <= named
