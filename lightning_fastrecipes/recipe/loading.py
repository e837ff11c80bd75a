"""Read recipe files: overrides and variants applied, every key and type checked."""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes import plain
from lightning_fastrecipes.callbacks.snapshots import CycleSnapshots
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.functional.training.save_interval import save_interval
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.nn.weights import read_checkpoint
from lightning_fastrecipes.old_names import WHOLE_VIEWS, has_whole_views
from lightning_fastrecipes.recipe.artifacts.export_files import member_folders, read_description
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder
from lightning_fastrecipes.recipe.config.bounds import check_bounds, check_sizes
from lightning_fastrecipes.recipe.config.building import (
    read_class,
    read_plain,
    read_settings,
    read_trainer,
)
from lightning_fastrecipes.recipe.config.documents import Place
from lightning_fastrecipes.recipe.config.merging import (
    OF_THE_WHOLE,
    check_trust,
    merge_document,
    refuse_ranges,
)
from lightning_fastrecipes.recipe.config.overrides import SECTIONS, Override, apply_override
from lightning_fastrecipes.recipe.config.schema import (
    TTA,
    Evaluation,
    Recipe,
)
from lightning_fastrecipes.recipe.config.several import check_several
from lightning_fastrecipes.recipe.config.stages import (
    check_name,
    has_callback,
    read_parts,
    read_stages,
)
from lightning_fastrecipes.recipe.shared.modality import Modality
from lightning_fastrecipes.tasks.base import CHECKPOINT_KEY
from lightning_fastrecipes.trust import Trust

_PLAIN = {
    "name": str, "description": str, "seed": int, "seeds": int, "folds": int, "train_metrics": int,
    "initial_checks": bool, "validation_guard": bool, "report": bool,
}  # fmt: skip
_MOST_SEED = 4_000_000
"""A stage has a thousand times the seed of its recipe, and numpy takes up to 2**32."""
_SIDE_STEP = "side_step"
"""Among the changes of a variant: whether the next one does without them."""


def load_recipe(
    path: Path,
    overrides: Sequence[str] = (),
    variant: str | None = None,
    *,
    trust: Trust = (),
    document: Mapping[str, Any] | None = None,
) -> Recipe:
    """Read a recipe file, apply overrides and check every key and type; nothing is built yet.

    An override is ``key.path=value``: ``data.root=photos``, ``trainer.devices=2``,
    ``stages.head.max_epochs=3``, ``stages.all.callbacks.SGDR.cycle_len=2``. Keys of ``data``,
    ``model`` and callbacks are the arguments of their classes. ``variant`` names the one to load,
    ``None`` the recipe itself. Overrides hold for what is loaded, and for every variant of a
    series. Paths of the file that lie beside it are taken from there. ``trust`` names modules
    whose code the recipe may use besides the packages of `trust.py`. A ``document`` is read in
    place of what the file holds. Raise `RecipeError` if the file or an override cannot be
    understood, or names other code, which has not been imported then.
    """
    place = Place(path, trust=tuple(trust))
    document, applied, variant = merge_document(place, overrides, variant, document)
    refuse_ranges(document, place)
    check_bounds(document, [(override.key, override.value) for override in applied], place)
    recipe = _read_recipe({k: v for k, v in document.items() if k not in OF_THE_WHOLE[1:]}, place)
    check_sizes(document, place)
    if "variants" in document or "series" in document:
        series = document.get("series")
        variants = _read_variants(document, applied if series else [], place)
        recipe = replace(recipe, variants=variants, series=series)
        if recipe.series is not None:
            source = {key: document[key] for key in SECTIONS if key in document}
            recipe = replace(recipe, source=source)
    return recipe if variant is None else recipe.variant(variant)


def modality_of(recipe: Recipe) -> Modality:
    """Return whether a recipe is for images or for tables, by the class of its data."""
    from lightning_fastrecipes.data.tables.datamodule import TabularDataModule

    return _modality(is_table=issubclass(recipe.data.load(), TabularDataModule))


