"""What a search looks for: a recipe with ranges, how many trials, and the figure that decides."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from lightning_fastrecipes import plain
from lightning_fastrecipes.callbacks.keep_best import metric_direction
from lightning_fastrecipes.callbacks.schedule import Schedule
from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.errors import ConfigurationError, DataError, RecipeError
from lightning_fastrecipes.functional.ranges import Range, halving_epochs
from lightning_fastrecipes.messages import suggestion
from lightning_fastrecipes.recipe.config.documents import Place, dump_document, parse_value
from lightning_fastrecipes.recipe.config.merging import KeyPath, name_path, ranges_of
from lightning_fastrecipes.recipe.config.schema import Recipe
from lightning_fastrecipes.recipe.loading import load_recipe, modality_of
from lightning_fastrecipes.recipe.run.checks import check_without_data
from lightning_fastrecipes.recipe.run.plan import (
    build_callbacks,
    build_parts,
    num_devices,
    plan_stages,
)
from lightning_fastrecipes.searching.unseen import with_unseen
from lightning_fastrecipes.trust import Trust

FILE = "search.yaml"
"""What a search was started with, in its folder."""

_MOST_TRIALS = 10_000
_CURE = "Copy it again from where it was made, or search anew in another folder."
_check_saved = plain.keys(
    {
        "num_trials": plain.whole(1, _MOST_TRIALS),
        "monitor": plain.text(".{1,200}", "the name of a metric"),
        "mode": plain.text("min|max", "`min` or `max`"),
        "unseen": plain.text("(?s).{0,2000}", "a sentence"),
        "document": plain.named(plain.anything),
    }
)


@dataclass(frozen=True)
class Definition:
    """What a search looks for.

    Args:
        document: The recipe's document, with ranges in place of values.
        num_trials: How many values are drawn, at least 1.
        monitor: The metric of the validation that trials are compared by.
        mode: Whether its best value is the lowest or the highest.
        unseen: Which rows the choice is checked on, in a sentence.
    """

    document: dict[str, Any]
    num_trials: int
    monitor: str
    mode: Literal["min", "max"]
    unseen: str

    @property
    def ranges(self) -> dict[KeyPath, Range]:
        """The ranges by the keys that lead to them."""
        return ranges_of(self.document, Place(Path(FILE)))

    @property
    def names(self) -> list[str]:
        """The keys of the ranges, as an override names them."""
        return [name_path(self.document, path) for path in self.ranges]

    @property
    def short_names(self) -> list[str]:
        """The last part of each key, if they differ."""
        last = [name.rpartition(".")[2] for name in self.names]
        return last if len({*last}) == len(last) else self.names

    @property
    def seed(self) -> int:
        """What the draws follow from, besides the number of a trial: the recipe's seed."""
        seed = self.document.get("seed", 0)
        return seed if isinstance(seed, int) else 0

    def values(self, shares: Sequence[float]) -> list[Any]:
        """Return the values at shares of the ranges."""
        return [one.value(share) for one, share in zip(self.ranges.values(), shares, strict=True)]

    def recipe(self, values: Sequence[Any], path: Path, trust: Trust = ()) -> Recipe:
        """Return the recipe with values in place of the ranges, as it will lie at a path."""
        document = copy.deepcopy(self.document)
        for keys, value in zip(self.ranges, values, strict=True):
            home: Any = document
            for key in keys[:-1]:
                home = home[key]
            home[keys[-1]] = copy.deepcopy(value)
        return load_recipe(path, document=document, trust=trust)

    def write(self, folder: Path) -> None:
        """Write it into the folder of a search."""
        write_atomically(folder / FILE, dump_document(asdict(self)))


def read_definition(folder: Path) -> Definition:
    """Read what a search was started with; raise `RecipeError` if the folder is of none."""
    path = folder / FILE
    try:
        saved = parse_value(path.read_text(encoding="utf-8"))
        _check_saved(saved, FILE)
        found = Definition(**saved)
    except FileNotFoundError as error:
        raise RecipeError(
            f"{folder} is no folder of a search: it has no {FILE}. Start one with `fastrecipes"
            " search RECIPE`."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, ConfigurationError) as error:
        raise DataError(f"{path} cannot be read: {error} {_CURE}") from error
    if not found.ranges:
        raise DataError(f"{path} must have ranges in its `document`, but has none. {_CURE}")
    return found


