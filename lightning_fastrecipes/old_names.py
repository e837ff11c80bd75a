"""Old names in recipes, checkpoints, exports and callback states, translated to those of today.

Every rename of a key, an argument or a class that a file may contain has one entry in a table here.
Nothing else in the package knows an old name. All functions return new values, leave what is of
today as it is, and log one line that lists what they translated.
"""

import copy
import logging
from collections.abc import Mapping
from typing import Any

from lightning_fastrecipes.nested import arguments_of, by_name, entries, find_key, move_key, pairs

logger = logging.getLogger(__name__)

CLASSES = {"PictureMixing": "ImageMixing"}
"""Old name of a public class to the name of today; the package has both."""

_MOVED_MODULES = (
    "callbacks.picture_mixing", "data.features", "data.image", "data.table_columns",
    "data.table_splits", "data.tabular",
)  # fmt: skip
"""Modules of the package that are gone; their public classes are in the package itself."""

_FRACTIONS = {
    "val_fraction": "val", "valid_fraction": "val", "test_fraction": "test", "split_seed": "seed",
}  # fmt: skip
_SPLIT = _FRACTIONS | {"date": "column", "only_past": "past_only"}
_JOIN = ("on", True, "left_on", "right_on")
_STAGES = "the list `stages` to a mapping"
_NETWORK = ("layers", "dropout", "embedding_dropout", "embedding_rule")
_LABELS = {
    "classes": "labels.classes",
    "label_column": "labels",
    "label_columns": "labels.columns",
    "label_separator": "labels.separator",
    "probability_column": "labels.probability_column",
}

KEYS = {
    "data.augment_on": "data.augmentation.on_device",
    "data.balance": "data.class_balanced",
    "data.geometry.max_angle": "data.augmentation.max_angle",
    "data.geometry.max_zoom": "data.augmentation.max_zoom",
    **{f"data.table.{old}": f"data.table.{new}" for old, new in _LABELS.items()},
    **{f"data.{old}": f"data.split.{new}" for old, new in _FRACTIONS.items()},
    **{f"data.split.{old}": f"data.split.{new}" for old, new in _SPLIT.items()},
    "data.split.valid_from": "data.split.val_from",
    "data.split.valid_until": "data.split.val_until",
    "model.weight_decay": "model.optim.weight_decay",
    "model.optimizer": "model.optim.optimizer",
    **{f"model.{name}": f"model.network.{name}" for name in _NETWORK},
    "model.point": "model.point_estimate",
    "model.head.kind": "model.head.layout",
    "model.labels.thresholds": "model.labels.threshold",
}
"""Old key of a recipe to the key of today, as dotted paths without ``init_args``.

The same table serves documents, variants, overrides, hyperparameters and exports: arguments of a
model are the keys below ``model``.
"""

SHORT_FORMS = {"data.augmentation": "preset", "data.split": "val", "evaluation.tta": "n"}
"""Key that may be one plain value, to the name of that value where others are moved beside it."""

_VALUES: dict[str, dict[Any, Any]] = {
    "data.augmentation.on_device": {"device": True, "loader": False},
    "evaluation.splits": {"valid": "val"},
    "model.point_estimate": {"percentage": "min_rmspe"},
}
"""Key of today to old values, or old items of its list, and those of today."""

_CLASS_KEYS: dict[str, dict[str, str]] = {
    "ImageMixing": {"kind": "method"},
    "MultiLabelSwitch": {"thresholds": "threshold"},
    "SampleFBeta": {"kind": "threshold", "thresholds": "grid"},
}
"""Class of today of a callback or a metric to its old arguments and those of today."""

WHOLE_VIEWS = (
    "Test-time augmentation must not be `preset: whole`, which this version does not have: it"
    " predicts without views. To show as much of each image, set `evaluation: {image_size: 256,"
    " crop_fraction: 1.0}` and leave `tta` out."
)
"""What to say of a recipe or an export for which :func:`has_whole_views` holds."""


