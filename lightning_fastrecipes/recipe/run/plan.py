"""Work out and check what a recipe will do, before any training."""

import html
import inspect
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pandas as pd
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.callbacks.keep_best import KeepBest
from lightning_fastrecipes.callbacks.train_metrics import PREFIX as TRAIN_METRICS
from lightning_fastrecipes.data.common.samplers import drops_last_batch
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.nn.summary import Summary, summary
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder
from lightning_fastrecipes.recipe.config.building import build
from lightning_fastrecipes.recipe.config.documents import Place
from lightning_fastrecipes.recipe.config.schema import AS_BEFORE, Recipe, Stage
from lightning_fastrecipes.recipe.config.several import first_fold
from lightning_fastrecipes.recipe.config.stages import averaging_of
from lightning_fastrecipes.recipe.loading import modality_of
from lightning_fastrecipes.recipe.run.trainers import check_callbacks, check_monitors, check_trainer
from lightning_fastrecipes.recipe.shared.members import load_member


@dataclass(frozen=True)
class GroupPlan:
    """One layer group in one stage, with the number of scalars in its parameters.

    ``lr`` is its peak learning rate, 0 if frozen; with ``lr: find`` only the ratios count.
    """

    name: str
    num_parameters: int
    trained: bool
    lr: float


@dataclass(frozen=True, repr=False)
class StagePlan:
    """The plan of one stage, with its layer groups from the input side.

    Image size (side in pixels), batch size (per process and step) and ``steps_per_epoch`` are those
    of the first epoch; ``later_sizes`` are by the epoch from which they are taken, from 0. Size and
    augmentation, in words, are ``None`` without images. ``num_samples`` is that of the training
    split; ``precomputed`` says what is read in place of samples.
    """

    stage: Stage
    groups: tuple[GroupPlan, ...]
    image_size: int | None
    batch_size: int
    augmentation: str | None
    steps_per_epoch: int
    num_steps: int
    num_samples: int
    precomputed: str = ""
    later_sizes: Mapping[int, int] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The stage in one line: its epochs, steps, sizes, augmentation and callbacks."""
        stage = self.stage
        precomputed = f", on precomputed {self.precomputed}" if self.precomputed else ""
        size = "" if self.image_size is None else f" {self.image_size} px,"
        for epoch, later in self.later_sizes.items():
            size += f" then {later} px from epoch {epoch + 1},"
        augmentation = "" if self.augmentation is None else f", augmentation {self.augmentation}"
        callbacks = ", until over-fitting" if stage.until_overfitting else ""
        for spec in stage.callbacks:
            arguments = ", ".join(f"{name}={value}" for name, value in spec.init_args.items())
            callbacks += f", {spec.name}({arguments})"
        epochs = f"{stage.max_epochs} {'epoch' if stage.max_epochs == 1 else 'epochs'}"
        return (
            f"Stage {stage.name}: {epochs} of {self.steps_per_epoch} steps ({self.num_steps}),"
            f"{size} batches of {self.batch_size}{augmentation}{precomputed}{callbacks}"
        )

    def table(self) -> pd.DataFrame:
        """Return a row of texts for each layer group: its size, whether it is trained, how fast."""
        source = "as before" if self.stage.lr == AS_BEFORE else "found" if self.stage.search else ""
        rows = []
        for group in self.groups:
            ratio = group.lr / self.groups[-1].lr
            lr = f"{source} x {ratio:.3g}" if source else f"{group.lr:.2e}"
            trained = ("yes", lr) if group.trained else ("frozen", "")
            rows.append((group.name, f"{group.num_parameters:,}", *trained))
        columns = ["layer group", "parameters", "trained", "learning rate"]
        return pd.DataFrame(rows, columns=columns)

    @override
    def __repr__(self) -> str:
        return f"StagePlan({self.title})"

    def _repr_html_(self) -> str:
        return f"<b>{html.escape(self.title)}</b>{self.table().to_html(index=False, border=0)}"


def build_parts(recipe: Recipe) -> tuple[Any, Any]:
    """Build the datamodule, set up, and the model for its classes or columns.

    Of several folds they are those of the first. Raise `RecipeError` before any data are read if
    Lightning does not take the trainer's values.
    """
    check_trainer(recipe)
    modality = modality_of(recipe)
    return modality.build_parts(first_fold(recipe, modality.fold_strata(recipe)))


def summarise_stage(recipe: Recipe, name: str | None = None) -> tuple[str, Summary]:
    """Return the summary of the model as one stage trains it, and in words what model that is.

    Beside the checkpoints of a run it is the model after the stage, the last one if ``None``; else
    the model before any training, as in the first stage if ``None``. Activations are those of the
    first training samples, not augmented, with the layers in train mode as far as the stage has
    them so.
    """
    run = RunFolder(recipe.path.parent)
    trained = [stage.name for stage in recipe.stages if run.checkpoint(stage.name).is_file()]
    found = name or (trained[-1] if trained else recipe.stages[0].name)
    index = recipe.stage_index(found)
    pl.seed_everything(recipe.seed, verbose=False)
    data, model = build_parts(recipe)
    if found in trained:
        load_member(run.checkpoint(found), model)
    apply_stage(recipe, index, data, model, run if trained else None)
    words = f"Model {'after' if found in trained else 'as in'} stage {found}"
    return words, summary(model.train(), next(iter(data.eval_dataloader("train"))))


def apply_stage(
    recipe: Recipe, index: int, data: Any, model: Any, folder: RunFolder | None = None
) -> None:
    """Set data and model as one stage wants them; a `RecipeError` if the model does not fit.

    The run folder holds the rates that earlier stages found.
    """
    stage, modality = recipe.stages[index], modality_of(recipe)
    place = Place(recipe.path, stage.key)
    set_stage(recipe, index, data, model, folder)
    check_stage(recipe, index, data, model)
    needs = "until_overfitting" if stage.until_overfitting else "keep_best"
    needs_validation = stage.until_overfitting or stage.keep_best is not None
    if needs_validation and not modality.num_samples(data, "val"):
        raise place.error(
            f"`{needs}` needs a validation split, but the data has none. Give"
            " `split` a share `val`."
        )


def check_stage(recipe: Recipe, index: int, data: Any, model: Any) -> None:
    """Raise a `RecipeError` if data and model, set for a stage, do not fit; data may be unread."""
    stage = recipe.stages[index]
    try:
        modality_of(recipe).check_stage(stage, data, model)
    except ValueError as error:
        raise Place(recipe.path, stage.key).error(error) from error


def set_stage(
    recipe: Recipe, index: int, data: Any, model: Any, folder: RunFolder | None = None
) -> None:
    """Set sizes, augmentation, rates and freezing of a stage; a `RecipeError` if one is wrong."""
    stage = recipe.stages[index]
    # A stage that says nothing gets what the recipe says, not what the stage before it left.
    chosen = getattr(data, "options", recipe.data.init_args)
    parameters = inspect.signature(type(data)).parameters
    defaults = {name: item.default for name, item in parameters.items()} | dict(chosen)
    try:
        for name in modality_of(recipe).stage_names:
            setattr(data, name, defaults[name])
            if (value := getattr(stage, name)) is not None:
                setattr(data, name, value)
        data.seed = stage_seed(recipe.seed, index)
        model.set_learning_rates(_first_lr(recipe, index, folder), stage.lr_ratio)
        model.freeze_to(stage.freeze_to)
        model.group_lrs()
    except (ValueError, TypeError) as error:
        raise Place(recipe.path, stage.key).error(error) from error


def _first_lr(recipe: Recipe, index: int, folder: RunFolder | None) -> Any:
    """Return what a stage begins with: as given, or what the stage before it found or was given."""
    stage = recipe.stages[index]
    if stage.lr != AS_BEFORE:
        return stage.lr if stage.search is None else stage.search.otherwise
    before = recipe.stages[index - 1]
    found = folder.found_lr(before.name) if folder else None
    return found or _first_lr(recipe, index - 1, folder)


def build_callbacks(recipe: Recipe, index: int) -> list[pl.Callback]:
    """Build a stage's callbacks anew: what averages, its own in order, what keeps the best."""
    stage = recipe.stages[index]
    place = Place(recipe.path, stage.key)
    callbacks = [
        build(spec, pl.Callback, place.at(f"callbacks[{position}]"))
        for position, spec in enumerate(stage.callbacks)
    ]
    if averaging := averaging_of(stage):
        callbacks.insert(0, averaging)
    if stage.keep_best is not None:
        wanted: Any = stage.keep_best
        callbacks.append(KeepBest(**(wanted if isinstance(wanted, dict) else {"monitor": wanted})))
    return callbacks


