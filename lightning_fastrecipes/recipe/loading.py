"""Recipe files read, overridden and checked: every mistake is named with file and key path."""

import copy
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.callbacks.schedule import Schedule
from lightning_fastrecipes.callbacks.snapshots import CycleSnapshots
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.messages import suggestion
from lightning_fastrecipes.old_names import WHOLE_VIEWS, has_whole_views, translate_recipe
from lightning_fastrecipes.recipe.config.building import make_parser, parse_values
from lightning_fastrecipes.recipe.config.documents import check_keys, read_document
from lightning_fastrecipes.recipe.config.overrides import (
    SECTIONS,
    Override,
    apply_override,
    read_override,
)
from lightning_fastrecipes.recipe.config.schema import (
    TTA,
    ClassSpec,
    Evaluation,
    Recipe,
    Rung,
    Stage,
)
from lightning_fastrecipes.recipe.shared.modality import Modality

T = TypeVar("T")

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
    document = translate_recipe(read_document(path))
    check_keys(document, SECTIONS, path, "")
    read = [apply_override(document, read_override(text, path), path) for text in overrides]
    rungs = document.get("rungs") or []
    # Written into a run folder, where the folder's own name says nothing of the recipe.
    folder_or_file = path.parent.resolve().name if path.name == "recipe.yaml" else path.stem
    document.setdefault("name", folder_or_file)
    recipe = _recipe({key: document[key] for key in document if key != "rungs"}, path)
    if not rungs:
        return recipe
    _append_to_rungs(document, [override for override in read if override.parts[0] != "rungs"])
    source = {key: document[key] for key in SECTIONS if key in document}
    return replace(recipe, rungs=_rungs(document, path), source=source)


def modality_of(recipe: Recipe) -> Modality:
    """Return whether a recipe is for images or for tables, by the class of its data.

    Args:
        recipe: A recipe, whose class paths are known to be right.

    Returns:
        The modality.
    """
    # Imported here, so that a recipe for tables imports no library of images.
    from lightning_fastrecipes.data.tables.datamodule import TabularDataModule

    module, _, name = recipe.data.class_path.rpartition(".")
    if issubclass(getattr(import_module(module), name), TabularDataModule):
        from lightning_fastrecipes.recipe.tables.modality import Tables

        return Tables()
    from lightning_fastrecipes.recipe.images.modality import Images

    return Images()


