"""Every public name and its signature, pinned in `public_api.txt`.

A change there is a change for users: make it on purpose, by ``python tests/test_public_api.py``,
and name it in CHANGELOG.md.
"""

import inspect
import re
from pathlib import Path
from typing import Any, Unpack, get_args, get_origin, get_type_hints

import pytest

import lightning_fastrecipes
from lightning_fastrecipes.old_names import CLASSES

PINNED = Path(__file__).with_name("public_api.txt")


def plain(annotation: Any) -> str:
    """Write a type without the modules that it comes from."""
    text = inspect.formatannotation(annotation)
    # Early numpy 2 writes the shape of arrays without `tuple`.
    text = text.replace("ndarray[tuple[typing.Any, ...], ", "ndarray[typing.Any, ")
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", text)


def parameters(item: Any) -> list[str]:
    """List the parameters of a class or function, those of an `Unpack` one by one."""
    lines, is_keyword = [], False
    for name, parameter in inspect.signature(item).parameters.items():
        if get_origin(parameter.annotation) is Unpack:
            (options,) = get_args(parameter.annotation)
            hints = get_type_hints(options)
            lines += [f"{key}: {plain(hint)} [{options.__name__}]" for key, hint in hints.items()]
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not is_keyword:
            lines.append("*")
            is_keyword = True
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        lines.append(f"{stars}{name}: {plain(parameter.annotation)}{default}")
    return lines


def public_api() -> str:
    blocks = []
    for name in sorted(lightning_fastrecipes.__all__, key=str.lower):
        item = getattr(lightning_fastrecipes, name)
        lines = parameters(item)
        if not inspect.isclass(item):
            lines.append(f"-> {plain(inspect.signature(item).return_annotation)}")
        blocks.append("\n    ".join([name, *lines]))
    return "\n\n".join(blocks) + "\n"


def test_the_public_api_is_the_pinned_one() -> None:
    assert public_api() == PINNED.read_text(), (
        "The public API has changed. If that is meant: python tests/test_public_api.py"
    )


def test_no_constructor_has_more_than_12_arguments() -> None:
    for name in lightning_fastrecipes.__all__:
        lines = parameters(getattr(lightning_fastrecipes, name))
        assert len([line for line in lines if line != "*"]) <= 12, name


@pytest.mark.parametrize(("old", "today"), CLASSES.items())
def test_old_names_are_aliases(old: str, today: str) -> None:
    assert getattr(lightning_fastrecipes, old) is getattr(lightning_fastrecipes, today)


if __name__ == "__main__":
    PINNED.write_text(public_api())
