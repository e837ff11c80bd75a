"""Objects and settings built from a recipe's plain values; a mistake is named by its key."""

import copy
import inspect
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import fields
from typing import Any, TypeVar, get_args

from jsonargparse import ArgumentError, ArgumentParser

import lightning_fastrecipes
from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes import trust
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.messages import shown, suggestion
from lightning_fastrecipes.recipe.config.documents import Place, check_keys
from lightning_fastrecipes.recipe.config.schema import ClassSpec

T = TypeVar("T")

_AS_WRITTEN = ("augmentation", "transforms")
RUNNER_KEYS = {
    "max_epochs": "set it per stage",
    "callbacks": "list them per stage",
    "default_root_dir": "use `--out`",
    "enable_checkpointing": "every stage writes one checkpoint",
    "fast_dev_run": "use `--fast-dev-run`",
}
"""Arguments of ``Trainer`` that the runner sets, and what to do instead."""


def build(spec: ClassSpec, base: type[T], place: Place, **extra: Any) -> T:
    """Build a subclass of ``base``; a `RecipeError` if the arguments do not fit its constructor.

    The arguments are the recipe's, and ``extra`` ones beside them.
    """
    # What the recipe names was checked when it was read.
    parser, parsed = _parse_class(spec, base, place, extra, check=False)
    try:
        built: T = parser.instantiate(parsed).object
    except ValueError as error:
        # jsonargparse lists what each type of a union said; the first is that of the class, unless
        # it is a union again.
        said = re.search(r"Errors:\s+- (?!Does not validate)(.*)", str(error))
        raise place.error(said[1] if said else error) from error
    return built


def read_class(value: Any, base: type, place: Place) -> ClassSpec:
    """Read a class path, or a mapping of ``class_path`` and ``init_args``, and check the arguments.

    Raise `RecipeError` if the class is not a subclass of ``base``, or an argument is wrong.
    """
    if isinstance(value, str):
        value = {"class_path": value}
    if not isinstance(value, Mapping) or "class_path" not in value:
        raise place.error(
            f"must be a mapping with `class_path` and `init_args`, but is {shown(value)}."
        )
    check_keys(value, ("class_path", "init_args"), place)
    init_args = value.get("init_args") or {}
    if not isinstance(init_args, Mapping):
        raise place.at("init_args").error(f"must be a mapping, but is {shown(init_args)}.")
    spec = ClassSpec(str(value["class_path"]), dict(init_args))
    known = constructor_arguments(_import(spec, base, place.at("class_path")))
    if known is not None:
        check_keys(spec.init_args, known, place, owner=spec.name)
    # `num_classes` is filled in from the data when the model is built.
    left_out = {"num_classes"} & set(known or ()) - set(spec.init_args)
    _parse_class(spec, base, place, dict.fromkeys(left_out, 2))
    return spec


def read_settings(cls: type[T], value: Any, place: Place, **ready: Any) -> T:
    """Build one of the schema's dataclasses from plain values and from fields that are ``ready``.

    Raise `RecipeError` if a field is unknown, missing or of another type.
    """
    if not isinstance(value, Mapping):
        raise place.error(f"must be a mapping, but is {shown(value)}.")
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    plain = {name: item for name, item in value.items() if name not in ready}
    check_keys(plain, names, place)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "object", skip=set(ready))
    # These may name classes, which jsonargparse takes apart, in place.
    written = {name: copy.deepcopy(plain[name]) for name in _AS_WRITTEN if name in plain}
    parsed = _parse(parser, {"object": plain}, place).object
    ready |= {name: one for name, one in written.items() if isinstance(one, (list, dict))}
    return cls(**{name: parsed[name] for name in names if name not in ready}, **ready)


def read_trainer(value: Any, place: Place, *, check: bool = True) -> dict[str, Any]:
    """Check the arguments of ``Trainer``, and build the objects among them.

    Without ``check`` they are trusted, because they were read before. Raise `RecipeError` if an
    argument is unknown, of a wrong type, or set by the runner.
    """
    if not isinstance(value, Mapping):
        raise place.error(f"must be a mapping, but is {shown(value)}.")
    for key, advice in RUNNER_KEYS.items():
        if key in value:
            raise place.at(key).error(f"is set by the runner: {advice}.")
    check_keys(value, constructor_arguments(pl.Trainer) or {}, place)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(pl.Trainer, "object", skip=set(RUNNER_KEYS), instantiate=False)
    built = parser.instantiate(_parse(parser, {"object": dict(value)}, place, check=check)).object
    return {key: built[key] for key in value}


def read_plain(annotation: type[T], value: Any, place: Place) -> T:
    """Return a value of exactly one type (``true`` is no number), or raise a `RecipeError`."""
    if type(value) is not annotation:
        wanted = "true or false" if annotation is bool else annotation.__name__
        raise place.error(f"must be {wanted}, but is {shown(value)}.")
    return value


def constructor_arguments(cls: Callable[..., Any]) -> dict[str, Any] | None:
    """Return the annotation of each argument by name, or ``None`` if any name is accepted.

    The keys of ``**options: Unpack[SomeTypedDict]`` count as arguments.
    """
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            options = get_args(parameter.annotation)
            if not options:
                return None
            found |= inspect.get_annotations(options[0], eval_str=True)
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            found[name] = parameter.annotation
    return found


def _import(spec: ClassSpec, base: type, place: Place) -> type:
    try:
        cls: Any = spec.load()
    except (ImportError, AttributeError, ValueError) as error:
        hint = suggestion(spec.name, lightning_fastrecipes.__all__, prefix="lightning_fastrecipes.")
        raise place.error(f"{spec.class_path!r} cannot be imported ({error}).{hint}") from error
    if not (inspect.isclass(cls) and issubclass(cls, base)):
        raise place.error(
            f"must name a subclass of `{base.__name__}` of `{base.__module__.partition('.')[0]}`,"
            f" but {spec.class_path!r} is {shown(cls)}."
        )
    return cls


def _parse_class(
    spec: ClassSpec, base: type, place: Place, extra: Mapping[str, Any], *, check: bool = True
) -> tuple[ArgumentParser, Any]:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(base, "object", required=True)
    init_args = {**spec.init_args, **extra}
    # A task builds its metrics, once it knows the classes, for whose number jsonargparse would ask.
    metrics = init_args.pop("metrics", None) if issubclass(base, pl.LightningModule) else None
    value = {"class_path": spec.class_path, "init_args": init_args}
    parsed = _parse(parser, {"object": value}, place, check=check)
    if metrics is not None:
        parsed.object.init_args["metrics"] = copy.deepcopy(metrics)
    return parser, parsed


def _parse(
    parser: ArgumentParser, value: dict[str, Any], place: Place, *, check: bool = True
) -> Any:
    try:
        with trust.guarded_imports(place.trust) if check else nullcontext():
            parsed = parser.parse_object(value)
    except (ArgumentError, TypeError, ValueError) as error:
        text = str(error).replace("object.init_args.", "").replace("object.", "")
        text = re.sub(r"\s+", " ", text.replace('"object"', f'"{place.key}"')).strip()
        raise place.error(text) from error
    try:
        if check:
            trust.check_values(parsed.object, place.trust)
    except ConfigurationError as error:
        raise place.error(error) from error
    return parsed
