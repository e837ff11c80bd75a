"""Build one searchable site of pages and API: ``python .github/docs/build.py build/site``.

Needs the extra ``docs`` (pdoc). Each page becomes the docstring of a module of a package ``guide``,
so that pdoc lists and searches pages and API alike. Figures lie beside the pages and are copied.
"""

import re
import shutil
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parent
PROJECT = DOCS.parents[1]
IMAGE = re.compile(r'(src="|\]\()([^":()]*?)([\w-]+\.png)')
REPOSITORY_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)")


def module_name(page: Path) -> str:
    """Return the module that a page becomes, such as ``learning_rates``."""
    return "guide" if page.name == "README.md" and page.parent == PROJECT else page.stem


def with_site_links(page: Path, pages: list[Path]) -> str:
    """Point links between pages to their place in the site; other files are named by their path."""
    top = page == PROJECT / "README.md"

    def link(found: re.Match[str]) -> str:
        words, path, anchor = found[1], found[2], found[3] or ""
        target = (page.parent / path).resolve()
        if target.suffix == ".png":
            return found[0]
        if target not in pages:
            return f"{words} (`{target.relative_to(PROJECT)}`)"
        if target == PROJECT / "README.md":
            return f"[{words}](../guide.html{anchor})"
        return f"[{words}]({'guide/' if top else ''}{module_name(target)}.html{anchor})"

    def image(found: re.Match[str]) -> str:
        return f"{found[1]}{'' if top else '../'}{found[3]}"

    text = page.read_text(encoding="utf-8")
    return IMAGE.sub(image, REPOSITORY_LINK.sub(link, text))


def build(site: Path) -> None:
    """Write the site into a folder."""
    import pdoc  # of the extra `docs`; links are tested without it

    pages = [PROJECT / "README.md", *sorted(DOCS.glob("*.md"))]
    with tempfile.TemporaryDirectory() as folder:
        guide = Path(folder) / "guide"
        guide.mkdir()
        names = [module_name(page) for page in pages[1:]]
        for page in pages:
            name = "__init__" if page == pages[0] else module_name(page)
            text = with_site_links(page, pages)
            source = f"__doc__ = {text!r}\n"
            if name == "__init__":
                source += f"__all__ = {names!r}\n"
            (guide / f"{name}.py").write_text(source, encoding="utf-8")
        sys.path.insert(0, folder)
        pdoc.render.configure(docformat="google", search=True)
        pdoc.pdoc("guide", "lightning_fastrecipes", output_directory=site)
    for figure in DOCS.glob("*.png"):
        shutil.copy(figure, site)


if __name__ == "__main__":
    build(Path(sys.argv[1] if len(sys.argv) > 1 else "build/site"))
