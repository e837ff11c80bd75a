"""Recipe files read, overridden and checked: every mistake is named with file and key path."""

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_args

import pytorch_lightning as pl
from jsonargparse import ArgumentError, ArgumentParser

from lightning_fastrecipes.callbacks.schedule import Schedule
from lightning_fastrecipes.callbacks.snapshots import CycleSnapshots
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.documents import parse_value, read_document
from lightning_fastrecipes.recipe.schema import ClassSpec, Evaluation, Recipe, Stage

T = TypeVar("T")

SECTIONS = (
    "name", "description", "seed", "data", "model", "trainer", "stages", "evaluation",
    "initial_checks",
)  # fmt: skip
REQUIRED = ("description", "data", "model", "stages")
# Set for every stage by the runner; a recipe that sets them too would say one thing twice.
RUNNER_KEYS = {
    "max_epochs": "set it per stage",
    "callbacks": "list them per stage",
    "default_root_dir": "use `--out`",
    "enable_checkpointing": "every stage writes one checkpoint",
    "fast_dev_run": "use `--fast-dev-run`",
}


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, apply overrides and check every key and type.

    Args:
        path: A ``recipe.yaml``.
        overrides: ``key.path=value`` each: ``data.root=photos``, ``trainer.devices=2``,
            ``stages.head.max_epochs=3``. Keys of ``data`` and ``model`` are the arguments of
            their classes.

    Returns:
        The recipe, with nothing built yet.

    Raises:
        RecipeError: If the file or an override cannot be understood.
    """
    document = read_document(path)
    for override in overrides:
        _apply_override(document, override, path)
    _check_keys(document, SECTIONS, path, "")
    missing = [key for key in REQUIRED if key not in document]
    if missing:
        raise RecipeError(f"{path}: the key `{missing[0]}` is missing. Add it at the top level.")
    data = _class_spec(document["data"], pl.LightningDataModule, path, "data")
    model = _class_spec(document["model"], pl.LightningModule, path, "model")
    stages = _stages(document["stages"], path)
    evaluation = _dataclass(Evaluation, document.get("evaluation") or {}, path, "evaluation")
    keeps_any = any(_has_callback(stage, CycleSnapshots) for stage in stages)
    if evaluation.ensemble is not None and not keeps_any:
        raise RecipeError(
            f"{path}: evaluation.ensemble: {evaluation.ensemble!r} needs snapshots, but no stage"
            " keeps any. Add `lightning_fastrecipes.CycleSnapshots` to a stage's callbacks."
        )
    # Written into a run folder, where the folder's own name says nothing of the recipe.
    folder_or_file = path.parent.resolve().name if path.name == "recipe.yaml" else path.stem
    name = document.setdefault("name", folder_or_file)
    return Recipe(
        name=_typed(str, name, path, "name"),
        path=path,
        description=_typed(str, document["description"], path, "description"),
        seed=_typed(int, document.get("seed", 0), path, "seed"),
        data=data,
        model=model,
        trainer=_trainer(document.get("trainer") or {}, path),
        stages=stages,
        evaluation=evaluation,
        initial_checks=_switch(document.get("initial_checks", True), path, "initial_checks"),
        source={key: document[key] for key in SECTIONS if key in document},
    )


def build(spec: ClassSpec, base: type[T], path: Path, key: str, **extra: Any) -> T:
    """Build the object that a specification describes.

    Args:
        spec: Class and arguments.
        base: What the object must be an instance of.
        path: The recipe file, for messages.
        key: Key path of the specification, for messages.
        **extra: Arguments that the recipe leaves out.

    Returns:
        The object.

    Raises:
        RecipeError: If the arguments do not fit the constructor.
    """
    parser = _parser(lambda p: p.add_subclass_arguments(base, "object", required=True))
    value = {"class_path": spec.class_path, "init_args": {**spec.init_args, **extra}}
    built = parser.instantiate(_parsed(parser, {"object": value}, path, key))
    result: T = built.object
    return result


def _stages(value: Any, path: Path) -> tuple[Stage, ...]:
    if not isinstance(value, list) or not value:
        raise RecipeError(
            f"{path}: stages: must be a list of at least one stage, but is {value!r}."
            " Write `- {name: head, max_epochs: 1}`."
        )
    stages = []
    for index, item in enumerate(value):
        key = f"stages[{index}]"
        if not isinstance(item, Mapping):
            raise RecipeError(f"{path}: {key}: must be a mapping, but is {item!r}.")
        plain = {name: content for name, content in item.items() if name != "callbacks"}
        callbacks = item.get("callbacks") or []
        if not isinstance(callbacks, list):
            raise RecipeError(f"{path}: {key}.callbacks: must be a list, but is {callbacks!r}.")
        specs = tuple(
            _class_spec(spec, pl.Callback, path, f"{key}.callbacks[{i}]")
            for i, spec in enumerate(callbacks)
        )
        stage = _dataclass(Stage, plain, path, key, callbacks=specs)
        if not re.fullmatch(r"[A-Za-z0-9_-]+", stage.name):
            raise RecipeError(
                f"{path}: {key}.name: must be letters, digits, '-' and '_', but is {stage.name!r}."
            )
        if stage.max_epochs < 1:
            raise RecipeError(
                f"{path}: {key}.max_epochs: must be at least 1, but is {stage.max_epochs}."
                " Remove the stage to leave it out."
            )
        if stage.until_overfitting < 0:
            raise RecipeError(
                f"{path}: {key}.until_overfitting: must be a number of cycles, at least 0, but is"
                f" {stage.until_overfitting}."
            )
        if stage.until_overfitting and not _has_callback(stage, Schedule):
            raise RecipeError(
                f"{path}: {key}.until_overfitting: looks at the ends of cycles, but the stage has"
                " none. Add `lightning_fastrecipes.SGDR` to its callbacks."
            )
        stages.append(stage)
    names = [stage.name for stage in stages]
    for name in names:
        if names.count(name) > 1:
            raise RecipeError(f"{path}: stages: two stages are named {name!r}. Rename one.")
    return tuple(stages)


def _has_callback(stage: Stage, base: type) -> bool:
    """Tell whether a stage has a callback of a kind; its class paths are known to be right."""
    paths = [spec.class_path.rpartition(".") for spec in stage.callbacks]
    classes = [getattr(__import__(module, fromlist=[name]), name) for module, _, name in paths]
    return any(issubclass(cls, base) for cls in classes)


def _trainer(value: Any, path: Path) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise RecipeError(f"{path}: trainer: must be a mapping, but is {value!r}.")
    for key, advice in RUNNER_KEYS.items():
        if key in value:
            raise RecipeError(f"{path}: trainer.{key}: is set by the runner: {advice}.")
    _check_keys(
        value, set(inspect.signature(pl.Trainer).parameters) - set(RUNNER_KEYS), path, "trainer"
    )
    parser = _parser(
        lambda p: p.add_class_arguments(
            pl.Trainer, "object", skip=set(RUNNER_KEYS), instantiate=False
        )
    )
    parsed = _parsed(parser, {"object": dict(value)}, path, "trainer")
    built = parser.instantiate(parsed).object
    return {key: built[key] for key in value}


def _class_spec(value: Any, base: type, path: Path, key: str) -> ClassSpec:
    if isinstance(value, str):
        value = {"class_path": value}
    if not isinstance(value, Mapping) or "class_path" not in value:
        raise RecipeError(
            f"{path}: {key}: must be a mapping with `class_path` and `init_args`, but is {value!r}."
        )
    _check_keys(value, ("class_path", "init_args"), path, key)
    spec = ClassSpec(str(value["class_path"]), dict(value.get("init_args") or {}))
    cls = _import(spec.class_path, base, path, key)
    parameters = inspect.signature(cls).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        _check_keys(spec.init_args, parameters, path, key, owner=spec.name)
    # Filled in from the data when the model is built.
    extra = {"num_classes": 2} if "num_classes" in parameters else {}
    parser = _parser(lambda p: p.add_subclass_arguments(base, "object", required=True))
    checked = {"class_path": spec.class_path, "init_args": extra | spec.init_args}
    _parsed(parser, {"object": checked}, path, key)
    return spec


def _import(class_path: str, base: type, path: Path, key: str) -> type:
    module, _, name = class_path.rpartition(".")
    try:
        cls = getattr(__import__(module, fromlist=[name]), name)
    except (ImportError, AttributeError, ValueError) as error:
        known = __import__("lightning_fastrecipes").__all__
        raise RecipeError(
            f"{path}: {key}.class_path: {class_path!r} cannot be imported ({error})."
            + _suggestion(name, known, prefix="lightning_fastrecipes.")
        ) from error
    if not (inspect.isclass(cls) and issubclass(cls, base)):
        raise RecipeError(
            f"{path}: {key}.class_path: must name a subclass of `{base.__name__}` of"
            f" `{base.__module__.partition('.')[0]}`, but {class_path!r} is {cls!r}."
        )
    return cls


def _dataclass(cls: type[T], value: Any, path: Path, key: str, **ready: Any) -> T:
    """Build one of the schema's dataclasses from plain values; ``ready`` is taken as it is."""
    if not isinstance(value, Mapping):
        raise RecipeError(f"{path}: {key}: must be a mapping, but is {value!r}.")
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    _check_keys(value, names, path, key)
    parser = _parser(lambda p: p.add_class_arguments(cls, "object", skip=set(ready)))
    parsed = _parsed(parser, {"object": dict(value)}, path, key).object
    return cls(**{name: parsed[name] for name in names if name not in ready}, **ready)