def plan_stages(recipe: Recipe, data: Any, model: Any) -> list[StagePlan]:
    """Work out every stage, so that a mistake in the last is found before the first.

    The model is left frozen as in the last stage, and the datamodule at the size that it ends with.
    """
    plans, modality = [], modality_of(recipe)
    accumulate = int(recipe.trainer.get("accumulate_grad_batches", 1))
    num_samples = modality.num_samples(data, "train")
    for index, stage in enumerate(recipe.stages):
        apply_stage(recipe, index, data, model)
        place, callbacks = Place(recipe.path, stage.key), build_callbacks(recipe, index)
        check_callbacks(callbacks, place)
        check_monitors(callbacks, _logged(recipe, data, model), place)
        _check_directions(callbacks, model, place)
        resize = resizing(recipe, index, data, model)
        resize(0)
        image_size, batch_size = getattr(data, "image_size", None), data.batch_size
        augmentation = str(data.augmentation) if hasattr(data, "augmentation") else None
        num_epochs, sizes = Counter[int](), [image_size]
        for epoch in range(stage.max_epochs):
            resize(epoch)
            num_epochs[data.batch_size] += 1
            sizes.append(getattr(data, "image_size", None))
        batches = {
            size: _batches_per_epoch(num_samples, size, num_devices(recipe)) for size in num_epochs
        }
        _check_validations(recipe, min(batches.values()))
        steps = {size: math.ceil(count / accumulate) for size, count in batches.items()}
        plans.append(
            StagePlan(
                stage=stage,
                groups=group_plans(model),
                image_size=image_size,
                batch_size=batch_size,
                augmentation=augmentation if stage.is_augmented else "none",
                steps_per_epoch=steps[batch_size],
                num_steps=sum(steps[size] * number for size, number in num_epochs.items()),
                num_samples=num_samples,
                precomputed=modality.describe_training_data(stage, data, model),
                later_sizes={
                    epoch: after
                    for epoch, (before, after) in enumerate(pairwise(sizes))
                    if after is not None and before != after
                },
            )
        )
    modality.check_evaluation(recipe, data, model)
    return plans