def modality_of_export(folder: Path) -> Modality:
    """Return whether the exported model of a run folder is of images or of a table.

    Raise `DataNotFoundError` if there is no export, `DataError` if it is damaged or made by a newer
    version.
    """
    description = read_description(member_folders(folder)[0])
    return _modality(is_table=description["task"].startswith("table "))


def modality_of_model(model: pl.LightningModule) -> Modality:
    """Return whether a task is of images or of a table."""
    from lightning_fastrecipes.tasks.table_task import TabularTask

    return _modality(is_table=isinstance(model, TabularTask))


def task_of_checkpoint(path: Path) -> type[Any]:
    """Return the class of the task that a checkpoint is of; raise `DataError` if it is of none."""
    saved = read_checkpoint(path, mmap=True).get(CHECKPOINT_KEY) or {}
    try:
        plain.named(plain.anything)(saved, CHECKPOINT_KEY)
        return _modality(is_table="table_spec" in saved).task_of(saved)
    except ValueError as error:
        raise DataError(
            f"'{path}' must be a checkpoint of a task of this package, such as `ImageClassifier`,"
            " but is of another module. Load it with its own class."
        ) from error


def _modality(*, is_table: bool) -> Modality:
    # Imported here, so that a recipe for tables imports no library of images.
    if is_table:
        from lightning_fastrecipes.recipe.tables.modality import Tables

        return Tables()
    from lightning_fastrecipes.recipe.images.modality import Images

    return Images()


def _read_recipe(document: dict[str, Any], place: Place) -> Recipe:
    """Check a document without variants, and read it."""
    check_trust(document, place)
    for key in ("description", "data", "model", "stages"):
        if key not in document:
            raise place.error(f"the key `{key}` is missing. Add it at the top level.")
    recipe = Recipe(
        path=place.path,
        data=read_class(document["data"], pl.LightningDataModule, place.at("data")),
        model=read_class(document["model"], pl.LightningModule, place.at("model")),
        trainer=read_trainer(_or(document.get("trainer"), {}), place.at("trainer")),
        stages=read_stages(document["stages"], place.at("stages")),
        evaluation=_read_evaluation(_or(document.get("evaluation"), {}), place.at("evaluation")),
        parts=read_parts(_or(document.get("parts"), []), document["stages"], place.at("parts")),
        source={key: document[key] for key in SECTIONS if key in document},
        save_every=_read_interval(document.get("save_every"), place.at("save_every")),
        **{
            key: read_plain(kind, document[key], place.at(key))
            for key, kind in _PLAIN.items()
            if key in document
        },
    )
    if not re.fullmatch(r"(?!\.)[^/\\:\x00-\x1f\x7f]{1,100}", recipe.name):
        raise place.at("name").error(
            f"must be a plain name of a folder, such as `photos`, but is {shown(recipe.name)}."
        )
    _check_evaluation(recipe, place)
    _check_rates(recipe, place.at("model"))
    modality_of(recipe).check(recipe)
    return recipe


def _check_rates(recipe: Recipe, place: Place) -> None:
    """Refuse rates of the model, which those of every stage replace; of a run they are told."""
    optim = recipe.model.init_args.get("optim")
    parts = {"": recipe.model.init_args, "optim.": optim if isinstance(optim, Mapping) else {}}
    for prefix, arguments in parts.items():
        for key in ("lr", "lr_ratio"):
            if key in arguments and recipe.model.class_path.startswith("lightning_fastrecipes."):
                error = place.at(f"{prefix}{key}").error(
                    "has no effect in a recipe, since every stage has its own. Write"
                    f" `stages.NAME.{key}`."
                )
                # Earlier versions have run such recipes.
                if not RunFolder(recipe.path.parent).progress.is_file():
                    raise error
                pl.rank_zero_warn(str(error))


def _or(value: Any, default: Any) -> Any:
    """Return a value, or the default of a key that is left out or empty."""
    return default if value is None else value


def _read_interval(value: Any, place: Place) -> int | str | None:
    if value is None:
        return None
    try:
        save_interval(value)
    except ConfigurationError as error:
        raise place.error(error) from error
    return value  # type: ignore[no-any-return]