def _typed(annotation: type[T], value: Any, path: Path, key: str) -> T:
    if not isinstance(value, annotation) or isinstance(value, bool):
        raise RecipeError(f"{path}: {key}: must be {annotation.__name__}, but is {value!r}.")
    return value


def _switch(value: Any, path: Path, key: str) -> bool:
    if not isinstance(value, bool):
        raise RecipeError(f"{path}: {key}: must be true or false, but is {value!r}.")
    return value


def _parser(add: Callable[[ArgumentParser], Any]) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    add(parser)
    return parser


def _parsed(parser: ArgumentParser, value: dict[str, Any], path: Path, key: str) -> Any:
    try:
        return parser.parse_object(value)
    except (ArgumentError, TypeError, ValueError) as error:
        text = str(error).replace("object.init_args.", "").replace("object.", "")
        text = re.sub(r"\s+", " ", text.replace('"object"', f'"{key}"')).strip()
        raise RecipeError(f"{path}: {key}: {text}") from error


def _check_keys(
    value: Mapping[str, Any], known: Iterable[str], path: Path, key: str, owner: str = ""
) -> None:
    known = [name for name in known if name != "self"]
    for name in value:
        if name not in known:
            what = f"`{owner}` has no argument `{name}`" if owner else f"there is no key `{name}`"
            where = f"{path}: {key}: " if key else f"{path}: "
            options = (
                ""
                if difflib.get_close_matches(str(name), known, 1)
                else (f" Known: {', '.join(known)}.")
            )
            raise RecipeError(f"{where}{what}.{_suggestion(str(name), known)}{options}")