def translate_recipe(document: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the document of a recipe or a run folder.

    >>> translate_recipe({"data": {"init_args": {"valid_fraction": 0.1}}})
    {'data': {'init_args': {'split': {'val': 0.1}}}}
    """
    with_today, notes = copy.deepcopy(dict(document)), list[str]()
    _translate_classes(with_today, notes)
    _translate_label_table(with_today, notes)
    _translate_keys(with_today, notes)
    stages = with_today.get("stages")
    for item in [
        *(callback for stage in entries(stages) for callback in entries(stage.get("callbacks"))),
        *entries(arguments_of(dict(with_today.get("model") or {})).get("metrics")),
    ]:
        name = str(item.get("class_path")).rpartition(".")[2]
        for old, new in _CLASS_KEYS.get(name, {}).items():
            move_key(item, old, new, notes)
    _translate_rungs(with_today, notes)
    if (named := by_name(stages)) is not None:
        with_today["stages"] = named
        notes.append(_STAGES)
        _name_views(with_today.get("evaluation"), notes)
    for name, changes in list(pairs(with_today.get("variants"))):
        if isinstance(changes, dict):
            today = [translate_key(k, v, with_today, notes) for k, v in changes.items()]
            with_today["variants"][name] = dict(today)
    _log("The recipe", notes)
    return with_today


def translate_key(
    key: str, value: Any, document: Mapping[str, Any] | None = None, notes: list[str] | None = None
) -> tuple[str, Any]:
    """Translate one dotted key and its value, as an override or a variant of a recipe gives them.

    >>> translate_key("data.split.valid_from", "2014-08-01")
    ('data.split.val_from', '2014-08-01')
    """
    notes = [] if notes is None else notes
    if _is_foreign(document or {}, key):
        return key, value
    if key == "stages" and (named := by_name(value)) is not None:
        value = copy.deepcopy(named)
        notes.append(_STAGES)
    elif key.startswith("rungs."):
        notes.append("`rungs` to `variants`")
        key = key.replace("rungs.", "variants.", 1)
    plain = key.replace(".init_args", "")
    renamed = [old for old in KEYS if plain == old or key.startswith(f"{old}.")]
    for old in renamed[:1]:
        notes.append(f"`{old}` to `{KEYS[old]}`")
        key = KEYS[old] + (key[len(old) :] if key.startswith(old) else "")
        plain = key.replace(".init_args", "")
    changed: dict[str, Any] = {"": value}
    _translate_classes(changed, notes)
    if plain == "data.split" and isinstance(value, dict):
        changed[""] = _translate_split(changed[""], notes)
    # What is below the key may have old names too.
    below = {old: new for old, new in KEYS.items() if old.startswith(f"{plain}.")}
    for old, new in below.items():
        if isinstance(changed[""], dict) and new.startswith(f"{plain}."):
            move_key(changed[""], old[len(plain) + 1 :], new[len(plain) + 1 :], notes)
    return key, _translate_value(plain, changed[""], notes)


def translate_hparams(class_name: str, hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the hyperparameters of a checkpoint."""
    document, notes = {"model": {"init_args": copy.deepcopy(dict(hparams))}}, list[str]()
    _translate_classes(document, notes)
    _translate_keys(document, notes)
    _log(f"Hyperparameters of `{class_name}`", notes)
    return document["model"]["init_args"]


def translate_export(description: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the description of an exported model."""
    today = copy.deepcopy(dict(description))
    if isinstance(today.get("architecture"), dict):
        today["architecture"] = translate_hparams(str(today.get("task")), today["architecture"])
    return today


def translate_results(results: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the ``results.json`` of a run folder."""
    today, notes = copy.deepcopy(dict(results)), list[str]()
    move_key(today, "rungs", "variants", notes)
    for part in (today, *entries(today.get("variants"))):
        move_key(part, "valid", "val", notes)
    _log("Results", notes)
    return today


def translate_callback_states(states: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the states of callbacks in a checkpoint.

    >>> translate_callback_states({"PictureMixing{'alpha': 1.0}": {}})
    {"ImageMixing{'alpha': 1.0}": {}}
    """
    today = {}
    for key, state in states.items():
        name, brace, arguments = key.partition("{")
        today[CLASSES.get(name, name) + brace + arguments] = copy.deepcopy(state)
    return today


def split_keys(old: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the arguments of the former ``TableSplit``, or fractions beside other options.

    >>> split_keys({"date": "day", "valid_fraction": 0.1})
    {'column': 'day', 'val_last': 0.1, 'test_last': 0.0}
    """
    given = {key: value for key, value in old.items() if value is not None}
    # Two ways to split in one were refused, and still are: choose_split names both keys.
    if not _SPLIT.keys() & set(given) or {"column", "date"} <= given.keys():
        return given
    kept = {key: value for key, value in given.items() if key not in _SPLIT}
    if "column" in kept:
        return {"column": kept["column"]}
    if "date" not in given:
        return kept | {_FRACTIONS[key]: value for key, value in given.items() if key in _FRACTIONS}
    kept |= {"column": given["date"]} | ({"past_only": True} if given.get("only_past") else {})
    val, test = given.get("val_fraction", given.get("valid_fraction")), given.get("test_fraction")
    if any(key.endswith(("_from", "_until")) for key in kept):
        held_out = {"val_last": val, "test_last": test}
        return kept | {key: value for key, value in held_out.items() if value}
    return kept | {"val_last": 0.2 if val is None else val, "test_last": test or 0.0}


def join_keys(old: Mapping[Any, Any]) -> dict[Any, Any]:
    """Translate the former keys of a step that joins a table.

    >>> join_keys({"table": "a.csv", "left_on": ["x"], "right_on": ["y"]})
    {'table': 'a.csv', 'keys': {'x': 'y'}}
    """
    today = {name: value for name, value in old.items() if name not in _JOIN}
    sides = (old.get("left_on"), old.get("right_on"))
    left, right = ([side] if isinstance(side, str) else list(side or ()) for side in sides)
    if left and len(left) == len(right):
        return today | {"keys": dict(zip(left, right, strict=True))}
    on = old.get("on") or old.get(True)
    return today | {"keys": on} if on else today


def has_whole_views(tta: Any) -> bool:
    """Return whether test-time augmentation, as written in a file, has the old preset `whole`."""
    return isinstance(tta, Mapping) and tta.get("preset") == "whole"


def _translate_rungs(document: dict[str, Any], notes: list[str]) -> None:
    """Make a list of rungs, each the one before it changed, a cumulative series of variants."""
    rungs = by_name(document.get("rungs"))
    if rungs is None or any(not isinstance(rung.get("set") or {}, dict) for rung in rungs.values()):
        return
    variants, seeds = dict[str, Any](), 1
    for name, rung in rungs.items():
        variants[name] = dict(rung.get("set") or {})
        # The seeds of a rung are its own; those of a variant hold for the next one too.
        if rung.get("seeds", 1) != seeds:
            seeds = variants[name]["seeds"] = rung.get("seeds", 1)
    del document["rungs"]
    document |= {"variants": variants, "series": "cumulative"}
    notes.append("`rungs` to `variants` with `series: cumulative`")


def _name_views(evaluation: Any, notes: list[str]) -> None:
    """Name the preset of views that recipes with a list of stages had if they named none."""
    views = evaluation.get("tta") if isinstance(evaluation, dict) else None
    views = {"n": views} if type(views) is int else views
    if isinstance(views, dict) and "preset" not in views:
        evaluation["tta"] = {"preset": "augmentation", **views}
        notes.append("views without a preset to `preset: augmentation`")


def _translate_classes(value: Any, notes: list[str]) -> None:
    """Rename classes wherever a ``class_path`` names one, and drop modules that are gone."""
    for key, item in list(pairs(value)):
        _translate_classes(item, notes)
        if key != "class_path" or not isinstance(item, str):
            continue
        package, _, name = item.rpartition(".")
        root, _, module = package.partition(".")
        if root == "lightning_fastrecipes" and (name in CLASSES or module in _MOVED_MODULES):
            value[key] = f"{root}.{CLASSES.get(name, name)}"
            notes.append(f"`{item}` to `{value[key]}`")


def _translate_keys(document: dict[str, Any], notes: list[str]) -> None:
    """Apply ``KEYS`` and ``_VALUES`` to a document in place."""
    home, name = find_key(document, "data.split")
    if home is not None and isinstance(home.get(name), dict):
        home[name] = _translate_split(home[name], notes)
    for old, new in KEYS.items():
        if not _is_foreign(document, old):
            move_key(document, old, new, notes, SHORT_FORMS)
    for key in _VALUES:
        home, name = find_key(document, key)
        if home is not None and name in home:
            home[name] = _translate_value(key, home[name], notes)


def _is_foreign(document: Mapping[str, Any], key: str) -> bool:
    """Return whether a key is an argument of a class that is not of this package."""
    section = document.get(key.partition(".")[0])
    path = section.get("class_path") if isinstance(section, Mapping) else section
    return isinstance(path, str) and not path.startswith("lightning_fastrecipes.")


def _translate_label_table(document: dict[str, Any], notes: list[str]) -> None:
    """Gather the keys that say what labels are, and make a column of splits the split itself."""
    data = arguments_of(document["data"]) if isinstance(document.get("data"), dict) else {}
    table = data.get("table")
    if not isinstance(table, dict):
        return
    old = {key: table.pop(key) for key in {*_LABELS, "label_kind"} & set(table)}
    labels = _labels({key: value for key, value in old.items() if value is not None})
    if labels is not None:
        table["labels"] = labels
    notes += [f"`data.table.{key}` to `data.table.labels`" for key in sorted(old)]
    if "split_column" in table:
        column = table.pop("split_column")
        if column is not None:
            old = {key: data.pop(key) for key in _SPLIT.keys() & set(data)}
            # Splits that the column did not name were drawn, a fifth to validate on.
            data["split"] = {"column": column, "missing": {"val": 0.2} | split_keys(old)}
        notes.append("`data.table.split_column` to `data.split.column`")


def _labels(old: Mapping[str, Any]) -> dict[str, Any] | str | None:
    """Return the ``labels`` of a table of labels for its former keys."""
    column, columns = old.get("label_column", "label"), old.get("label_columns")
    if "classes" in old or "probability_column" in old:
        return {key: old[key] for key in ("classes", "probability_column") if key in old}
    if old.get("label_kind") == "single":
        return {"column": column} if columns is None else {"one_hot": columns}
    if columns is not None:
        return {"columns": columns}
    if old.get("label_kind") == "multi" or "label_separator" in old:
        return {"column": column, "separator": old.get("label_separator", "auto")}
    return old.get("label_column")


def _translate_value(key: str, value: Any, notes: list[str]) -> Any:
    if isinstance(value, list):
        return [_translate_value(key, item, notes) for item in value]
    known = _VALUES.get(key, {})
    if isinstance(value, dict) or value not in known:
        return value
    notes.append(f"`{key}: {value}` to `{known[value]}`")
    return known[value]


def _translate_split(split: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    old = _SPLIT.keys() & split.keys()
    notes += [f"`data.split.{key}` to keys of today" for key in sorted(old)]
    return split_keys(split) if old else split


def _log(what: str, notes: list[str]) -> None:
    if notes:
        logger.info("%s has old names: %s", what, ", ".join(dict.fromkeys(notes)))