def define(
    document: dict[str, Any],
    place: Place,
    num_trials: int,
    monitor: str | None = None,
) -> Definition:
    """Check a recipe with ranges, and decide by which figure and on which rows trials are compared.

    The ends of every range and each choice are tried, so that mistakes show before any training.
    Raise `RecipeError` if one does not fit, or nothing is validated.
    """
    if not 1 <= num_trials <= _MOST_TRIALS:
        raise RecipeError(f"`--trials` must be from 1 to {_MOST_TRIALS:,}, got {num_trials:,}.")
    draft = Definition(document, num_trials, "", "min", "")
    _refuse_ranges(draft, place)
    _check_ends(draft, place)
    recipe = draft.recipe(draft.values([0.5] * len(draft.ranges)), place.path, place.trust)
    if num_devices(recipe) > 1:
        raise place.at("trainer.devices").error(
            "must be 1 in a search. Several processes, each on a device of its own, share the"
            " trials of one search: `fastrecipes search --resume DIR`."
        )
    data, model = build_parts(recipe)
    plan_stages(recipe, data, model)
    modality = modality_of(recipe)
    counts = {split: modality.num_samples(data, split) for split in ("train", "val", "test")}
    if not counts["val"]:
        raise place.at("data.split").error(
            "must leave rows to validate on, by which trials are compared, but leaves none. Give"
            " `split` a share `val`."
        )
    chosen = monitor or _usual_monitor(recipe, model)
    known = ["val_loss", *model.phase_metrics["val_"]]
    if chosen not in known:
        raise RecipeError(
            f"`--monitor` must be what is validated, {', '.join(known)}, got {chosen!r}."
            f"{suggestion(chosen, known)}"
        )
    kept_by = _kept_by(recipe)
    if kept_by not in (None, chosen):
        raise RecipeError(
            f"`--monitor` must be `{kept_by}`, by which the last stage keeps its best weights, got"
            f" {chosen!r}: trials would be compared by an epoch whose weights they do not keep."
        )
    try:
        mode = metric_direction(chosen, model)
    except ValueError as error:
        raise RecipeError(f"`--monitor`: {error}") from error
    found, unseen = _with_unseen(draft, counts, place)
    return Definition(found, num_trials, chosen, mode, unseen)


def rungs(recipe: Recipe) -> list[int]:
    """Return after how many epochs of the last stage trials are compared, the last at its end."""
    stage = recipe.stages[-1]
    callbacks = build_callbacks(recipe, len(recipe.stages) - 1)
    schedules = [one for one in callbacks if isinstance(one, Schedule) and one.by == "epoch"]
    ends = schedules[0].cycle_ends(stage.max_epochs) if schedules else []
    return halving_epochs(stage.max_epochs, ends)


def _refuse_ranges(draft: Definition, place: Place) -> None:
    """Refuse ranges of what trials are compared by: the same rows, after the same epochs."""
    stages = draft.document.get("stages")
    last = list(stages)[-1] if isinstance(stages, dict) and stages else ""
    for name in draft.names:
        section, _, rest = name.partition(".")
        if section == "data" and "split" in rest.split("."):
            raise place.at(name).error(
                "must not be searched: trials are compared on the same rows. Give one split."
            )
        if name == f"stages.{last}.max_epochs":
            raise place.at(name).error(
                "must not be searched: trials are compared after the same epochs of the last stage,"
                " and most are stopped early. Give the most that a trial may have."
            )


def _check_ends(draft: Definition, place: Place) -> None:
    """Read the recipe at both ends of its ranges, and with each choice."""
    most = max(len(one.values) if one.kind == "choice" else 2 for one in draft.ranges.values())
    for step in range(most):
        recipe = draft.recipe(draft.values([min(step / (most - 1), 0.999999)] * len(draft.ranges)),
                              place.path, place.trust)  # fmt: skip
        if step in (0, most - 1):
            check_without_data(recipe)


def _usual_monitor(recipe: Recipe, model: Any) -> str:
    """Return what the last stage keeps its best epoch by, or the first metric of the model."""
    return _kept_by(recipe) or next(iter(model.phase_metrics["val_"]), "val_loss")


def _kept_by(recipe: Recipe) -> str | None:
    """Return by which metric the last stage goes back to its best weights; ``None`` if it stays."""
    stage = recipe.stages[-1]
    if stage.until_overfitting:
        return "val_loss"
    kept = stage.keep_best
    return str(kept["monitor"]) if isinstance(kept, Mapping) else kept


def _with_unseen(
    draft: Definition, counts: Mapping[str, int], place: Place
) -> tuple[dict[str, Any], str]:
    """Return a document with rows that no trial looks at, and a sentence on them."""
    if counts["test"]:
        said = f"the {counts['test']:,} samples of the test split, which no trial looks at"
        return draft.document, said
    changed = with_unseen(draft.document)
    if changed is not None:
        other = Definition(changed, draft.num_trials, "", "min", "")
        recipe = other.recipe(other.values([0.5] * len(other.ranges)), place.path, place.trust)
        modality = modality_of(recipe)
        try:
            data, _ = modality.build_parts(recipe)
        except (DataError, RecipeError, ConfigurationError):
            pass  # too few for another split
        else:
            num_val, num_test = (modality.num_samples(data, one) for one in ("val", "test"))
            if num_val and num_test:
                whence = "training" if num_val == counts["val"] else "validation"
                said = (
                    f"{num_test:,} samples that were held out of the {whence} split, since there is"
                    f" no test split; trials are compared on {num_val:,} others"
                )
                return changed, said
    return draft.document, ""