def _suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean `{prefix}{close[0]}`?" if close else ""


def _apply_override(document: dict[str, Any], override: str, path: Path) -> None:
    key, separator, text = override.partition("=")
    parts = key.split(".")
    if not separator or not all(parts):
        raise RecipeError(
            f"`{override}` is no override. Write `--key.path=value`, such as `--data.root=photos`."
        )
    _check_keys({parts[0]: None}, SECTIONS, path, f"override --{key}")
    if parts[0] in {"data", "model"} and parts[1:2] not in (["class_path"], ["init_args"]):
        parts.insert(1, "init_args")
    target: Any = document
    for position, part in enumerate(parts[:-1]):
        where = ".".join(parts[: position + 1])
        if isinstance(target, list):
            target = _stage_named(target, part, path, key)
        elif isinstance(target, dict):
            if target.get(part) is None:
                target[part] = {}
            target = target[part]
        else:
            raise RecipeError(f"{path}: override --{key}: `{where}` holds no keys.")
    if isinstance(target, list):
        raise RecipeError(f"{path}: override --{key}: name one key of one stage.")
    if not isinstance(target, dict):
        raise RecipeError(f"{path}: override --{key}: `{'.'.join(parts[:-1])}` holds no keys.")
    target[parts[-1]] = _override_value(document, parts, text)


def _stage_named(stages: list[Any], name: str, path: Path, key: str) -> Any:
    names = [str(stage.get("name")) for stage in stages if isinstance(stage, dict)]
    if name in names:
        return stages[names.index(name)]
    if name.isdigit() and int(name) < len(stages):
        return stages[int(name)]
    raise RecipeError(
        f"{path}: override --{key}: there is no stage {name!r}. Stages: {', '.join(names)}."
    )


def _override_value(document: dict[str, Any], parts: list[str], text: str) -> Any:
    """Read a value as YAML, but leave text alone where the argument takes text, such as a path."""
    value = parse_value(text) if text else ""
    if parts[0] in {"data", "model"} and isinstance(value, (int, float, bool)):
        try:
            module, _, name = str(document[parts[0]]["class_path"]).rpartition(".")
            cls = getattr(__import__(module, fromlist=[name]), name)
            annotation = inspect.signature(cls).parameters[parts[-1]].annotation
        except (ImportError, AttributeError, KeyError, TypeError, ValueError):
            return value
        options = {annotation, *get_args(annotation)}
        if str in options and type(value) not in options:
            return text
    return value
