"""The tables of the pages of documentation."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / ".github" / "docs"


def forms_of(page: str, heading: str) -> dict[str, list[str]]:
    """Return what is in backticks in each row of the table below a heading, by its first cell."""
    return {first: re.findall(r"`([^`]+)`", rest) for first, rest in rows_of(page, heading).items()}


def rows_of(page: str, heading: str) -> dict[str, str]:
    """Return the rows of the table below a heading: what follows the first cell, by that cell."""
    section = (DOCS / page).read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    cells = [line.strip("|").partition(" | ") for line in lines]
    return {first.strip(): rest.strip() for first, _, rest in cells}
