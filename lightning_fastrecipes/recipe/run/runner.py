"""Run a recipe: build data and model, train stage by stage, evaluate, export."""

import logging
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack, get_args

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.callbacks.finite_loss_check import FiniteLossCheck
from lightning_fastrecipes.callbacks.initial_loss_check import InitialLossCheck
from lightning_fastrecipes.callbacks.overfitting_stop import OverfittingStop
from lightning_fastrecipes.callbacks.rising_loss_check import RisingLossCheck
from lightning_fastrecipes.callbacks.save_every import SaveEvery
from lightning_fastrecipes.callbacks.seeded_steps import SeededSteps
from lightning_fastrecipes.callbacks.train_metrics import TrainMetrics
from lightning_fastrecipes.callbacks.validation_guard import ValidationGuard
from lightning_fastrecipes.data.common.files import write_json
from lightning_fastrecipes.errors import (
    ConfigurationError,
    DataError,
    DataNotFoundError,
    RecipeError,
)
from lightning_fastrecipes.plots.runs import draw_curves
from lightning_fastrecipes.recipe.artifacts.checkpoints import check_room_for_stage
from lightning_fastrecipes.recipe.artifacts.environment import (
    is_first_process,
    package_versions,
    reset_peak_memory,
)
from lightning_fastrecipes.recipe.artifacts.history import History, read_history
from lightning_fastrecipes.recipe.artifacts.progress import (
    Progress,
    latest_checkpoint,
    trained_epochs,
)
from lightning_fastrecipes.recipe.artifacts.reading import RUN_CURE
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder
from lightning_fastrecipes.recipe.config.bounds import below
from lightning_fastrecipes.recipe.config.building import read_trainer
from lightning_fastrecipes.recipe.config.documents import Place
from lightning_fastrecipes.recipe.config.schema import Recipe, Stage
from lightning_fastrecipes.recipe.loading import modality_of
from lightning_fastrecipes.recipe.run.figures import stage_figures
from lightning_fastrecipes.recipe.run.lr_search import finding_callbacks
from lightning_fastrecipes.recipe.run.parts import adopt, begin_part, describe_parts
from lightning_fastrecipes.recipe.run.plan import (
    StagePlan,
    apply_stage,
    build_callbacks,
    build_parts,
    plan_stages,
    stage_seed,
)
from lightning_fastrecipes.recipe.run.progress_bar import RunBar, RunTable
from lightning_fastrecipes.recipe.run.resuming import (
    check_finished_stages,
    check_history,
    check_unfinished,
    load_finished_stage,
)
from lightning_fastrecipes.recipe.run.time_left import TimeLeft
from lightning_fastrecipes.recipe.run.trainers import build_trainer, stage_checkpoint
from lightning_fastrecipes.recipe.run.workload import EVALUATION, expected_work
from lightning_fastrecipes.recipe.shared.evaluator import Evaluator
from lightning_fastrecipes.recipe.shared.log_steps import count_steps_from
from lightning_fastrecipes.recipe.shared.predictions import Split

logger = logging.getLogger(__name__)


class RunOptions(TypedDict, total=False):
    """How to run a recipe.

    Args:
        resume: Go on after the last finished epoch found in the run folder, or, where the recipe
            has one part more than the folder, continue the run by it; off by default.
        fast_dev_run: Run one batch of everything, to see that it works; off by default.
        show_progress: Draw progress bars; on by default.
        time_left: The estimate of the time left, of all runs of a series; one of its own if not
            given.
    """

    resume: bool
    fast_dev_run: bool
    show_progress: bool
    time_left: TimeLeft


