"""Objects and settings built from a recipe's plain values; a mistake is named by its key."""

import copy
import inspect
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import fields
from typing import Any, TypeVar, get_args, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

import lightning_fastrecipes
from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes import trust
from lightning_fastrecipes.errors import ConfigurationError, RecipeError
from lightning_fastrecipes.messages import bounded, shown, suggestion
from lightning_fastrecipes.recipe.config.documents import Place, check_keys
from lightning_fastrecipes.recipe.config.schema import ClassSpec
from lightning_fastrecipes.typed import (
    find_cause,
    find_mistake,
    find_refusal,
    missing_arguments,
    type_in_words,
)

T = TypeVar("T")

_AS_WRITTEN = ("augmentation", "transforms")
_AS_IN_PYTHON = ("metrics",)
"""Arguments whose plain values the class reads by itself, from Python and from files alike."""
RUNNER_KEYS = {
    "max_epochs": "set it per stage",
    "callbacks": "list them per stage",
    "default_root_dir": "use `--out`",
    "enable_checkpointing": "every stage writes one checkpoint",
    "fast_dev_run": "use `--fast-dev-run`",
}
"""Arguments of ``Trainer`` that the runner sets, and what to do instead."""


_OF_JSONARGPARSE = re.compile(
    "Does not validate|Import path|Subtypes:|Errors:|Expected a|Given value|Not a valid|Problem"
    "|Subclass types"
)
"""How the lines begin in which it says what each type of a union did not take."""
_PARSER_KEY = re.compile(r'[Kk]ey "(?:object\.)?(\w+)')
_LEAST = {
    "accumulate_grad_batches": 1, "check_val_every_n_epoch": 1, "gradient_clip_val": 0,
    "log_every_n_steps": 0, "min_epochs": 0, "min_steps": 0, "num_nodes": 1,
    "num_sanity_val_steps": -1, "reload_dataloaders_every_n_epochs": 0,
}  # fmt: skip
"""Smallest numbers that ``Trainer`` may get."""


def build(spec: ClassSpec, base: type[T], place: Place, **extra: Any) -> T:
    """Build a subclass of ``base``; a `RecipeError` if the arguments do not fit its constructor.

    The arguments are the recipe's, and ``extra`` ones beside them.
    """
    cls, given = spec.load(), {**spec.init_args, **extra}
    written = {name: given.pop(name) for name in _AS_IN_PYTHON if name in given}
    # What the recipe names was checked when it was read.
    parser, parsed = _parse_arguments(cls, given, place, skip=set(written), check=False)
    try:
        arguments = parser.instantiate(parsed).object if given else {}
        built: T = cls(**{name: arguments[name] for name in given}, **written)
    except (ValueError, TypeError, pl.MisconfigurationException) as error:
        # Python's words, or a value that jsonargparse has made of a class path.
        is_foreign = isinstance(error, TypeError) or "Namespace(" in str(error)
        taken = constructor_arguments(cls) or {}
        cause = find_refusal(taken, given) if is_foreign or _is_jsonargparses(error) else None
        cause = find_cause(taken, given) if cause is None and is_foreign else cause
        if cause is not None:
            raise place.at(cause.key).error(cause.text) from error
        raise place.error(_innermost(error)) from error
    return built


def _is_jsonargparses(error: BaseException) -> bool:
    return "Does not validate" in str(error)


def _innermost(error: BaseException) -> object:
    """Return what a class of the recipe's said, without what jsonargparse makes of it."""
    if not _is_jsonargparses(error):
        return error
    lines = [line.strip().removeprefix("- ") for line in str(error).splitlines()]
    return next((line for line in lines if line and not _OF_JSONARGPARSE.match(line)), lines[0])


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
    init_args = {} if value.get("init_args") is None else value["init_args"]
    if not isinstance(init_args, Mapping):
        raise place.at("init_args").error(f"must be a mapping, but is {shown(init_args)}.")
    spec = ClassSpec(str(value["class_path"]), dict(init_args))
    known = constructor_arguments(_import(spec, base, place.at("class_path")))
    if known is not None:
        check_keys(spec.init_args, known, place, owner=spec.name)
    # `num_classes` is filled in from the data when the model is built.
    left_out = {"num_classes"} & set(known or ()) - set(spec.init_args)
    for name in set(_AS_IN_PYTHON) & set(spec.init_args):
        if not isinstance(spec.init_args[name], Mapping | None):
            raise place.at(name).error(
                f"must be a mapping from names to {name}, but is {shown(spec.init_args[name])}."
            )
    given = {k: v for k, v in spec.init_args.items() if k not in _AS_IN_PYTHON}
    skip = set(_AS_IN_PYTHON) & set(known or ())
    _parse_arguments(spec.load(), given | dict.fromkeys(left_out, 2), place, skip=skip)
    return spec


