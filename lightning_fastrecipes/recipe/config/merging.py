"""The document of a recipe with a variant and overrides in it, before any key is read."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes import trust as trusted
from lightning_fastrecipes.errors import ConfigurationError, RecipeError
from lightning_fastrecipes.functional.ranges import Range, find_ranges, read_range
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.recipe.config.catalog import recipe_name
from lightning_fastrecipes.recipe.config.documents import Place, check_keys, read_document
from lightning_fastrecipes.recipe.config.overrides import (
    SECTIONS,
    Override,
    apply_override,
    read_override,
)
from lightning_fastrecipes.recipe.config.paths import from_beside

OF_THE_WHOLE = ("name", "variants", "series")
"""Keys that a variant cannot change."""

KeyPath = tuple[str | int, ...]
"""The keys of mappings and the places in lists that lead to a value."""


class Merged(NamedTuple):
    """A document, the overrides that were applied to it, and the variant that is still to be read.

    A variant of a recipe that is no series is the document itself.
    """

    document: dict[str, Any]
    applied: list[Override]
    variant: str | None


def merge_document(
    place: Place,
    overrides: Sequence[str],
    variant: str | None = None,
    document: Mapping[str, Any] | None = None,
) -> Merged:
    """Read a recipe's file, or take a document in its place, and apply overrides.

    Paths of the file that lie beside it are taken from there. Raise `RecipeError` for an unknown
    section or key, and for code that ``place`` does not trust.
    """
    if document is None:
        merged = from_beside(read_document(place.path), place.path.parent)
    else:
        merged = copy.deepcopy(dict(document))
    pl.name_own_classes(merged)
    check_keys(merged, SECTIONS, place)
    check_trust(merged, place)
    # Written into a run folder, where the folder's own name says nothing of the recipe.
    merged["name"] = recipe_name(place.path, merged)
    variants = merged.get("variants")
    is_known = isinstance(variants, Mapping) and variant in variants
    if merged.get("series") is None and is_known:
        # Its data may be of another class, whose arguments the overrides name.
        merged, variant = _as_variant(merged, str(variant), place), None
    applied: list[Override] = []
    for override in map(read_override, overrides):
        applied.append(apply_override(merged, override, place.at(f"override --{override.key}")))
        # The next one may ask a class for its arguments.
        check_trust(merged, place)
    return Merged(merged, applied, variant)


def check_trust(document: dict[str, Any], place: Place) -> None:
    """Refuse classes and functions that are not trusted, before any is imported."""
    try:
        trusted.check_document(document, place.trust)
    except ConfigurationError as error:
        raise place.error(error) from error


def ranges_of(document: Mapping[str, Any], place: Place) -> dict[KeyPath, Range]:
    """Return the ranges of a document; raise `RecipeError` for one that is wrong."""
    found = {}
    for path, value in find_ranges(document).items():
        try:
            found[path] = read_range(value)
        except ValueError as error:
            raise place.at(name_path(document, path)).error(error) from error
    return found


def refuse_ranges(document: Mapping[str, Any], place: Place) -> None:
    """Raise `RecipeError` for a document with a range, which a search alone can train."""
    for path in ranges_of(document, place):
        value: Any = document
        for key in path:
            value = value[key]
        raise place.at(name_path(document, path)).error(
            f"must be one value here, but is the range {shown(value)}. Give a value, or let"
            " `fastrecipes search` find a good one."
        )


def name_path(document: Mapping[str, Any], path: KeyPath) -> str:
    """Return a path as an override names it: without ``init_args``, callbacks by their class.

    >>> name_path({"model": {"init_args": {"lr": 1}}}, ("model", "init_args", "lr"))
    'model.lr'
    """
    value: Any = document
    names = []
    for key in path:
        value = value[key]
        has_class = isinstance(key, int) and isinstance(value, Mapping) and "class_path" in value
        name = str(value["class_path"]).rpartition(".")[2] if has_class else str(key)
        names += [] if key == "init_args" else [name]
    return ".".join(names)


def _as_variant(document: dict[str, Any], name: str, place: Place) -> dict[str, Any]:
    """Return the document of one variant of a recipe that is no series."""
    changes = document["variants"][name] or {}
    changed = {key: value for key, value in document.items() if key not in OF_THE_WHOLE}
    changed["name"] = f"{document['name']}-{name}"
    for key, value in changes.items() if isinstance(changes, dict) else ():
        at = place.at(f"variants.{name}: {key}")
        apply_override(changed, Override(str(key), value), at)
    return changed


def searched_document(
    place: Place, overrides: Sequence[str], variant: str | None = None
) -> tuple[dict[str, Any], dict[KeyPath, Range]]:
    """Return the document of a recipe with ranges, and these; `RecipeError` if it has none.

    A series is refused, and several seeds, whose models would be trained in every trial.
    """
    merged = merge_document(place, overrides, variant)
    document = {k: v for k, v in merged.document.items() if k not in OF_THE_WHOLE[1:]}
    if merged.document.get("series") is not None:
        raise place.at("series").error(
            "must be left out of a search, whose trials are one run each. Name a variant with"
            " `--variant`, or leave `series` out."
        )
    if merged.variant is not None:
        known = ", ".join(map(str, merged.document.get("variants") or ())) or "none"
        raise RecipeError(f"{place}: there is no variant {merged.variant!r}. Variants: {known}.")
    for key, none in (("seeds", 1), ("folds", 0)):
        if document.get(key, none) != none:
            raise place.at(key).error(
                "must be left out of a search, since every trial would train so many models. Run"
                f" the recipe that it finds with `--{key}=N`."
            )
    found = ranges_of(document, place)
    if not found:
        raise place.error(
            "a search needs a range in place of a value, but there is none. Write one into the"
            " recipe, `lr: {log_uniform: [1e-5, 1e-1]}`, or on the command line,"
            " `--stages.NAME.lr='{log_uniform: [1e-5, 1e-1]}'`."
        )
    return document, found
