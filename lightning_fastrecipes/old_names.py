"""Old names in recipes, checkpoints, exports and callback states, translated to those of today.

Every rename of a key, an argument or a class that a file may contain has one entry in a table here.
Nothing else in the package knows an old name. All functions return new values, leave what is of
today as it is, and log one line that lists what they translated.
"""

import copy
import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)

CLASSES = {
    "PictureMixing": "ImageMixing",
}
"""Old name of a public class to the name of today; the package has both."""

MOVED_MODULES = {
    "callbacks.picture_mixing",
    "data.features",
    "data.image",
    "data.table_columns",
    "data.table_splits",
    "data.tabular",
}
"""Modules of the package that are gone; their public classes are in the package itself."""

KEYS = {
    "data.augment_on": "data.augmentation.on_device",
    "data.balance": "data.class_balanced",
    "data.geometry.max_angle": "data.augmentation.max_angle",
    "data.geometry.max_zoom": "data.augmentation.max_zoom",
    "data.split_seed": "data.split.seed",
    "data.table.classes": "data.table.labels.classes",
    "data.table.label_column": "data.table.labels",
    "data.table.label_columns": "data.table.labels.columns",
    "data.table.label_separator": "data.table.labels.separator",
    "data.table.probability_column": "data.table.labels.probability_column",
    "data.test_fraction": "data.split.test",
    "data.val_fraction": "data.split.val",
    "data.valid_fraction": "data.split.val",
    "data.split.valid_fraction": "data.split.val",
    "data.split.val_fraction": "data.split.val",
    "data.split.test_fraction": "data.split.test",
    "data.split.split_seed": "data.split.seed",
    "data.split.date": "data.split.column",
    "data.split.only_past": "data.split.past_only",
    "data.split.valid_from": "data.split.val_from",
    "data.split.valid_until": "data.split.val_until",
    "model.weight_decay": "model.optim.weight_decay",
    "model.optimizer": "model.optim.optimizer",
    "model.layers": "model.network.layers",
    "model.dropout": "model.network.dropout",
    "model.embedding_dropout": "model.network.embedding_dropout",
    "model.embedding_rule": "model.network.embedding_rule",
    "model.point": "model.point_estimate",
    "model.head.kind": "model.head.layout",
    "model.labels.thresholds": "model.labels.threshold",
}
"""Old key of a recipe to the key of today, as dotted paths without ``init_args``.

The same table serves documents, variants, overrides, hyperparameters and exports: arguments of a
model are the keys below ``model``.
"""

SHORT_FORMS = {
    "data.augmentation": "preset",
    "data.split": "val",
}
"""Key that may be one plain value, to the name of that value where others are moved beside it."""

VALUES: dict[str, dict[Any, Any]] = {
    "data.augmentation.on_device": {"device": True, "loader": False},
    "evaluation.splits": {"valid": "val"},
    "model.point_estimate": {"percentage": "min_rmspe"},
}
"""Key of today to old values, or old items of its list, and those of today."""