class Run:
    """One run of a recipe, from its data to its results; options are those of ``RunOptions``."""

    def __init__(self, recipe: Recipe, folder: Path, **options: Unpack[RunOptions]) -> None:
        self.recipe = _below(recipe, folder.absolute())
        self.folder = RunFolder(folder)
        self.resume = options.get("resume", False)
        self.fast_dev_run = options.get("fast_dev_run", False)
        self.show_progress = options.get("show_progress", True)
        self.time_left = options.get("time_left") or TimeLeft()
        self.modality = modality_of(recipe)
        self.data: Any
        self.model: Any
        self.evaluator: Evaluator
        self.plans: list[StagePlan]
        self.progress = Progress()
        self._loggers: list[pl.Logger] = []
        self._launchers: list[Any] = []
        self._stage = 0

    @property
    def stages(self) -> list[dict[str, Any]]:
        """The figures of the stages that are trained."""
        return self.progress.stages

    def prepare(self) -> list[StagePlan]:
        """Build data and model and plan every stage, so that mistakes show before training."""
        if self.resume:
            self.progress = adopt(self.recipe, self.folder)
        pl.seed_everything(self.recipe.seed, workers=True, verbose=False)
        self.data, self.model = build_parts(self.recipe)
        self.plans = plan_stages(self.recipe, self.data, self.model)
        if self.show_progress:
            work = expected_work(self.recipe, self.data, self.model, self.plans)
            self.time_left.expect(self.folder.path, work)
        # Looked up at each call, so that a replaced `_trainer` counts here too.
        self.evaluator = Evaluator(
            self.modality,
            self.recipe,
            self.folder.path,
            self.data,
            self.model,
            lambda callbacks, **arguments: self._trainer(callbacks, **arguments),
        )
        check_finished_stages(self.stages, self.recipe, self.data, self.folder)
        if is_first_process():
            begin_part(self.recipe, self.folder, self.progress)
            self.modality.write_findings(self.data, self.folder.path)
        return self.plans

    def is_trained(self, index: int) -> bool:
        """Return whether a stage is finished already, in the run that is resumed or continued."""
        trained = [one["max_epochs"] or 0 for one in self.stages[index : index + 1]]
        return bool(trained) and trained[0] >= self.recipe.stages[index].max_epochs

    def run_stage(self, index: int) -> dict[str, Any]:
        """Train one stage, or load it if it is finished, and return its figures."""
        stage, self._stage = self.recipe.stages[index], index
        earlier = self.stages[index : index + 1]
        if self.is_trained(index):
            check_history(self.folder, stage.name, earlier[0].get("epochs", 0))
            load_finished_stage(self.model, self.folder, stage.name)
            # If the stage stopped before its largest images, the evaluation keeps their size.
            for name in self.modality.size_names:
                setattr(self.data, name, self.stages[index].get(name, getattr(self.data, name)))
            logger.info("Stage %s is finished already", stage.name)
            self.time_left.drop(self.folder.path, stage.name)
            return self.stages[index]
        apply_stage(self.recipe, index, self.data, self.model, self.folder)
        pl.seed_everything(stage_seed(self.recipe.seed, index), workers=True, verbose=False)
        if is_first_process():
            averages = stage.averaging is not None
            check_room_for_stage(self.folder, stage.name, self.model, averages=averages)
        data = self.modality.training_data(stage, self.data, self.model)
        history = History(self.folder.metrics, stage.name)
        reset_peak_memory()
        started = time.perf_counter()
        for history.part, end in self.recipe.part_ends(stage):
            trainer = self._fit(index, end, data, history)
        seconds = sum(one["seconds"] for one in earlier) + time.perf_counter() - started
        figures = stage_figures(stage, self.modality, self.data, trainer, history, seconds)
        self.stages[index:] = [figures]
        if trainer.is_global_zero and not self.fast_dev_run:
            replace(self.progress, recipe=self.recipe.source).write(self.folder)
        logger.info("Stage %s ends: %s", stage.name, figures)
        self.time_left.drop(self.folder.path, stage.name)
        return figures

    def _fit(
        self, index: int, max_epochs: int, data: pl.LightningDataModule, history: History
    ) -> pl.Trainer:
        """Train a stage up to an epoch, from its checkpoint if the stage or the run goes on."""
        stage = self.recipe.stages[index]
        checkpoint = latest_checkpoint(self.folder, stage.name)
        goes_on = (self.resume or history.has_begun) and checkpoint.is_file()
        trainer = self._trainer(self._stage_callbacks(index, history), max_epochs=max_epochs)
        is_last = max_epochs == stage.max_epochs
        if not is_last and (
            self.fast_dev_run or (goes_on and trained_epochs(checkpoint) >= max_epochs)
        ):
            return trainer
        logger.info("Stage %s begins%s", stage.name, " where it stopped" if goes_on else "")
        history.has_begun = False
        if goes_on:
            check_history(self.folder, stage.name, trained_epochs(checkpoint))
            check_unfinished(self.model, checkpoint)
        try:
            trainer.fit(
                self.model,
                datamodule=data,
                ckpt_path=str(checkpoint) if goes_on else None,
                weights_only=True,
            )
        except pl.MisconfigurationException as error:
            raise Place(self.recipe.path, stage.key).error(error) from error
        except Exception as error:
            if not goes_on or history.has_begun:
                raise
            # Lightning restores whatever the checkpoint holds before the first step.
            if isinstance(error, (ConfigurationError, DataError, DataNotFoundError, RecipeError)):
                raise type(error)(f"{error} This came up on resuming from {checkpoint}.") from error
            raise DataError(
                f"{checkpoint} cannot be resumed from: {error!r}. {RUN_CURE}"
            ) from error
        if trainer.is_global_zero:
            self.folder.begun_epoch(stage.name).unlink(missing_ok=True)
        trainer.strategy.barrier()
        return trainer

    def finish(self, members: Mapping[str, Path] | None = None) -> dict[str, Any]:
        """Evaluate, draw, export, and write ``results.json``, whose content is returned.

        ``members`` are name and checkpoint of models that predict together, in place of the trained
        model. If ``None``, the recipe decides: its snapshots or the trained model.
        """
        self._stage = len(self.recipe.stages)
        for stage in self.recipe.stages:
            self.time_left.drop(self.folder.path, stage.name)
        self.evaluator.set_up(members or {}, is_rehearsal=self.fast_dev_run)
        results: dict[str, Any] = {
            "recipe": self.recipe.name,
            "seed": self.recipe.seed,
            "stages": self.stages,
            "val": {},
            "test": {},
            "versions": package_versions(),
        }
        # The validation split first: the test is measured with what is tuned on it.
        for split in (split for split in get_args(Split) if split in self.recipe.evaluation.splits):
            if self.modality.num_samples(self.data, split):
                self.evaluator.measure(split, results)
        describe_parts(self.recipe, self.folder, results)
        if is_first_process():
            self.evaluator.export(self.folder.export)
            history = read_history(self.folder.metrics)
            if len(history):
                seconds = sum(float(stage["seconds"]) for stage in self.stages)
                draw_curves(history, self.folder.path / "curves.png", seconds=seconds)
            write_json(self.folder.results, results)
        return results

    def _stage_callbacks(self, index: int, history: History) -> list[pl.Callback]:
        """Build the callbacks of a stage, and those that every stage has."""
        stage = self.recipe.stages[index]
        checkpoint = self.folder.checkpoint(stage.name)
        callbacks = build_callbacks(self.recipe, index)
        if self.recipe.train_metrics:
            # What averages, which is first, must come before all that looks.
            place = 0 if stage.averaging is None else 1
            callbacks.insert(place, TrainMetrics(self.recipe.train_metrics))
        self.folder.place_snapshots(callbacks, stage.name)
        if stage.until_overfitting:
            callbacks.append(OverfittingStop(patience=stage.until_overfitting))
        callbacks = finding_callbacks(stage, callbacks, self.folder.path, show=self.show_progress)
        if not any(isinstance(callback, RisingLossCheck) for callback in callbacks):
            callbacks.append(RisingLossCheck())
        if index == 0 and self.recipe.initial_checks:
            callbacks.append(InitialLossCheck())
        # First, since what others draw at the start of a step must follow from it too.
        seeds = SeededSteps(stage_seed(self.recipe.seed, index))
        first, last = ([seeds], []) if self.progress.seeds_first else ([], [seeds])
        return [
            *first,
            *callbacks,
            *([ValidationGuard()] if self.recipe.validation_guard else []),
            FiniteLossCheck(),
            *last,
            history,
            stage_checkpoint(checkpoint),
            *self._saving(stage),
        ]

    def _saving(self, stage: Stage) -> list[pl.Callback]:
        if self.recipe.save_every is None or self.fast_dev_run:
            return []
        return [SaveEvery(self.recipe.save_every, self.folder.begun_epoch(stage.name))]

    def _trainer(self, callbacks: list[pl.Callback], **arguments: Any) -> pl.Trainer:
        if self.show_progress:
            names = [stage.name for stage in self.recipe.stages]
            phase = [*names, EVALUATION][self._stage]
            bar = RunBar(self.time_left, self.folder.path, phase)
            callbacks = [*callbacks, RunTable(self.time_left), bar]
            callbacks.sort(key=lambda one: isinstance(one, SaveEvery))  # which stores their states
        if "enable_progress_bar" not in self.recipe.trainer:
            arguments = {"enable_progress_bar": self.show_progress, **arguments}
        if self._loggers:
            arguments = {"logger": self._loggers, **arguments}
        trainer = build_trainer(
            self.recipe,
            self.model,
            **arguments,
            callbacks=callbacks,
            default_root_dir=self.folder.path,
            fast_dev_run=self.fast_dev_run,
        )
        self._launchers.append(trainer.strategy.launcher)
        # One log for all stages and the evaluation, in which steps go on.
        self._loggers = trainer.loggers
        count_steps_from(self._loggers, self._steps_before(self._stage))
        return trainer

    def started_processes(self) -> "list[subprocess.Popen[bytes]]":
        """Return the processes that Lightning has started for this run, beside this one."""
        # In no interface: `test_a_killed_rank_is_named` fails if Lightning keeps them elsewhere.
        found = (getattr(launcher, "procs", ()) for launcher in self._launchers)
        return [one for procs in found for one in procs if isinstance(one, subprocess.Popen)]

    def _steps_before(self, index: int) -> int:
        """Count the steps of the stages before one; earlier versions did not note them."""
        planned = [plan.num_steps for plan in self.plans[:index]]
        done = [stage.get("steps", 0) for stage in self.stages[:index]]
        return sum(steps or planned[place] for place, steps in enumerate(done))


def _below(recipe: Recipe, folder: Path) -> Recipe:
    """Let the callbacks and loggers of a recipe write into the run folder."""
    plain_trainer = recipe.source.get("trainer") or {}
    trainer, placed = recipe.trainer, below(plain_trainer, folder)
    if placed != plain_trainer:
        trainer = read_trainer(placed, Place(recipe.path, "trainer"), check=False)
    stages = []
    for stage in recipe.stages:
        specs = [replace(c, init_args=below(c.init_args, folder)) for c in stage.callbacks]
        stages.append(replace(stage, callbacks=tuple(specs)))
    return replace(recipe, trainer=trainer, stages=tuple(stages))
