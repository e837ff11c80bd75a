"""Which keys of two recipes differ, and which of them decide nothing."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

NO_RESULT = (
    "description", "initial_checks", "report", "data.num_workers",
    "trainer.enable_model_summary", "trainer.enable_progress_bar", "trainer.log_every_n_steps",
    "trainer.logger", "trainer.profiler",
)  # fmt: skip
"""Keys that cannot change a result, with all keys below them; a run may go on with others."""

_SECTIONS = ("", "trainer", "evaluation")
"""What may be left out, or hold nothing, and is the same."""


def changed_keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys of two documents that differ, dotted, with the values before and after.

    ``None`` stands for a key that a document does not have. ``init_args`` is left out, and
    callbacks are named by their class. Keys of ``NO_RESULT`` do not count.

    >>> changed_keys({"seed": 1, "stages": {"all": {"lr": 0.1}}}, {"stages": {"all": {"lr": 1}}})
    {'seed': (1, None), 'stages.all.lr': (0.1, 1)}
    """
    old, new = (dict(_flatten(_plain(document))) for document in (before, after))
    return {
        key: (old.get(key), new.get(key))
        for key in [*old, *(key for key in new if key not in old)]
        if old.get(key) != new.get(key)
        and not any(key == name or key.startswith(f"{name}.") for name in NO_RESULT)
    }


def describe_changes(changes: Mapping[str, tuple[Any, Any]]) -> str:
    """List changed keys with their values before and after, for a message."""
    return "; ".join(
        f"`{key}` was {_shown(old)} and would be {_shown(new)}"
        for key, (old, new) in changes.items()
    )


def _shown(value: Any) -> str:
    return "left out" if value is None else json.dumps(value)


def _plain(document: Any) -> Any:
    # As it is read back from a file: dates become text, and tuples lists.
    return json.loads(json.dumps(document, default=str))


def _flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and (value or key in _SECTIONS):
        for name, item in value.items():
            place = key if name == "init_args" else f"{key}.{name}" if key else str(name)
            if name != "init_args" or item:
                yield from _flatten(item, place)
    elif isinstance(value, list) and key.endswith(".callbacks"):
        specs = [item if isinstance(item, dict) else {"class_path": item} for item in value]
        names = [str(spec.get("class_path")).rpartition(".")[2] for spec in specs]
        numbers = Counter(names)
        for index, (name, spec) in enumerate(zip(names, specs, strict=True)):
            yield from _flatten(spec, f"{key}.{name if numbers[name] == 1 else index}")
    elif key in ("data", "model"):
        yield f"{key}.class_path", value
    elif value is not None or key not in _SECTIONS:
        yield key, value
