"""Which classes and functions a file may name, decided from their paths before any import.

Recipes, run folders, exports and checkpoints may come from strangers. They may name classes of the
packages below, and code of modules that the user trusts. What is named in Python is not checked.
"""

import inspect
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from enum import Enum
from functools import partial
from types import FrameType
from typing import Any

from lightning_fastrecipes.dotted import load_object
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.messages import bounded, shown

Trust = Sequence[str]
"""Modules whose code a file may name besides the packages below."""

_LIGHTNING = {"pytorch_lightning", "lightning", "lightning_fabric"}
_NETWORKS = {"lightning_fastrecipes", "torch", "torchvision", "timm"}
_PACKAGES = _NETWORKS | _LIGHTNING | {"torchmetrics"}
# Most classes of these packages are of no use in a file, and some start processes or read pickles.
_TORCH_BASES = {"Module", "Optimizer", "LRScheduler"}
_LIGHTNING_BASES = {
    "Accelerator", "Callback", "CheckpointIO", "ClusterEnvironment", "LayerSync",
    "LightningDataModule", "Logger", "Precision", "Profiler", "Strategy",
}  # fmt: skip
_FUNCTIONS = "lightning_fastrecipes.functional."
_TRANSFORMS = ("torchvision.transforms.", "lightning_fastrecipes.functional.images.")
_NETWORK_LOGGERS = {"CometLogger", "LitLogger", "MLFlowLogger", "NeptuneLogger", "WandbLogger"}
_REMOTE = re.compile(r"(hf[-_]hub|local[-_]dir|\w+(?=://)):", re.IGNORECASE)
# What parsers of addresses leave out of them.
_UNSEEN = re.compile(r"[\s\0-\x20\u200b-\u200f\ufeff]")
_MOST_PARTS = 30