def read_settings(cls: type[T], value: Any, place: Place, **ready: Any) -> T:
    """Build one of the schema's dataclasses from plain values and from fields that are ``ready``.

    Raise `RecipeError` if a field is unknown, missing or of another type.
    """
    if not isinstance(value, Mapping):
        raise place.error(f"must be a mapping, but is {shown(value)}.")
    names, hints = [f.name for f in fields(cls)], get_type_hints(cls)  # type: ignore[arg-type]
    plain = {name: item for name, item in value.items() if name not in ready}
    check_keys(plain, names, place)
    types = {f.name: hints[f.name] for f in fields(cls) if f.name not in ready}  # type: ignore[arg-type]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "object", skip=set(ready))
    # These may name classes, which jsonargparse takes apart, in place.
    written = {name: copy.deepcopy(plain[name]) for name in _AS_WRITTEN if name in plain}
    parsed = _parse(parser, {"object": plain}, place, cls=cls, types=types).object
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
    known = constructor_arguments(pl.Trainer) or {}
    for name in [name for name in value if name not in known]:
        for key, advice in RUNNER_KEYS.items():
            if f"`{key}`" in suggestion(str(name), known):
                what = f"there is no key `{name}`, and `{key}` is set by the runner"
                raise place.error(f"{what}: {advice}.")
    check_keys(value, known, place)
    # Defaults of Lightning's may be of another type than what it takes.
    nothing = {key: None for key, one in value.items() if one is None}
    if (mistake := find_mistake(known, nothing)) is not None:
        raise place.at(mistake.key).error(mistake.text)
    _check_trainer_numbers(value, place)
    skip = set(RUNNER_KEYS)
    parser, parsed = _parse_arguments(pl.Trainer, value, place, skip=skip, check=check)
    built = parser.instantiate(parsed).object
    if not pl.keeps_whole_weights(built.get("strategy", "auto")):
        raise place.at("strategy").error(
            f"must keep whole weights in every process, as `ddp` does, but"
            f" {shown(value['strategy'])} spreads them. Use `ddp`, or leave it out for one device."
        )
    # To Lightning 1 is one batch, and 1.0 all of them; jsonargparse may make a fraction of it.
    return {key: one if type(one) is int else built[key] for key, one in value.items()}


def _check_trainer_numbers(value: Mapping[str, Any], place: Place) -> None:
    """Refuse numbers that Lightning takes, but not as they were meant."""
    for key, least in _LEAST.items():
        number = value.get(key)
        if isinstance(number, (int, float)) and number < least:
            raise place.at(key).error(f"must be at least {least}, but is {number}.")
    rehearse = "`--fast-dev-run` runs one batch of everything"
    splits = "`evaluation.splits` says which splits are measured in the end"
    nothing = {
        "max_steps": ("trained", rehearse),
        "limit_train_batches": ("trained", rehearse),
        "limit_val_batches": ("validated", splits),
        "limit_test_batches": ("tested", splits),
    }
    for key, (what, instead) in nothing.items():
        if key in value and type(value[key]) in (int, float) and value[key] == 0:
            raise place.at(key).error(
                f"must not be 0, with which nothing is {what}. Leave it out; {instead}."
            )


def read_plain(annotation: type[T], value: Any, place: Place) -> T:
    """Return a value of exactly one type (``true`` is no number), or raise a `RecipeError`."""
    if type(value) is not annotation:
        raise place.error(f"must be {type_in_words(annotation)}, but is {shown(value)}.")
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
        what, said = shown(spec.class_path), bounded(str(error), 300)
        raise place.error(f"{what} cannot be imported ({said}).{hint}") from error
    if not (inspect.isclass(cls) and issubclass(cls, base)):
        raise place.error(
            f"must name a subclass of `{base.__name__}` of `{base.__module__.partition('.')[0]}`,"
            f" but {shown(spec.class_path)} is none."
        )
    return cls


def _parse_arguments(
    cls: Any,
    given: Mapping[str, Any],
    place: Place,
    *,
    skip: set[str] | None = None,
    check: bool = True,
) -> tuple[ArgumentParser, Any]:
    """Parse the arguments of a class that plain values are given for."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "object", skip=skip, instantiate=False)
    taken = {k: v for k, v in (constructor_arguments(cls) or {}).items() if k not in (skip or ())}
    # It takes apart, in place, what names a class.
    value = {"object": copy.deepcopy(dict(given))}
    return parser, _parse(parser, value, place, check=check, cls=cls, types=taken)


def _parse(
    parser: ArgumentParser,
    value: dict[str, Any],
    place: Place,
    *,
    cls: Callable[..., Any],
    types: Mapping[str, Any],
    check: bool = True,
) -> Any:
    # Of dataclasses jsonargparse takes `null`, and classes by their path, for any value.
    is_own = check and str(cls.__module__).partition(".")[0] == "lightning_fastrecipes"
    mistake = find_mistake(types, value["object"]) if is_own else None
    try:
        with trust.guarded_imports(place.trust) if check else nullcontext():
            parsed = parser.parse_object(value)
    except (ArgumentError, TypeError, ValueError) as error:
        raise _in_our_words(error, value["object"], place, cls, types) from error
    try:
        if check:
            trust.check_values(parsed.get("object"), place.trust)
    except ConfigurationError as error:
        raise place.error(error) from error
    if mistake is not None:
        raise place.at(mistake.key).error(mistake.text)
    return parsed


def _in_our_words(
    error: Exception,
    given: Mapping[str, Any],
    place: Place,
    cls: Callable[..., Any],
    types: Mapping[str, Any],
) -> RecipeError:
    """Return an error that names the missing key or the wrong type, instead of jsonargparse's."""
    if missing := [name for name in missing_arguments(cls, given) if name in types]:
        return place.error(f"needs {' and '.join(f'`{name}`' for name in missing)}. Add it.")
    if (mistake := find_mistake(types, given)) is not None:
        return place.at(mistake.key).error(mistake.text)
    key = next((name for name in _PARSER_KEY.findall(str(error)) if name in types), None)
    if key is not None:
        wanted = type_in_words(types[key])
        return place.at(key).error(f"must be {wanted}, but is {shown(given.get(key))}.")
    # Of classes that hand their arguments on to others, these are not known.
    for name in _PARSER_KEY.findall(str(error)):
        if name in given:
            return place.at(name).error(
                f"must be what `{cls.__name__}` takes, but is {shown(given[name])}."
            )
    if odd := re.search(r"does not accept option '([^']*)'", str(error)):
        return place.error(f"`{cls.__name__}` has no argument '{odd[1]}'.")
    return place.error(f"cannot be read: {bounded(str(_innermost(error)), 500)}")
