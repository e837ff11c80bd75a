"""From data to a good model in a stated time: look, measure, try, choose, train together."""

import logging
import math
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lightning_fastrecipes._lightning import rank_zero_info
from lightning_fastrecipes.automatic.candidates import (
    Candidate,
    candidates,
    with_folds,
    with_models,
    with_other_scale,
)
from lightning_fastrecipes.automatic.draft import Draft
from lightning_fastrecipes.automatic.looking import draft_recipe
from lightning_fastrecipes.automatic.planning import (
    SHARE_OF_REST,
    SLOWER,
    Say,
    planned,
    share_to_try,
)
from lightning_fastrecipes.automatic.trials import (
    TimeIsUpError,
    Trial,
    as_table,
    check_folds,
    run_together,
    run_trial,
    within_memory,
)
from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.functional.choosing import Choice, Losses, choose, standard_error
from lightning_fastrecipes.functional.timing import models_within
from lightning_fastrecipes.life_signs import duration
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder, take_over
from lightning_fastrecipes.recipe.predictor import Predictor, load
from lightning_fastrecipes.recipe.run.terminal import headline

logger = logging.getLogger(__name__)

_MOST_SPLITS, _MOST_MODELS = 4, 5


def auto(
    data: Any,
    *,
    target: str | None = None,
    minutes: float = 10.0,
    out: str | Path | None = None,
    images: str | Path | None = None,
    folds: int = 0,
) -> Predictor:
    """Train a good model for images or a table within a time, without any number to choose.

    Looks at the data as ``fastrecipes new`` does, measures the machine, tries recipes from the
    simplest on, keeps the best by the losses of the validation rows (the rule of one standard
    error), and leaves the run folder of an ordinary recipe, whose ``recipe.yaml`` trains the same.
    What was decided and why is logged, and kept in ``decisions.txt`` and ``trials.csv``. If it is
    interrupted, the best so far is in the folder.

    Args:
        data: A folder of images with a folder for each class, a table that names images or a table
            of rows: a file, a pattern, ``package:NAME/inner/path``, or a table in memory.
        target: Column to predict; by its name, or the last one, if not given.
        minutes: How long it may take, above 0.
        out: Folder to write to, empty or not there yet; ``runs/NAME-auto`` if not given.
        images: Folder of the images that a table names; looked for near the table if not given.
        folds: How many models are trained in the end, at least 2, each validated on a part of the
            rows that it has not seen; 0 for no folds.

    Returns:
        The model, as ``load(out)`` gives it.

    Raises:
        ConfigurationError: If ``minutes`` is not above 0, or ``out`` has content.
        RecipeError: If ``folds`` is 1 or below 0, or the data bring their own rows to validate on.
        DataError: If the data cannot be learned from, or the time is too short for any model.
        DataNotFoundError: If there are no such data.
    """
    folder = Path(out) if out is not None else default_folder(data)
    train_within(data, target, minutes, folder, rank_zero_info, images=images, folds=folds)
    return load(folder)


def default_folder(data: Any) -> Path:
    """Return where a model is written whose user names no folder."""
    name = Path(str(data)).name.split(".")[0] if isinstance(data, (str, Path)) else "table"
    return Path("runs") / f"{name.replace('*', 'all') or 'data'}-auto"


def train_within(
    data: Any,
    target: str | None,
    minutes: float,
    folder: Path,
    say: Say,
    *,
    images: str | Path | None = None,
    folds: int = 0,
    began: float | None = None,
    to_report: float = 0.0,
) -> None:
    """Do what ``auto`` does, and say each decision and what was reached.

    The minutes count from ``began`` on, a time of ``time.monotonic``, or now; of them ``to_report``
    seconds are left to the caller.
    """
    if not 0 < minutes < math.inf:
        raise ConfigurationError(f"`minutes` must be a number above 0, got {minutes}.")
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(f"{folder} is not empty. Name another folder by `out`.")
    started = time.monotonic() if began is None else began
    session = Session(folder, started, started + 60 * minutes - to_report, say, folds)
    draft = draft_recipe(data, target, folder, images=images)
    try:
        for decision in draft.decisions:
            session.say(str(decision))
        session.run(draft)
    except (DataError, ConfigurationError, KeyboardInterrupt, SystemExit):
        session.clear_if_untrained()
        raise