def _check_evaluation(recipe: Recipe, place: Place) -> None:
    """Refuse an evaluation that stages or several models contradict, and numbers out of range."""
    asked = recipe.evaluation
    if not 0 <= recipe.seed <= _MOST_SEED:
        raise place.at("seed").error(
            f"must be from 0 to {_MOST_SEED:,}, but is {shown(recipe.seed)}."
        )
    if asked.batch_size is not None and asked.batch_size < 1:
        raise place.at("evaluation.batch_size").error(
            f"must be at least 1, but is {asked.batch_size}."
        )
    if asked.ensemble is not None and not any(
        has_callback(s, CycleSnapshots) for s in recipe.stages
    ):
        raise place.at("evaluation.ensemble").error(
            f"{asked.ensemble!r} needs snapshots, but no stage keeps any. Add"
            " `lightning_fastrecipes.CycleSnapshots` to a stage's callbacks."
        )
    if recipe.train_metrics < 0:
        raise place.at("train_metrics").error(
            f"must be a number of samples, at least 0, but is {recipe.train_metrics}."
        )
    check_several(recipe, place)


def _read_variants(
    document: dict[str, Any], overrides: Sequence[Override], place: Place
) -> dict[str, Recipe]:
    """Read the variants; in a cumulative series each starts from the one before it."""
    variants, series = document.get("variants"), document.get("series")
    if not isinstance(variants, dict) or not variants:
        raise place.at("variants").error(
            f"must be a mapping from name to changed keys, but is {shown(variants)}."
            " Write `longer: {stages.all.max_epochs: 2}`."
        )
    if series not in (None, "cumulative"):
        raise place.at("series").error(
            f"must be `cumulative` or be left out, but is {shown(series)}."
        )
    base = {key: value for key, value in document.items() if key not in OF_THE_WHOLE}
    recipes: dict[str, Recipe] = {}
    for name, changes in variants.items():
        at = place.at("variants").at(str(name))
        check_name(name, at)
        if not isinstance(changes, (dict, type(None))):
            raise at.error(f"must be a mapping from keys to values, but is {shown(changes)}.")
        changes = variants[name] = dict(changes or {})
        # What is set on the command line holds for every variant, also when the run is resumed.
        for override in overrides:
            if not override.key.startswith("variants."):
                changes.pop(override.key, None)
                changes[override.key] = override.value
        is_side_step = read_plain(bool, changes.get(_SIDE_STEP, False), at.at(_SIDE_STEP))
        if is_side_step and series is None:
            raise at.at(_SIDE_STEP).error("needs `series: cumulative`. Leave it out.")
        changed = copy.deepcopy(base)
        for key, value in changes.items():
            if key == _SIDE_STEP:
                continue
            if str(key).partition(".")[0] in OF_THE_WHOLE:
                raise at.error(f"`{key}` belongs to the whole recipe. A variant cannot change it.")
            where = at._replace(key=f"{at.key}: {key}")
            apply_override(changed, Override(str(key), value), where)
        recipe = _read_recipe(changed | {"name": f"{document['name']}-{name}"}, at)
        recipes[name] = replace(recipe, is_side_step=is_side_step)
        if series == "cumulative" and not is_side_step:
            base = changed
    if all(recipe.is_side_step for recipe in recipes.values()):
        raise place.at("variants").error(
            f"the series must end with a variant that is no `{_SIDE_STEP}`, but all of them are."
        )
    return recipes


def _read_evaluation(value: Any, place: Place) -> Evaluation:
    tta = value.get("tta") if isinstance(value, Mapping) else None
    if has_whole_views(tta):
        pl.rank_zero_warn(f"{place.at('tta')}: {WHOLE_VIEWS}")
        return read_settings(Evaluation, {**value, "tta": None}, place)
    if not isinstance(tta, Mapping):
        return read_settings(Evaluation, value, place)
    views = read_settings(TTA, tta, place.at("tta"))
    return read_settings(Evaluation, value, place, tta=views)
