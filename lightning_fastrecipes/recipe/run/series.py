"""Several runs of one recipe: its variants in order, or several seeds that predict together."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from lightning_fastrecipes.data.common.files import copy_folder, write_json
from lightning_fastrecipes.plots.runs import draw_variants
from lightning_fastrecipes.recipe.artifacts.environment import is_first_process, package_versions
from lightning_fastrecipes.recipe.artifacts.kept_predictions import has_kept
from lightning_fastrecipes.recipe.artifacts.progress import Progress
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder
from lightning_fastrecipes.recipe.config.documents import Place
from lightning_fastrecipes.recipe.config.schema import Recipe
from lightning_fastrecipes.recipe.config.several import fold_recipes, seed_recipes
from lightning_fastrecipes.recipe.loading import modality_of
from lightning_fastrecipes.recipe.run.folds import finish_folds
from lightning_fastrecipes.recipe.run.parts import adopt, begin_part, is_up_to_date
from lightning_fastrecipes.recipe.run.plan import build_parts, plan_stages
from lightning_fastrecipes.recipe.run.runner import Run, RunOptions
from lightning_fastrecipes.recipe.run.time_left import TimeLeft
from lightning_fastrecipes.recipe.run.workload import expected_work

logger = logging.getLogger(__name__)

Results = dict[str, Any]


class Series:
    """Several runs of one recipe, each in a run folder of its own.

    A recipe with ``series`` runs its variants in order, in ``variants/NAME``. One with ``seeds``
    trains a model per seed, in ``seed-N``, one with ``folds`` a model per fold, in ``fold-N``, and
    evaluates them together in the folder itself. The
    option ``resume`` also keeps the runs that are finished.
    """

    def __init__(self, recipe: Recipe, folder: Path, **options: Unpack[RunOptions]) -> None:
        self.recipe = recipe
        self.folder = RunFolder(folder)
        self.time_left = options.setdefault("time_left", TimeLeft())
        self.options = options
        self._trained: list[tuple[Recipe, Path, Results]] = []

    def check(self) -> None:
        """Plan every stage of every run, or raise a `RecipeError` before the first is trained."""
        progress = adopt(self.recipe, self.folder) if self.options.get("resume") else Progress()
        for name, recipe in self._runs().items():
            members = self._members(recipe)
            recipe = next(iter(members.values()), recipe)
            data, model = build_parts(recipe)
            num_rows = sum(modality_of(recipe).num_samples(data, one) for one in ("train", "val"))
            if self._runs()[name].folds > num_rows:
                raise Place(recipe.path, "folds").error(
                    f"must be at most {num_rows}, one for each sample to train on, but is"
                    f" {self._runs()[name].folds}."
                )
            if self._runs()[name].folds:
                # A later one may validate on a class that it does not train on.
                for fold in list(members.values())[1:]:
                    modality_of(fold).read_data(fold)
            plans = plan_stages(recipe, data, model)
            if self.options.get("show_progress", True):
                folder = self.folder.variant(name) if name else self.folder.path
                work = expected_work(recipe, data, model, plans)
                for member in members or [""]:
                    self.time_left.expect(folder / member, work)
        if is_first_process():
            begin_part(self.recipe, self.folder, progress)

    def run_all(self, train: Callable[[Run], Results]) -> Results:
        """Run everything, and write ``results.json``, whose content is returned.

        ``train`` prepares, trains and finishes one run, and returns its results.
        """
        if not self.recipe.series:
            return self._run(self.recipe, self.folder.path, train)[0]
        rows = []
        for name, recipe in self.recipe.variants.items():
            logger.info("Variant %s begins", name)
            folder = self.folder.variant(name)
            found, seconds = self._run(recipe, folder, train)
            num_models = 1 if self.options.get("fast_dev_run") else recipe.num_models
            row = {"name": name, "num_models": num_models, "seconds": seconds}
            if recipe.is_side_step:
                row["is_side_step"] = True
            else:
                last = folder
            rows.append(row | {split: found[split] for split in ("val", "test")})
        results: Results = {
            "recipe": self.recipe.name,
            "seed": self.recipe.seed,
            "variants": rows,
            "versions": package_versions(),
        }
        if is_first_process():
            draw_variants(rows, self.folder.path / "variants.png")
            # The whole run predicts as its last variant does that is no side step.
            copy_folder(last / "export", self.folder.path / "export")
            write_json(self.folder.results, results)
        return results

    def _run(
        self, recipe: Recipe, folder: Path, train: Callable[[Run], Results]
    ) -> tuple[Results, float]:
        """Run one recipe with all its models; return its results and the seconds of training."""
        members = self._members(recipe)
        if not members:
            results = self._train(recipe, folder, train)
            return results, _seconds(results)
        homes, found = {}, {}
        for name, member in members.items():
            homes[name], found[name] = self._find_or_train(member, folder / name, train)
        seconds = round(sum(map(_seconds, found.values())), 2)
        if recipe.folds:
            first = next(iter(members.values()))
            run = Run(replace(first, source=recipe.source), folder, **self.options)
            run.prepare()
            return finish_folds(run, homes, found), seconds
        run = Run(recipe, folder, **self.options)
        run.prepare()
        last = recipe.stages[-1].name
        return run.finish(
            {n: RunFolder(home).checkpoint(last) for n, home in homes.items()}
        ), seconds

    def _runs(self) -> dict[str, Recipe]:
        """Return the recipe of each run by the name of its variant, which is empty without."""
        return self.recipe.variants if self.recipe.series else {"": self.recipe}

    def _members(self, recipe: Recipe) -> dict[str, Recipe]:
        """Return the recipe of each of several models by the name of its folder."""
        if recipe.num_models == 1 or self.options.get("fast_dev_run"):
            return {}
        if recipe.folds:
            return fold_recipes(recipe, modality_of(recipe).fold_strata(recipe))
        return seed_recipes(recipe)

    def _find_or_train(
        self, recipe: Recipe, folder: Path, train: Callable[[Run], Results]
    ) -> tuple[Path, Results]:
        """Reuse a model that an earlier variant trained with the same keys, or train one."""
        for known, home, results in self._trained:
            if _as_trained(known) == _as_trained(recipe):
                self.time_left.drop(folder)
                return home, results
        return folder, self._train(recipe, folder, train)

    def _train(self, recipe: Recipe, folder: Path, train: Callable[[Run], Results]) -> Results:
        home, resumes = RunFolder(folder), self.options.get("resume")
        is_kept = not recipe.is_fold or has_kept(folder, "val")
        if resumes and home.results.is_file() and is_kept and is_up_to_date(recipe, home):
            results = home.read_results()
        else:
            results = train(Run(recipe, folder, **self.options))
        self.time_left.drop(folder)
        self._trained.append((recipe, folder, results))
        return results


def _as_trained(recipe: Recipe) -> dict[str, Any]:
    """Return the keys that decide which model is trained."""
    named = recipe.source | {"seed": recipe.seed}
    return {key: value for key, value in named.items() if key not in ("name", "seeds")}


def _seconds(results: Results) -> float:
    return round(sum(float(stage["seconds"]) for stage in results["stages"]), 2)