class Session:
    """Trials and what was chosen, for one data set and one time.

    ``start`` and ``end`` are times of ``time.monotonic``.
    """

    def __init__(self, folder: Path, start: float, end: float, say: Say, folds: int = 0) -> None:
        self.folder = folder
        self.folds = folds
        self.start, self.end = start, end
        self._say = say
        self._said: list[str] = []
        self._trials: dict[str, list[Trial]] = {}
        self._adopted: str | None = None

    def say(self, sentence: str) -> None:
        """Print a decision, and add it to ``decisions.txt``."""
        self._said.append(sentence)
        self._say(sentence)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / "decisions.txt", "\n".join(self._said) + "\n")

    def clear_if_untrained(self) -> None:
        """Empty the folder, as it was, if it has no model, so that ``auto`` takes it again."""
        if self.folder.is_dir() and not (self.folder / "results.json").is_file():
            for path in self.folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    @property
    def seconds_left(self) -> float:
        """Seconds until the end."""
        return self.end - time.monotonic()

    def run(self, draft: Draft) -> None:
        """Try, choose, and train what was chosen; raise `DataError` if nothing was trained."""
        # Every training is compared with others here, so that nothing needs to guard it.
        document = draft.document | {"name": self.folder.name, "validation_guard": False}
        found = candidates(document)
        measuring = self.folder / "trials" / "measuring"
        if self.folds:
            check_folds(with_folds(found[0], self.folds), measuring)
        share = share_to_try(found, self.folds)
        contenders = planned(found, share, self.end, measuring, self.say)
        to_try = self.start + share * (self.end - self.start)
        for split in range(_MOST_SPLITS):
            tried = self._try_all(contenders, split, to_try)
            if split == 0 and tried and draft.has_other_scale:
                other = with_other_scale(self._candidate(self._choice().name, contenders))
                contenders = [*contenders, other]
                tried = self._try_all([other], split, to_try)
            write_atomically(self.folder / "trials.csv", as_table(self._trials))
            if not tried or contenders[0].with_split_seed(split + 1) is None:
                break
            contenders = self._close(contenders)
            if len(contenders) < 2 or not contenders[0].is_table:
                break
        if self._adopted is None:
            raise DataError(
                f"No model could be trained in {duration(self.end - self.start)}. Give more"
                " `minutes`."
            )
        choice = self._choice()
        self.say(f"chosen: {choice.sentence}")
        if self.folds:
            self._train_folds(choice.name)
        elif contenders[0].is_table:
            self._train_together(choice.name)
        self.say(headline(RunFolder(self.folder).read_results()))
        spent = time.monotonic() - self.start
        self.say(f"time: {spent:.0f} of {self.end - self.start:.0f} seconds; in {self.folder}.")

    def _try_all(self, contenders: list[Candidate], split: int, to_try: float) -> bool:
        """Try each candidate on one draw of the validation rows; return whether all were tried."""
        for candidate in contenders:
            known = [trial.seconds for trial in self._trials.get(candidate.name, [])]
            needed = SLOWER * max(known, default=0.0)
            is_first = self._adopted is None
            if not is_first and time.monotonic() + needed > to_try:
                self.say(f"tried no more: {candidate.name} would not end in time.")
                return False
            drawn = candidate if split == 0 else candidate.with_split_seed(split)
            if drawn is None or not self._try(drawn, split, self.end if is_first else to_try):
                return False
        return True

    def _try(self, candidate: Candidate, split: int, end: float) -> bool:
        folder = self.folder / "trials" / f"{candidate.name.replace(' ', '_')}-{split}"

        def is_best(losses: Losses) -> bool:
            others = {n: t[0].losses for n, t in self._trials.items()} if split == 0 else {}
            chosen = choose({**others, candidate.name: losses}).name
            return split == 0 and chosen == candidate.name

        try:
            trial: Trial = within_memory(
                candidate, lambda one: run_trial(one, folder, end, finish=is_best), self.say
            )
        except TimeIsUpError:
            self.say(f"{candidate.name}: ended before it was trained, since its time was up.")
            return False
        trial = replace(trial, candidate=candidate)
        self._trials.setdefault(candidate.name, []).append(trial)
        mean, error = float(np.mean(trial.losses)), standard_error(trial.losses)
        self.say(
            f"tried: {candidate.name}, loss {mean:.4g} +- {error:.2g} on {len(trial.losses):,}"
            f" validation rows (draw {split}), in {trial.seconds:.0f} s."
        )
        if is_best(trial.losses):
            take_over(folder, self.folder)
            self._adopted = candidate.name
        return True

    def _pooled(self) -> dict[str, Losses]:
        """Return the losses of the candidates that were tried on all draws, simplest first."""
        most = max(map(len, self._trials.values()))
        return {
            name: np.concatenate([trial.losses for trial in trials])
            for name, trials in self._trials.items()
            if len(trials) == most
        }

    def _choice(self) -> Choice:
        return choose(self._pooled())

    def _close(self, contenders: list[Candidate]) -> list[Candidate]:
        """Leave out what is worse than the best by more than two standard errors."""
        pooled = self._pooled()
        best = min(pooled, key=lambda name: float(np.mean(pooled[name])))
        kept = []
        for candidate in contenders:
            if candidate.name in pooled:
                worse = pooled[candidate.name] - pooled[best]
                if candidate.name == best or np.mean(worse) <= 2 * standard_error(worse):
                    kept.append(candidate)
        return kept

    def _candidate(self, name: str, contenders: list[Candidate]) -> Candidate:
        return next(candidate for candidate in contenders if candidate.name == name)

    def _train_together(self, name: str) -> None:
        """Train the chosen recipe with as many seeds as the time allows, and adopt that run."""
        first = self._trials[name][0]
        seconds = SLOWER * float(np.mean([trial.seconds for trial in self._trials[name]]))
        count = models_within(seconds, SHARE_OF_REST * self.seconds_left - seconds, _MOST_MODELS)
        if count < 1 or (count == 1 and self._adopted == name):
            self.say(f"models: 1, since another takes {seconds:.0f} s of {self.seconds_left:.0f}.")
            if self._adopted != name and (first.folder / "export").is_dir():
                take_over(first.folder, self.folder)
            return
        if self._adopt(with_models(first.candidate, count), "models: 1"):
            self.say(f"models: {count} of other seeds predict together, {seconds:.0f} s each.")

    def _train_folds(self, name: str) -> None:
        """Train the chosen recipe by folds, and adopt that run, if the time allows."""
        first = self._trials[name][0]
        seconds = SLOWER * first.seconds * self.folds
        if self._adopted != name and (first.folder / "export").is_dir():
            take_over(first.folder, self.folder)
        if seconds > self.seconds_left:
            self.say(
                f"folds: none, since {self.folds} models take {seconds:.0f} s of"
                f" {self.seconds_left:.0f}. Give more `minutes`."
            )
        elif self._adopt(with_folds(first.candidate, self.folds), "folds: none"):
            self.say(f"folds: {self.folds} models, each of other rows, predict together.")

    def _adopt(self, candidate: Candidate, otherwise: str) -> bool:
        """Train several models, and put their run in place of that so far; return if in time."""
        folder = self.folder / "trials" / "together"
        try:
            run_together(candidate, folder, self.end)
        except TimeIsUpError:
            self.say(f"{otherwise}, since several did not end in time.")
            return False
        take_over(folder, self.folder)
        self._adopted = candidate.name
        return True
