"""Read the stages of a recipe."""

import math
import re
from collections.abc import Mapping
from inspect import signature
from typing import Any

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.callbacks.averaging import Averaging
from lightning_fastrecipes.callbacks.keep_best import KeepBest
from lightning_fastrecipes.callbacks.lr_finder import LRFinder
from lightning_fastrecipes.callbacks.schedule import Schedule
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.recipe.config.building import read_class, read_settings
from lightning_fastrecipes.recipe.config.documents import Place, check_keys
from lightning_fastrecipes.recipe.config.schema import AS_BEFORE, FIND, LRSearch, Precompute, Stage

_MOST_EPOCHS = 1_000_000


def read_stages(value: Any, place: Place) -> tuple[Stage, ...]:
    """Read the mapping from names to stages; a `RecipeError` says what is wrong where."""
    if not isinstance(value, dict) or not value:
        raise place.error(
            f"must be a mapping with at least one stage, but is {shown(value)}."
            " Write `head: {max_epochs: 1}`; in a list, each stage needs a name of its own."
        )
    stages = tuple(_read_stage(name, item, place.at(str(name))) for name, item in value.items())
    if stages[0].lr == AS_BEFORE:
        raise place.at(f"{stages[0].name}.lr").error(
            f"must not be `{AS_BEFORE}` in the first stage. Give a rate, or write `find`."
        )
    return stages


def _read_stage(name: Any, item: Any, place: Place) -> Stage:
    check_name(name, place)
    if not isinstance(item, Mapping):
        raise place.error(f"must be a mapping, but is {shown(item)}.")
    if item.get("name", name) != name:
        raise place.at("name").error(
            f"must be left out, since the stage is called {name!r}, but is {shown(item['name'])}."
        )
    callbacks = [] if item.get("callbacks") is None else item["callbacks"]
    if not isinstance(callbacks, list):
        raise place.at("callbacks").error(f"must be a list, but is {shown(callbacks)}.")
    specs = tuple(
        read_class(spec, pl.Callback, place.at(f"callbacks[{index}]"))
        for index, spec in enumerate(callbacks)
    )
    ready: dict[str, Any] = {"name": name, "callbacks": specs}
    if isinstance(item.get("precompute"), Mapping):
        where = place.at("precompute")
        ready["precompute"] = read_settings(Precompute, item["precompute"], where)
    stage = read_settings(Stage, item, place, **ready)
    _check_lr(stage, place.at("lr"))
    cycles, epochs = stage.until_overfitting, stage.max_epochs
    if not 1 <= epochs <= _MOST_EPOCHS:
        raise place.at("max_epochs").error(
            f"must be at least 1 and at most {_MOST_EPOCHS:,}, but is {shown(epochs)}. Remove the"
            " stage to leave it out."
        )
    if cycles < 0:
        raise place.at("until_overfitting").error(
            f"must be a number of cycles, at least 0, but is {cycles}."
        )
    if cycles and not has_callback(stage, Schedule):
        raise place.at("until_overfitting").error(
            "looks at the ends of cycles, but the stage has none. Add `lightning_fastrecipes.SGDR`"
            " to its callbacks."
        )
    if stage.keep_best is not None:
        _check_keep_best(stage, place.at("keep_best"))
    if stage.averaging is not None:
        _check_averaging(stage, place.at("averaging"))
    return stage


def read_parts(value: Any, stages: Mapping[str, Any], place: Place) -> tuple[dict[str, int], ...]:
    """Check where the earlier parts of a continued run ended, which ``--continue`` wrote."""
    ends = [(-1, 0)]
    for part in value if isinstance(value, list) else [None]:
        items = list(part.items()) if isinstance(part, dict) else []
        name, epochs = items[0] if len(items) == 1 else ("", 0)
        if name not in stages or type(epochs) is not int or epochs < 1:
            raise place.error(
                "must be a list with the last stage of each earlier part and its epochs then, such"
                f" as `[{{all: 1}}]`, but is {shown(value)}."
            )
        ends.append((list(stages).index(name), epochs))
    if ends != sorted(ends):
        raise place.error(
            f"each part must train further than the one before it, but is {shown(value)}."
        )
    return tuple(dict(part) for part in value)


def _check_lr(stage: Stage, place: Place) -> None:
    """Refuse a search that cannot be, or that is described twice."""
    if not isinstance(stage.lr, dict):
        return
    keys = set(stage.lr)
    if keys != {"low", "high"} and not {FIND} <= keys <= {FIND, "otherwise"}:
        raise place.error(
            "must be a rate, an array of rates, `{low: 1e-5, high: 1e-3}`, `find`, or `{find: RULE,"
            f" otherwise: 1e-4}}`, but is {shown(stage.lr)}."
        )
    if stage.search is None:
        return
    read_settings(LRSearch, stage.lr, place)
    if not 0 < stage.search.otherwise < math.inf:
        raise place.at("otherwise").error(f"must be above 0, but is {stage.search.otherwise}.")
    if has_callback(stage, LRFinder):
        raise place.error(
            "names a rule, but the stage has an `LRFinder` of its own. Give it the rule, and write"
            " `lr: find`."
        )


def _check_keep_best(stage: Stage, place: Place) -> None:
    """Refuse what says nothing of a metric, and a second choice of the weights."""
    wanted = stage.keep_best
    if isinstance(wanted, dict):
        check_keys(wanted, ("monitor", "mode"), place)
        if "monitor" not in wanted or wanted.get("mode", "min") not in ("min", "max"):
            raise place.error(
                "must be a metric, or `{monitor: val_accuracy, mode: max}` with the mode `min` or"
                f" `max`, but is {shown(wanted)}."
            )
    if stage.until_overfitting or has_callback(stage, KeepBest):
        other = "`until_overfitting`" if stage.until_overfitting else "the callback `KeepBest`"
        raise place.error(f"cannot stand beside {other}, which chooses the weights as well.")


def averaging_of(stage: Stage) -> Averaging | None:
    """Build what averages the weights of a stage, if anything does; a ValueError if it cannot."""
    wanted: Any = stage.averaging
    if wanted is None:
        return None
    return Averaging(**(wanted if isinstance(wanted, dict) else {"kind": wanted}))


def _check_averaging(stage: Stage, place: Place) -> None:
    """Refuse what says no average, a second one, and a soup without cycles."""
    wanted = stage.averaging
    if isinstance(wanted, dict):
        check_keys(wanted, list(signature(Averaging).parameters), place)
    try:
        averaging = averaging_of(stage)
    except ValueError as error:
        raise place.error(error) from error
    if has_callback(stage, Averaging):
        raise place.error("cannot stand beside the callback `Averaging`. Leave one of them out.")
    has_ends = isinstance(wanted, dict) and wanted.get("cycle_len") is not None
    if (
        averaging
        and averaging.kind == "soup"
        and not has_ends
        and not has_callback(stage, Schedule)
    ):
        raise place.error(
            "averages the weights at the ends of cycles, but the stage has none. Add"
            " `lightning_fastrecipes.SGDR` to its callbacks, or write `{kind: soup, cycle_len: 1}`."
        )


def check_name(name: Any, place: Place) -> None:
    """Check the name of a stage or a variant, which becomes part of file names."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise place.error(f"a name must be letters, digits, '-' and '_', but is {shown(name)}.")


def has_callback(stage: Stage, base: type) -> bool:
    """Return whether a stage has a callback of a class; its class paths are known to be right."""
    return any(issubclass(spec.load(), base) for spec in stage.callbacks)