def _recipe(document: dict[str, Any], path: Path) -> Recipe:
    """Check a document without rungs, and read it."""
    missing = [key for key in REQUIRED if key not in document]
    if missing:
        raise RecipeError(f"{path}: the key `{missing[0]}` is missing. Add it at the top level.")
    data = _class_spec(document["data"], pl.LightningDataModule, path, "data")
    model = _class_spec(document["model"], pl.LightningModule, path, "model")
    stages = _stages(document["stages"], path)
    evaluation = _evaluation(document.get("evaluation") or {}, path)
    keeps_any = any(_has_callback(stage, CycleSnapshots) for stage in stages)
    if evaluation.ensemble is not None and not keeps_any:
        raise RecipeError(
            f"{path}: evaluation.ensemble: {evaluation.ensemble!r} needs snapshots, but no stage"
            " keeps any. Add `lightning_fastrecipes.CycleSnapshots` to a stage's callbacks."
        )
    recipe = Recipe(
        name=_typed(str, document["name"], path, "name"),
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
    modality_of(recipe).check(recipe)
    return recipe


def _append_to_rungs(document: dict[str, Any], overrides: Sequence[Override]) -> None:
    """Let what was said on the command line hold on every rung, also when the run is resumed."""
    for rung in document["rungs"]:
        # What is of another kind is refused by name later.
        if isinstance(rung, dict) and isinstance(rung.get("set") or {}, dict):
            changes = rung["set"] = rung.get("set") or {}
            for override in overrides:
                changes.pop(override.key, None)
                changes[override.key] = override.value


def _rungs(document: dict[str, Any], path: Path) -> tuple[Rung, ...]:
    """Read the rungs: each is the one before it, changed."""
    if not isinstance(document["rungs"], list):
        raise RecipeError(
            f"{path}: rungs: must be a list, but is {document['rungs']!r}."
            " Write `- {name: linear, set: {stages.all.max_epochs: 2}}`."
        )
    changed = {key: value for key, value in document.items() if key != "rungs"}
    rungs: list[Rung] = []
    for index, item in enumerate(document["rungs"]):
        key = f"rungs[{index}]"
        if not isinstance(item, Mapping):
            raise RecipeError(f"{path}: {key}: must be a mapping, but is {item!r}.")
        check_keys(item, ("name", "set", "seeds"), path, key)
        name = _typed(str, item.get("name"), path, f"{key}.name")
        _check_name(name, path, f"{key}.name")
        if name in [rung.name for rung in rungs]:
            raise RecipeError(f"{path}: rungs: two rungs are named {name!r}. Rename one.")
        changes = item.get("set") or {}
        if not isinstance(changes, Mapping):
            raise RecipeError(f"{path}: {key}.set: must be a mapping, but is {changes!r}.")
        num_models = _typed(int, item.get("seeds", 1), path, f"{key}.seeds")
        if num_models < 1:
            raise RecipeError(f"{path}: {key}.seeds: must be at least 1, but is {num_models}.")
        changed = copy.deepcopy(changed)
        for change, value in changes.items():
            override = Override(str(change), value, f"{key}.set: {change}")
            if override.parts[0] in {"rungs", "name"}:
                raise RecipeError(f"{path}: {override.label}: a rung changes the recipe alone.")
            apply_override(changed, override, path)
        recipe = _recipe(changed | {"name": f"{document['name']}-{name}"}, path)
        if num_models > 1 and recipe.evaluation.ensemble is not None:
            raise RecipeError(
                f"{path}: {key}.seeds: {num_models} models predict together, so"
                " `evaluation.ensemble` must be left out."
            )
        tta = recipe.evaluation.tta
        if num_models > 1 and isinstance(tta, TTA) and tta.plain_weight == "learn":
            raise RecipeError(
                f"{path}: {key}.seeds: {num_models} models predict together, and each would learn"
                " its own `evaluation.tta.plain_weight`. Give a number."
            )
        rungs.append(Rung(name, recipe, num_models))
    return tuple(rungs)


def _check_name(name: str, path: Path, key: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise RecipeError(f"{path}: {key}: must be letters, digits, '-' and '_', but is {name!r}.")


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
        _check_name(stage.name, path, f"{key}.name")
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


def _evaluation(value: Any, path: Path) -> Evaluation:
    if isinstance(value, Mapping) and has_whole_views(value.get("tta")):
        pl.rank_zero_warn(f"{path}: evaluation.tta: {WHOLE_VIEWS}")
        value = {**value, "tta": None}
    if not isinstance(value, Mapping) or not isinstance(value.get("tta"), Mapping):
        return _dataclass(Evaluation, value, path, "evaluation")
    plain = {name: content for name, content in value.items() if name != "tta"}
    tta = _dataclass(TTA, value["tta"], path, "evaluation.tta")
    return _dataclass(Evaluation, plain, path, "evaluation", tta=tta)


def _has_callback(stage: Stage, base: type) -> bool:
    """Return whether a stage has a callback of a kind; its class paths are known to be right."""
    paths = [spec.class_path.rpartition(".") for spec in stage.callbacks]
    classes = [getattr(__import__(module, fromlist=[name]), name) for module, _, name in paths]
    return any(issubclass(cls, base) for cls in classes)


def _trainer(value: Any, path: Path) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise RecipeError(f"{path}: trainer: must be a mapping, but is {value!r}.")
    for key, advice in RUNNER_KEYS.items():
        if key in value:
            raise RecipeError(f"{path}: trainer.{key}: is set by the runner: {advice}.")
    check_keys(
        value, set(inspect.signature(pl.Trainer).parameters) - set(RUNNER_KEYS), path, "trainer"
    )
    parser = make_parser(
        lambda p: p.add_class_arguments(
            pl.Trainer, "object", skip=set(RUNNER_KEYS), instantiate=False
        )
    )
    parsed = parse_values(parser, {"object": dict(value)}, path, "trainer")
    built = parser.instantiate(parsed).object
    return {key: built[key] for key in value}


def _class_spec(value: Any, base: type, path: Path, key: str) -> ClassSpec:
    if isinstance(value, str):
        value = {"class_path": value}
    if not isinstance(value, Mapping) or "class_path" not in value:
        raise RecipeError(
            f"{path}: {key}: must be a mapping with `class_path` and `init_args`, but is {value!r}."
        )
    check_keys(value, ("class_path", "init_args"), path, key)
    spec = ClassSpec(str(value["class_path"]), dict(value.get("init_args") or {}))
    cls = _import(spec.class_path, base, path, key)
    parameters = inspect.signature(cls).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        check_keys(spec.init_args, parameters, path, key, owner=spec.name)
    # Filled in from the data when the model is built.
    extra = {"num_classes": 2} if "num_classes" in parameters else {}
    parser = make_parser(lambda p: p.add_subclass_arguments(base, "object", required=True))
    checked = {"class_path": spec.class_path, "init_args": extra | spec.init_args}
    parse_values(parser, {"object": checked}, path, key)
    return spec


def _import(class_path: str, base: type, path: Path, key: str) -> type:
    module, _, name = class_path.rpartition(".")
    try:
        cls = getattr(__import__(module, fromlist=[name]), name)
    except (ImportError, AttributeError, ValueError) as error:
        known = __import__("lightning_fastrecipes").__all__
        raise RecipeError(
            f"{path}: {key}.class_path: {class_path!r} cannot be imported ({error})."
            + suggestion(name, known, prefix="lightning_fastrecipes.")
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
    check_keys(value, names, path, key)
    parser = make_parser(lambda p: p.add_class_arguments(cls, "object", skip=set(ready)))
    parsed = parse_values(parser, {"object": dict(value)}, path, key).object
    return cls(**{name: parsed[name] for name in names if name not in ready}, **ready)


def _typed(annotation: type[T], value: Any, path: Path, key: str) -> T:
    if not isinstance(value, annotation) or isinstance(value, bool):
        raise RecipeError(f"{path}: {key}: must be {annotation.__name__}, but is {value!r}.")
    return value


def _switch(value: Any, path: Path, key: str) -> bool:
    if not isinstance(value, bool):
        raise RecipeError(f"{path}: {key}: must be true or false, but is {value!r}.")
    return value
