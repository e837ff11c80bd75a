"""Run a recipe with rungs: one run after the other, each with one thing changed."""

import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.old_names import translate_results
from lightning_fastrecipes.plots.runs import draw_rungs
from lightning_fastrecipes.recipe.artifacts.environment import is_first_process, package_versions
from lightning_fastrecipes.recipe.artifacts.export_files import ENSEMBLE, member_folders
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder
from lightning_fastrecipes.recipe.config.documents import dump_document
from lightning_fastrecipes.recipe.config.schema import Recipe, Rung
from lightning_fastrecipes.recipe.run.plan import build_parts, plan_stages
from lightning_fastrecipes.recipe.run.runner import Run

logger = logging.getLogger(__name__)

Results = dict[str, Any]


class Ladder:
    """Rungs of a recipe, each in a run folder of its own.

    Args:
        recipe: A recipe with rungs.
        folder: Where everything is written; the rungs go into ``rungs/NAME`` in it.
        resume: Whether to leave finished rungs alone and go on with the one that was interrupted.
        fast_dev_run: Whether to run one batch of everything, to see that it works.
        show_progress: Whether to draw progress bars.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        resume: bool = False,
        fast_dev_run: bool = False,
        show_progress: bool = True,
    ) -> None:
        self.recipe = recipe
        self.folder = RunFolder(folder)
        self.resume = resume
        self.fast_dev_run = fast_dev_run
        self.show_progress = show_progress
        self._trained: list[tuple[Recipe, Path, Results]] = []

    def check(self) -> None:
        """Work out every stage of every rung, so that a mistake in the last shows before the first.

        Raises:
            RecipeError: If a rung cannot be run.
        """
        for rung in self.recipe.rungs:
            plan_stages(rung.recipe, *build_parts(rung.recipe))
        if is_first_process():
            write_atomically(self.folder.recipe, dump_document(self.recipe.source))

    def climb(self, train: Callable[[Run], Results]) -> Results:
        """Run all rungs, and write what they reached beside one another.

        Args:
            train: Prepares, trains and finishes one run, and gives its results.

        Returns:
            What ``results.json`` holds.
        """
        results: Results = {
            "recipe": self.recipe.name,
            "seed": self.recipe.seed,
            "rungs": [self._run_rung(rung, train) for rung in self.recipe.rungs],
            "versions": package_versions(),
        }
        if is_first_process():
            draw_rungs(results["rungs"], self.folder.path / "rungs.png")
            write_atomically(self.folder.results, json.dumps(results, indent=2) + "\n")
            self._export_last()
        return results

    def _run_rung(self, rung: Rung, train: Callable[[Run], Results]) -> Results:
        logger.info("Rung %s begins", rung.name)
        folder = self.folder.rung(rung.name)
        is_one = rung.num_models == 1 or self.fast_dev_run
        if is_one:
            results = self._train_one(rung.recipe, folder, train)
            stages = results["stages"]
        else:
            first = rung.recipe.seed
            recipes = {
                f"seed-{seed}": _with_seed(rung.recipe, seed)
                for seed in range(first, first + rung.num_models)
            }
            trained = [
                self._find_or_train(recipe, folder / name, train)
                for name, recipe in recipes.items()
            ]
            stages = [stage for _, found in trained for stage in found["stages"]]
            last = rung.recipe.stages[-1].name
            members = {
                name: RunFolder(home).checkpoint(last)
                for name, (home, _) in zip(recipes, trained, strict=True)
            }
            run = self._run(rung.recipe, folder)
            run.prepare()
            results = run.finish(members)
        return {
            "name": rung.name,
            "num_models": 1 if is_one else rung.num_models,
            "seconds": round(sum(stage["seconds"] for stage in stages), 2),
            "val": results["val"],
            "test": results["test"],
        }

    def _find_or_train(
        self, recipe: Recipe, folder: Path, train: Callable[[Run], Results]
    ) -> tuple[Path, Results]:
        """Take a model that an earlier rung trained in the same way, or train one."""
        for known, home, results in self._trained:
            if _without_name(known) == _without_name(recipe):
                return home, results
        return folder, self._train_one(recipe, folder, train)

    def _train_one(self, recipe: Recipe, folder: Path, train: Callable[[Run], Results]) -> Results:
        finished = RunFolder(folder).results
        if self.resume and finished.is_file():
            results = translate_results(json.loads(finished.read_text(encoding="utf-8")))
        else:
            results = train(self._run(recipe, folder))
        self._trained.append((recipe, folder, results))
        return results

    def _run(self, recipe: Recipe, folder: Path) -> Run:
        folder.mkdir(parents=True, exist_ok=True)
        return Run(
            recipe,
            folder,
            resume=self.resume,
            fast_dev_run=self.fast_dev_run,
            show_progress=self.show_progress,
        )

    def _export_last(self) -> None:
        """Let the whole run predict with what its last rung exported."""
        export = self.folder.path / "export"
        last = self.folder.rung(self.recipe.rungs[-1].name)
        members = member_folders(last)
        names = [Path(os.path.relpath(member, export)).as_posix() for member in members]
        noted = last / "export" / ENSEMBLE
        note = json.loads(noted.read_text(encoding="utf-8")) if noted.is_file() else {}
        text = json.dumps(note | {"members": names}, indent=2) + "\n"
        write_atomically(export / ENSEMBLE, text)


def _with_seed(recipe: Recipe, seed: int) -> Recipe:
    return replace(recipe, seed=seed, source=recipe.source | {"seed": seed})


def _without_name(recipe: Recipe) -> dict[str, Any]:
    named = recipe.source | {"seed": recipe.seed}
    return {key: value for key, value in named.items() if key != "name"}