CLASS_KEYS: dict[str, dict[str, str]] = {
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

_OLD_JOIN_KEYS = ("on", True, "left_on", "right_on")
_OLD_LABEL_KEYS = {
    "classes",
    "label_column",
    "label_columns",
    "label_kind",
    "label_separator",
    "probability_column",
}

_OLD_SPLIT_KEYS = {
    "val_fraction",
    "valid_fraction",
    "test_fraction",
    "split_seed",
    "date",
    "only_past",
}


def translate_recipe(document: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the document of a recipe or a run folder.

    Args:
        document: A ``recipe.yaml`` as plain values, of any version.

    Returns:
        The same in the names of today.

    Example:
        >>> translate_recipe({"data": {"init_args": {"valid_fraction": 0.1}}})
        {'data': {'init_args': {'split': {'val': 0.1}}}}
    """
    with_today, notes = copy.deepcopy(dict(document)), list[str]()
    _translate_classes(with_today, notes)
    _translate_label_table(with_today, notes)
    _translate_keys(with_today, notes)
    for stage in _entries(with_today.get("stages")):
        for callback in _entries(stage.get("callbacks")):
            _translate_arguments(callback, notes)
    for metric in _entries(_arguments(dict(with_today.get("model") or {})).get("metrics")):
        _translate_arguments(metric, notes)
    _translate_rungs(with_today, notes)
    _translate_stages(with_today, notes)
    for name, changes in list(_items(with_today.get("variants"))):
        if isinstance(changes, dict):
            items = [translate_key(k, v, with_today, notes) for k, v in changes.items()]
            with_today["variants"][name] = dict(items)
    _log("The recipe", notes)
    return with_today


def translate_key(
    key: str,
    value: Any,
    document: Mapping[str, Any] | None = None,
    notes: list[str] | None = None,
) -> tuple[str, Any]:
    """Translate one dotted key and its value, as an override or a variant gives them.

    Args:
        key: Such as ``data.valid_fraction``, with or without ``init_args``.
        value: Its value.
        document: The recipe; arguments of classes of other packages are left alone.
        notes: What was translated is added here.

    Returns:
        Key and value in the names of today.

    Example:
        >>> translate_key("data.split.valid_from", "2014-08-01")
        ('data.split.val_from', '2014-08-01')
    """
    notes = [] if notes is None else notes
    if _is_foreign(document or {}, key):
        return key, value
    if key == "stages":
        whole = {key: copy.deepcopy(value)}
        _translate_stages(whole, notes)
        value = whole[key]
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
            _move(changed[""], old[len(plain) + 1 :], new[len(plain) + 1 :], notes)
    return key, _translate_value(plain, changed[""], notes)


def translate_hparams(class_name: str, hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the hyperparameters of a checkpoint.

    Args:
        class_name: The task they belong to, for the log.
        hparams: As Lightning stored them.

    Returns:
        Arguments of the constructor of today.
    """
    document, notes = {"model": {"init_args": copy.deepcopy(dict(hparams))}}, list[str]()
    _translate_classes(document, notes)
    _translate_keys(document, notes)
    _log(f"Hyperparameters of `{class_name}`", notes)
    return document["model"]["init_args"]


def translate_export(description: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the description of an exported model.

    Args:
        description: ``model.json`` as plain values.

    Returns:
        The same in the names of today.
    """
    today = copy.deepcopy(dict(description))
    if isinstance(today.get("architecture"), dict):
        name = str(today.get("task"))
        today["architecture"] = translate_hparams(name, today["architecture"])
    return today


def translate_results(results: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the ``results.json`` of a run folder.

    Args:
        results: Its plain values.

    Returns:
        The same in the names of today.
    """
    today, notes = copy.deepcopy(dict(results)), list[str]()
    if "rungs" in today:
        _move(today, "rungs", "variants", notes)
    for part in (today, *_entries(today.get("variants"))):
        _move(part, "valid", "val", notes)
    _log("Results", notes)
    return today


def translate_callback_states(states: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the states of callbacks in a checkpoint.

    Args:
        states: ``checkpoint["callbacks"]``: state keys, which begin with a class name, to states.

    Returns:
        The same with the class names of today.

    Example:
        >>> translate_callback_states({"PictureMixing{'alpha': 1.0}": {}})
        {"ImageMixing{'alpha': 1.0}": {}}
    """
    today, notes = {}, list[str]()
    for key, state in states.items():
        name, separator, arguments = key.partition("{")
        new = CLASSES.get(name, name)
        if new != name:
            notes.append(f"`{name}` to `{new}`")
        today[f"{new}{separator}{arguments}"] = copy.deepcopy(state)
    _log("States of callbacks", notes)
    return today


def split_keys(old: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the arguments of the former ``TableSplit``, or fractions beside other options.

    Args:
        old: Keys such as ``date``, ``only_past``, ``val_fraction``, ``split_seed``; keys of today
            are left as they are.

    Returns:
        Keys that ``data.common.split_choice.as_split`` takes.

    Example:
        >>> split_keys({"date": "day", "val_from": "2014-08-01", "only_past": True})
        {'val_from': '2014-08-01', 'column': 'day', 'past_only': True}
        >>> split_keys({"date": "day", "valid_fraction": 0.1})
        {'column': 'day', 'val_last': 0.1, 'test_last': 0.0}
    """
    given = {key: value for key, value in old.items() if value is not None}
    if not _OLD_SPLIT_KEYS & set(given):
        return given
    kept = {key: value for key, value in given.items() if key not in _OLD_SPLIT_KEYS}
    val = given.get("val_fraction", given.get("valid_fraction"))
    test = given.get("test_fraction")
    if "column" in kept:
        return {"column": kept["column"]}
    if "date" not in given:
        shares = {"val": val, "test": test, "seed": given.get("split_seed")}
        return kept | {key: value for key, value in shares.items() if value is not None}
    kept["column"] = given["date"]
    if given.get("only_past"):
        kept["past_only"] = True
    if any(key.endswith(("_from", "_until")) for key in kept):
        held_out = {"val_last": val, "test_last": test}
        return kept | {key: value for key, value in held_out.items() if value}
    return kept | {"val_last": 0.2 if val is None else val, "test_last": test or 0.0}


def join_keys(old: Mapping[Any, Any]) -> dict[Any, Any]:
    """Translate the former keys of a step that joins a table.

    Args:
        old: Arguments with ``on``, which plain YAML reads as true, or ``left_on`` and ``right_on``;
            those of today are left as they are.

    Returns:
        Arguments of the step of today.

    Example:
        >>> join_keys({"table": "a.csv", "left_on": ["x"], "right_on": ["y"]})
        {'table': 'a.csv', 'keys': {'x': 'y'}}
    """
    today = {name: value for name, value in old.items() if name not in _OLD_JOIN_KEYS}
    left, right = old.get("left_on"), old.get("right_on")
    if left and right and not isinstance(left, str) and len(left) == len(right):
        return today | {"keys": dict(zip(left, right, strict=True))}
    if isinstance(left, str) and isinstance(right, str):
        return today | {"keys": {left: right}}
    on = old.get("on") or old.get(True)
    return today | {"keys": on} if on else today


def has_whole_views(tta: Any) -> bool:
    """Return whether test-time augmentation, as written in a file, has the old preset `whole`."""
    return isinstance(tta, Mapping) and tta.get("preset") == "whole"


def _translate_rungs(document: dict[str, Any], notes: list[str]) -> None:
    """Make a list of rungs, each the one before it changed, a cumulative series of variants."""
    rungs = _by_name(document.get("rungs"))
    if rungs is None or any(not isinstance(rung.get("set") or {}, dict) for rung in rungs.values()):
        return
    variants: dict[str, Any] = {}
    seeds = 1
    for name, rung in rungs.items():
        variants[name] = dict(rung.get("set") or {})
        # The seeds of a rung are its own; those of a variant hold for the next one too.
        if rung.get("seeds", 1) != seeds:
            seeds = variants[name]["seeds"] = rung.get("seeds", 1)
    del document["rungs"]
    document |= {"variants": variants, "series": "cumulative"}
    notes.append("`rungs` to `variants` with `series: cumulative`")


def _translate_stages(document: dict[str, Any], notes: list[str]) -> None:
    """Make a list of stages with names a mapping from name to stage."""
    stages = _by_name(document.get("stages"))
    if stages is not None:
        document["stages"] = stages
        notes.append("the list `stages` to a mapping")


def _by_name(items: Any) -> dict[str, dict[str, Any]] | None:
    """Return the mappings of a list by their names, if each has a name of its own."""
    if not isinstance(items, list):
        return None
    names = [item.get("name") for item in items if isinstance(item, dict)]
    unique = {name for name in names if isinstance(name, str)}
    if not items or len(unique) < len(items):
        return None
    return {
        item["name"]: {key: value for key, value in item.items() if key != "name"} for item in items
    }


def _translate_classes(value: Any, notes: list[str]) -> None:
    """Rename classes wherever a ``class_path`` names one, and drop modules that are gone."""
    for key, item in list(_items(value)):
        if key == "class_path" and isinstance(item, str):
            value[key] = _translate_class_path(item, notes)
        else:
            _translate_classes(item, notes)


def _translate_class_path(path: str, notes: list[str]) -> str:
    package, _, name = path.rpartition(".")
    root, _, module = package.partition(".")
    if root != "lightning_fastrecipes":
        return path
    new = CLASSES.get(name, name)
    if new != name or module in MOVED_MODULES:
        notes.append(f"`{path}` to `{root}.{new}`")
        return f"{root}.{new}"
    return path


def _translate_arguments(spec: dict[str, Any], notes: list[str]) -> None:
    name = str(spec.get("class_path")).rpartition(".")[2]
    arguments = spec.get("init_args")
    if isinstance(arguments, dict):
        for old, new in CLASS_KEYS.get(name, {}).items():
            _move(arguments, old, new, notes)


def _translate_keys(document: dict[str, Any], notes: list[str]) -> None:
    """Apply ``KEYS`` and ``VALUES`` to a document in place."""
    home, name = _find(document, "data.split")
    if home is not None and isinstance(home.get(name), dict):
        home[name] = _translate_split(home[name], notes)
    for old, new in KEYS.items():
        if not _is_foreign(document, old):
            _move(document, old, new, notes)
    for key in VALUES:
        home, name = _find(document, key)
        if home is not None and name in home:
            home[name] = _translate_value(key, home[name], notes)


def _is_foreign(document: Mapping[str, Any], key: str) -> bool:
    """Return whether a key is an argument of a class that is not of this package."""
    section = document.get(key.partition(".")[0])
    path = section.get("class_path") if isinstance(section, Mapping) else section
    return isinstance(path, str) and not path.startswith("lightning_fastrecipes.")


def _translate_label_table(document: dict[str, Any], notes: list[str]) -> None:
    """Gather the keys that say what labels are, and make a column of splits the split itself."""
    data = _arguments(document["data"]) if isinstance(document.get("data"), dict) else {}
    table = data.get("table")
    if not isinstance(table, dict):
        return
    old = {key: table.pop(key) for key in _OLD_LABEL_KEYS & set(table)}
    labels = _labels({key: value for key, value in old.items() if value is not None})
    if labels is not None:
        table["labels"] = labels
    notes += [f"`data.table.{key}` to `data.table.labels`" for key in sorted(old)]
    if "split_column" in table:
        column = table.pop("split_column")
        if column is not None:
            old = {key: data.pop(key) for key in _OLD_SPLIT_KEYS & set(data)}
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
    known = VALUES.get(key, {})

    def today(item: Any) -> Any:
        if isinstance(item, (dict, list)) or item not in known:
            return item
        notes.append(f"`{key}: {item}` to `{known[item]}`")
        return known[item]

    return [today(item) for item in value] if isinstance(value, list) else today(value)


def _translate_split(split: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    today = split_keys(split)
    old = [key for key in split if key in _OLD_SPLIT_KEYS]
    notes += [f"`data.split.{key}` to keys of today" for key in old]
    return today if old else split


def _move(document: dict[str, Any], old: str, new: str, notes: list[str]) -> None:
    """Move the value of one key to another; a value that is there already stays."""
    home, name = _find(document, old)
    if home is None or name not in home:
        return
    target, new_name = _find(document, new, make=True)
    # In place, so that the order of the keys stays where only a name changes.
    if target is home and new_name not in home:
        renamed = {new_name if key == name else key: item for key, item in home.items()}
        home.clear()
        home.update(renamed)
    elif target is not None:
        value = home.pop(name)
        target.setdefault(new_name, value)
    notes.append(f"`{old}` to `{new}`")


def _find(
    document: dict[str, Any], key: str, make: bool = False
) -> tuple[dict[str, Any] | None, str]:
    """Return the mapping that holds a dotted key, or would, and the key's last name."""
    *parents, name = key.split(".")
    found: dict[str, Any] = document
    for depth, parent in enumerate(parents, start=1):
        found = _arguments(found)
        value = found.get(parent)
        short = SHORT_FORMS.get(".".join(parents[:depth]))
        if make and short is not None and value is not None and not isinstance(value, dict):
            value = found[parent] = {short: value}
        if make and value is None:
            value = found[parent] = {}
        if not isinstance(value, dict):
            return None, name
        found = value
    return _arguments(found), name


def _arguments(value: dict[str, Any]) -> dict[str, Any]:
    arguments = value.get("init_args")
    return arguments if isinstance(arguments, dict) else value


def _entries(value: Any) -> list[dict[str, Any]]:
    """Return the mappings in a list, or those that a mapping names."""
    return [item for _, item in _items(value) if isinstance(item, dict)]


def _items(value: Any) -> Any:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def _log(what: str, notes: list[str]) -> None:
    if notes:
        logger.info("%s has old names: %s", what, ", ".join(dict.fromkeys(notes)))
