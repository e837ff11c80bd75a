"""Plain values that a stranger may put into any field of a file, and the fields of a document."""

import copy
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Key = tuple[str | int, ...]
REMOVED = "removed"
CODE = """
from pathlib import Path
import torch
Path({marker!r}).touch()
class Net(torch.nn.Module):
    def __init__(self, **options):
        super().__init__()
def measure(*values):
    return 0.5
"""


def write_code(folder: Path) -> Path:
    """Write a module ``evilmod`` into a folder, and return the file that it makes when it runs."""
    marker = folder / "ran"
    (folder / "evilmod.py").write_text(CODE.format(marker=str(marker)))
    return marker


def named(path: object, **init_args: Any) -> dict[str, Any]:
    return {"class_path": path, "init_args": init_args}


def hostile_values(marker: Path) -> dict[str, Any]:
    """Return wrong types, sizes, texts and classes by a word for each."""
    nothing = {"null": None, "empty text": "", "empty list": [], "empty mapping": {}}
    numbers: dict[str, Any] = {
        str(value): value
        for value in (True, -1, 0, 1, 1.5, -0.0, 2, 10**9, 10**12, 1 << 63, 1e-300, 1e300)
    }
    numbers |= {"huge": 10**400, "nan": float("nan"), "inf": float("inf"), "-inf": -float("inf")}
    lists = {
        "[null]": [None],
        "numbers": [1, 2, 3],
        "texts": ["a", "b"],
        "long list": [None] * 5000,
    }
    lists["deep list"] = functools.reduce(lambda inner, _: [inner], range(300), 1)
    texts = {
        text: text
        for text in (
            "zz", "../../../../etc/passwd", "/etc/passwd", "hf-hub:a/b", "local-dir:/tmp",
            "https://host/x", "a\0b", "a\nb", "\x1b[2J", "\ud800", "\uff54orch.nn.Linear",
            "__class__", "torch.nn.Linear", "evilmod.Net", "evilmod.measure", "os.system",
        )
    }  # fmt: skip
    linear = functools.partial(named, "torch.nn.Linear")
    classes = {
        "a class": named("evilmod.Net"),
        "a function": named("os.system", command=f"touch {marker}"),
        "of hydra": {"_target_": "evilmod.Net"},
        "a layer": linear(in_features=3, out_features=3),
        "a large layer": linear(in_features=10**6, out_features=10**6),
        "nested": linear(in_features=[named("evilmod.Net")]),
        "list of classes": named(["evilmod.Net"]),
        "list of arguments": {"class_path": "lightning_fastrecipes.nn.small.SmallCNN",
                              "init_args": [1]},
        "no class": {"a": 1, "class_path": 3},
    }  # fmt: skip
    return nothing | numbers | lists | texts | {"long text": "x" * 100_000} | classes


def fields(value: Any, key: Key = ()) -> Iterator[Key]:
    """Yield the way to each field of a document; of lists only the first two items."""
    yield key
    inner = value.items() if isinstance(value, dict) else ()
    inner = list(enumerate(value))[:2] if isinstance(value, list) else inner
    for name, item in inner:
        yield from fields(item, (*key, name))


def changes(document: Any, marker: Path) -> Iterator[tuple[str, Any]]:
    """Yield a document with one field changed, removed, or another one beside it, and say which."""
    values = hostile_values(marker)
    for key in fields(document):
        where = ".".join(map(str, key))
        for word, value in values.items():
            yield f"{where}: {word[:30]!r}", _set(document, key, value)
        if key:
            yield f"{where}: {REMOVED}", _set(document, key, REMOVED)
        if isinstance(_get(document, key), dict):
            for name in ("zz", "class_path", "__class__", "trust"):
                yield f"{where}: with {name}", _set(document, (*key, name), "evilmod.Net")


def forget_code() -> None:
    """Let the module that a file has run be imported anew."""
    sys.modules.pop("evilmod", None)


def _get(document: Any, key: Key) -> Any:
    return functools.reduce(lambda part, name: part[name], key, document)


def _set(document: Any, key: Key, value: Any) -> Any:
    if not key:
        return value
    changed = copy.deepcopy(document)
    part = _get(changed, key[:-1])
    if value is REMOVED:
        del part[key[-1]]
    else:
        part[key[-1]] = value
    return changed
