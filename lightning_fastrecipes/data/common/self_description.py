"""How a datamodule shows itself: one line, and in a notebook a small table."""

import html
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping

from typing_extensions import override

from lightning_fastrecipes._lightning import rank_zero_info


class DescribesItself(ABC):
    """What is short to say of an object, by its name."""

    @abstractmethod
    def _about(self) -> Mapping[str, str]:
        """Return what there is to say, such as how many samples a split has."""

    @override
    def __repr__(self) -> str:
        facts = (f"{name}: {text}" if name else text for name, text in self._about().items())
        return f"{type(self).__name__}({'; '.join(facts)})"

    @override
    def __str__(self) -> str:
        # Lightning's own counts samples of loaders, and fails where a hook returns none of them.
        return repr(self)

    def _repr_html_(self) -> str:
        return html_table(type(self).__name__, self._about())


def say_how_to_see() -> None:
    """Inform a script, which shows no figures by itself, how to see the one that is returned."""
    if not hasattr(sys, "ps1"):  # which Python and IPython have where people type
        rank_zero_info(
            "The figure is returned. A notebook shows it; give `path='figure.png'` to write it."
        )


def html_table(title: str, facts: Mapping[str, str]) -> str:
    """Return a table of two columns as HTML.

    >>> html_table("Data", {"train": "<5>"})
    '<b>Data</b><table><tr><th>train</th><td>&lt;5&gt;</td></tr></table>'
    """
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>"
        for name, text in facts.items()
    )
    return f"<b>{html.escape(title)}</b><table>{rows}</table>"
