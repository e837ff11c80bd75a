"""One file of HTML that needs nothing else: no network, no other file, no framework."""

import html
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from lightning_fastrecipes.reporting.blocks import Page, plain

_TEMPLATES = files("lightning_fastrecipes.reporting") / "templates"


def render(page: Page) -> str:
    """Return a page of sections as HTML."""
    content = {
        "title": page.title,
        "subtitle": page.subtitle,
        "sections": [vars(section) for section in page.sections],
        "images": page.images,
    }
    return render_data(page.title, content, ["review.js", "page.js"])


def render_data(title: str, data: dict[str, Any], scripts: Sequence[str]) -> str:
    """Return a page whose scripts, of the folder of templates, draw its data, in ASCII alone.

    Data stand in it as JSON without a ``<``, so that no name can end the script, and are shown as
    text. The page forbids itself every request.
    """
    parts = {
        "title": html.escape(title),
        "style": _read("page.css"),
        "data": _as_json(data),
        "script": "\n".join(map(_read, ["drawing.js", *scripts])),
    }
    found = _read("page.html")
    before, *rest = found.split("{{")
    texts = [before]
    for piece in rest:
        name, _, after = piece.partition("}}")
        texts += [parts[name], after]
    written = "".join(texts)
    return written.encode("ascii", "xmlcharrefreplace").decode()


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _as_json(content: dict[str, Any]) -> str:
    written = json.dumps(plain(content), allow_nan=False, separators=(",", ":"))
    return written.replace("<", "\\u003c").replace("&", "\\u0026")