def class_paths(document: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the key path and the path of each class and function that a document names.

    Nothing is imported.

    >>> list(class_paths({"data": {"class_path": "a.B"}, "model": "c.D"}))
    [('data', 'a.B'), ('model', 'c.D')]
    """
    items = document.items() if isinstance(document, Mapping) else enumerate(document)
    for name, value in items:
        where = f"{key}.{name}" if key else str(name)
        *above, last = where.split(".")
        if last in ("class_path", "_class_path"):
            yield key, str(value)
        elif isinstance(value, str):
            is_section = last in ("data", "model") and (not above or above[0] == "variants")
            # Metrics of several targets are named one level deeper.
            is_named = last == "optimizer" or above[-1:] == ["callbacks"] or "metrics" in above[-2:]
            # Below `data` these are names of columns.
            if is_section or (is_named and "data" not in above):
                yield where, value
        elif isinstance(value, (Mapping, list, tuple, set)):
            yield from class_paths(value, where)


def check_document(document: Any, trust: Trust = ()) -> None:
    """Check all classes and functions that a document of plain values names.

    Raise `ConfigurationError` if one is not of the known packages nor of the modules in ``trust``,
    and none has been imported then; or if a path leads nowhere, except those of ``data``,
    ``model`` and callbacks, which are read later.
    """
    named = list(class_paths(document))
    for key, path in named:
        _check_path(path, key, trust)
    for key, path in named:
        try:
            _check_object(load_object(path), path, key, trust)
        except (ImportError, AttributeError, ValueError) as error:
            if isinstance(error, ConfigurationError):
                raise
            is_read_later = ".callbacks" in key or key.rpartition(".")[2] in ("data", "model")
            if "." in path and not is_read_later:
                raise ConfigurationError(f"{key}: `{path}` leads nowhere ({error}).") from error


def check_architecture(
    architecture: Mapping[str, Any], trust: Trust, keys: Collection[str] | None = None
) -> dict[str, Any]:
    """Check the arguments of a model in an export or a checkpoint; raise `ConfigurationError`.

    Return the arguments, changed so that no weights are fetched: the file holds them.
    """
    if unknown := [str(key) for key in architecture if keys is not None and key not in keys]:
        raise ConfigurationError(f"it must have {', '.join(keys or ())} alone, but has {unknown}")
    # The spec of a table names columns.
    arguments = {name: value for name, value in architecture.items() if name != "spec"}
    check_document(arguments, trust)
    for key, path in class_paths(arguments):
        # Metrics and Lightning's classes are no networks, and some of them fetch files.
        if path.partition(".")[0] not in _NETWORKS and not _is_trusted(path, trust):
            raise _refusal(key, path, "is neither a network nor an optimizer")
    local = {"backbone": _local(architecture.get("backbone")), "pretrained": False, "weights": None}
    return {key: local.get(key, value) for key, value in architecture.items()}


@contextmanager
def guarded_imports(trust: Trust = ()) -> Iterator[None]:
    """Let jsonargparse import only trusted modules for values, whatever form they are written in.

    It reads text as YAML, and imports it where an argument takes a class or a function.
    """
    sys.meta_path.insert(0, guard := _Guard(trust))
    try:
        yield
    finally:
        sys.meta_path.remove(guard)


def check_values(parsed: Any, trust: Trust = (), key: str = "") -> None:
    """Check the classes and functions in what jsonargparse has parsed, before any is built."""
    if inspect.isroutine(parsed) or inspect.isclass(parsed) or isinstance(parsed, partial):
        name = getattr(parsed, "__qualname__", type(parsed).__name__)
        _check_object(parsed, f"{getattr(parsed, '__module__', None)}.{name}", key, trust)
    elif isinstance(parsed, (list, tuple, set)):
        for item in parsed:
            check_values(item, trust, key)
    elif isinstance(parsed, Mapping) or (
        hasattr(parsed, "__dict__") and not isinstance(parsed, Enum)
    ):
        values = parsed if isinstance(parsed, Mapping) else vars(parsed)
        if isinstance(values.get("class_path"), str):
            check_document({key: {"class_path": values["class_path"]}}, trust)
        for name, item in values.items():
            check_values(item, trust, f"{key}.{name}" if key else str(name))


class _Guard:
    """A finder of modules that finds none, and refuses those that are not trusted."""

    def __init__(self, trust: Trust) -> None:
        self.trust = trust

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        frame: FrameType | None = inspect.currentframe()
        while frame is not None and (
            "importlib" in frame.f_code.co_filename or frame.f_code.co_filename == __file__
        ):
            frame = frame.f_back
        # These functions of jsonargparse import what a value names; its other imports are its own.
        if (
            frame is not None
            and frame.f_code.co_name in ("import_object", "adapt_typehints")
            and str(frame.f_globals.get("__name__")).startswith("jsonargparse.")
        ):
            try:
                _check_path(f"{fullname}.x", "", self.trust)
            except ConfigurationError as error:
                raise ModuleNotFoundError(str(error)) from error


def _is_trusted(path: str, trust: Trust) -> bool:
    return any(path == module or path.startswith(f"{module}.") for module in trust)


def _check_path(path: str, key: str, trust: Trust) -> None:
    package, dot, rest = path.partition(".")
    if _is_trusted(path, trust) or not dot:  # without a dot nothing can be imported
        return
    # A package that need not be installed could be a folder of the stranger's.
    known = package in _PACKAGES and (package != "lightning" or package in sys.modules)
    parts = path.split(".")
    if not known or len(parts) > _MOST_PARTS or not all(part.isidentifier() for part in parts):
        raise _refusal(key, path, "is not of a package that files may name")
    if rest.startswith("_") or "._" in rest:
        raise _refusal(key, path, "is private")
    # Other classes fetch weights, or do what else they do, on being built.
    is_drawn = {"augmentation", "transforms"} & {*key.split(".")}
    if is_drawn and not path.startswith(_TRANSFORMS):
        raise _refusal(key, path, "is no transform of `torchvision.transforms`")


def _check_object(found: Any, path: str, key: str, trust: Trust) -> None:
    """Check what a path leads to: re-exports of other packages, and classes that do more."""
    defined = str(getattr(found, "__module__", None))
    if _is_trusted(path, trust) or _is_trusted(defined, trust):
        return
    package = defined.partition(".")[0]
    if not inspect.isclass(found):
        # Pure functions, such as metrics.
        is_pure = package == "torchmetrics" or defined.startswith(_FUNCTIONS)
        fits = inspect.isfunction(found) and is_pure
    else:
        bases = {(base.__module__.partition(".")[0], base.__name__) for base in found.__mro__}
        fits = any(
            name in (_TORCH_BASES if root == "torch" else _LIGHTNING_BASES)
            for root, name in bases
            if root == "torch" or root in _LIGHTNING
        )
        is_options = package == "lightning_fastrecipes" and is_dataclass(found)
        fits = package in _PACKAGES and (fits or is_options)
    if not fits:
        raise _refusal(key, path, "is nothing that files may name")
    if package in _LIGHTNING and getattr(found, "__name__", "") in _NETWORK_LOGGERS:
        raise _refusal(key, path, "sends what is trained over the network")


def _local(value: Any) -> Any:
    if isinstance(value, str) and _REMOTE.match(_UNSEEN.sub("", value)):
        raise ConfigurationError(
            f"A network must be built without fetching anything, but the file says {value!r}."
            " Load it in Python, where you name its backbone."
        )
    if isinstance(value, Mapping):
        return {k: False if k == "pretrained" else _local(v) for k, v in value.items()}
    return [_local(item) for item in value] if isinstance(value, (list, tuple)) else value


def _refusal(key: str, path: str, why: str) -> ConfigurationError:
    where = f"{bounded(key, 200)}: " if key else ""
    module = path.rpartition(".")[0]
    # Not a whole known package, which would trust all that is in it.
    needed = path if module in _PACKAGES else module
    cure = "Name a class or a function by its path, such as `torch.nn.ReLU`."
    if len(needed) < 200 and all(part.isidentifier() for part in needed.split(".")):
        cure = (
            f"If you know what it does, trust it: `--trust {needed}`, or `trust=['{needed}']` in"
            " Python."
        )
    return ConfigurationError(f"{where}`{shown(path)[1:-1]}` {why}, so it was not run. {cure}")