def _check_directions(callbacks: list[pl.Callback], model: Any, place: Place) -> None:
    """Raise `RecipeError` if it is not known which values of a metric are the best."""
    for callback in callbacks:
        if isinstance(callback, KeepBest):
            try:
                callback.decide(model)
            except ValueError as error:
                raise place.at("keep_best").error(error) from error


def _logged(recipe: Recipe, data: Any, model: Any) -> list[str]:
    """Name what the model logs in a fit."""
    names = ["train_loss"]
    if modality_of(recipe).num_samples(data, "val"):
        names += ["val_loss", *model.phase_metrics["val_"]]
    if recipe.train_metrics:
        names += [f"{TRAIN_METRICS}{name.removeprefix('val_')}" for name in names]
    return names


def resizing(recipe: Recipe, index: int, data: Any, model: Any) -> Callable[[int], None]:
    """Return a function that sets the datamodule to the sizes of an epoch.

    The sizes are those that the stage's `ProgressiveResizing` will choose; in a stage of one size
    the function does nothing. Raise `RecipeError` if the model does not take a size, or the stage
    cannot change it.
    """
    stage = recipe.stages[index]
    try:
        return modality_of(recipe).resizing(stage, build_callbacks(recipe, index), data, model)
    except RecipeError:
        raise
    except ValueError as error:
        where = Place(recipe.path, stage.key)
        raise where.error(f"`ProgressiveResizing`: {error}") from error


def group_plans(model: Any) -> tuple[GroupPlan, ...]:
    """Describe the layer groups of a model as it is frozen now."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return tuple(
        GroupPlan(
            name=group.name,
            num_parameters=sum(sizes[name] for name in group.parameters),
            trained=index >= model.num_frozen,
            lr=lr,
        )
        for index, (group, lr) in enumerate(
            zip(model.layer_groups(), model.group_lrs(), strict=True)
        )
    )


def num_devices(recipe: Recipe) -> int:
    """Return how many devices a recipe asks for, 1 if it leaves that to Lightning."""
    devices = recipe.trainer.get("devices", 1)
    return devices if isinstance(devices, int) and devices > 0 else 1


def stage_seed(seed: int, index: int) -> int:
    """Return a stage's seed: 1000 times the recipe's, plus the number of the stage from 0."""
    return seed * 1000 + index


def _batches_per_epoch(num_samples: int, batch_size: int, num_devices: int) -> int:
    shard = math.ceil(num_samples / num_devices)
    if drops_last_batch(shard, batch_size):
        shard -= 1
    return math.ceil(shard / batch_size)


def _check_validations(recipe: Recipe, num_batches: int) -> None:
    """Raise `RecipeError` if an epoch has not the batches after which it is to be validated."""
    chosen = recipe.trainer
    limit, wanted = chosen.get("limit_train_batches", 1.0), chosen.get("val_check_interval", 1.0)
    if isinstance(limit, (int, float)):
        num_batches = min(num_batches, limit if type(limit) is int else int(num_batches * limit))
    by_epoch = chosen.get("check_val_every_n_epoch", 1) is not None
    if type(wanted) is int and wanted > num_batches and by_epoch:
        raise Place(recipe.path, "trainer.val_check_interval").error(
            f"must be at most {num_batches}, the training batches of an epoch, but is {wanted}."
            " Lower it, or set `check_val_every_n_epoch: null` to count across epochs."
        )
