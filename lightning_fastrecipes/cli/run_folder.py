"""Which folder a run writes to, decided once for all processes of the run."""

import argparse
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from lightning_fastrecipes.cli.launch import agree, find_launch
from lightning_fastrecipes.cli.output import check_place, refuse_links
from lightning_fastrecipes.data.common.files import sweep_parts
from lightning_fastrecipes.data.common.sources import check_file, check_folder
from lightning_fastrecipes.errors import (
    ConfigurationError,
    DataError,
    DataNotFoundError,
    RecipeError,
)
from lightning_fastrecipes.formats import PART

RUN_FOLDER_VARIABLE = "FASTRECIPES_RUN_FOLDER"
LOCK = ".lock"
"""The file by which one run keeps others out of its folder; it stays."""

_BEFORE_TRAINING = {LOCK, "log.txt", "recipe.yaml", "progress.json", "checkpoints"}
"""What is in a folder before the first epoch ends; the last is a folder without files."""
_PATIENCE = 10.0


def goes_on(options: argparse.Namespace) -> Path | None:
    """Return the run folder that a run goes on in, resumed or continued."""
    folder: Path | None = options.resume or options.continued
    return folder


def run_folder(options: argparse.Namespace) -> Path:
    """Return the run folder, decided once for all processes of a run.

    Raise `RecipeError` if there is none that can be written to.
    """
    decided = os.environ.get(RUN_FOLDER_VARIABLE)
    if decided is not None and "LOCAL_RANK" in os.environ:
        return Path(decided)
    launch = find_launch(os.environ)
    return _decide(options) if launch is None else agree(launch, lambda: _decide(options))


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Make a run's folder, refuse a second run in it, and sweep what killed writes left.

    A run that is refused before its first epoch ends leaves nothing that was not there before.
    Raise `RecipeError` if another run is there.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    known = [] if missing else [*folder.iterdir()]
    lock = _locked(folder)
    try:
        sweep_parts(folder)
        yield
    except (RecipeError, DataError, DataNotFoundError, ConfigurationError):
        new = {*folder.iterdir()} - {*known}
        if {path.name for path in new} <= _BEFORE_TRAINING and not _holds_weights(folder):
            for path in new:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            with suppress(OSError):  # of a folder that another run is in as well
                for path in missing:
                    path.rmdir()
        raise
    finally:
        lock.release()


def _holds_weights(folder: Path) -> bool:
    """Return whether a run has written a checkpoint."""
    return any(path.suffix == ".ckpt" for path in folder.glob("checkpoints/**/*"))


def _locked(folder: Path) -> FileLock:
    """Make a folder and lock it, with a file that is still there when the lock is taken."""
    path = check_file(folder / LOCK)
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        # A run that is refused takes its lock away, for which another may wait.
        with suppress(FileNotFoundError), path.open("a") as file:
            lock = FileLock(path)
            try:
                # Workers of a run that was killed hold it for some seconds.
                lock.acquire(timeout=_PATIENCE)
            except Timeout as error:
                raise RecipeError(
                    f"Another run writes to {folder}. Wait until it ends, end it, or name another"
                    " folder with `--out`."
                ) from error
            try:
                if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    return lock
            except FileNotFoundError:
                pass
            lock.release()


def _decide(options: argparse.Namespace) -> Path:
    folder: Path | None = options.out
    before = goes_on(options)
    if options.add and options.continued is None:
        raise RecipeError("`--add` adds a stage to a finished run: `--continue DIR --add NAME`.")
    if before is not None:
        word = "--resume" if options.continued is None else "--continue"
        others = (folder, options.recipe, options.variant, options.resume and options.continued)
        if any(value is not None for value in others) or options.fast_dev_run:
            raise RecipeError(
                f"`{word} DIR` takes recipe, variant and folder from DIR, and trains in earnest:"
                " leave out everything but overrides."
            )
        if not (before / "recipe.yaml").is_file():
            raise RecipeError(f"{before} is no run folder: it has no recipe.yaml.")
        check_place(before, word, is_folder=True)
        refuse_links(before)
        check_folder(before)
        return before
    if options.recipe is None:
        raise RecipeError(
            "Name a recipe: `fastrecipes run solar_cells`; `fastrecipes ls` lists them."
        )
    if folder is None and os.environ.get("NODE_RANK", "0") != "0":
        raise RecipeError("On several nodes, name one run folder with `--out`, the same on each.")
    if folder is None:
        from lightning_fastrecipes.recipe.config.catalog import find_recipe, recipe_name
        from lightning_fastrecipes.recipe.config.documents import read_document

        path = find_recipe(options.recipe)
        name = str(recipe_name(path, read_document(path)))
        base = Path("runs") / "-".join(filter(None, (name, options.variant)))
        taken = (Path(f"{base}-{number}") for number in range(2, 100_000))
        check_place(base.parent, is_folder=True)
        return base if not base.exists() else next(path for path in taken if not path.exists())
    check_place(folder, is_folder=True)
    # A run that was killed before training has left its log alone, or half of its recipe.
    found = folder.iterdir() if folder.exists() else ()
    is_used = any(
        path.name not in ("log.txt", LOCK) and not path.name.startswith(PART) for path in found
    )
    # The first node of a run may have begun in it.
    if is_used and os.environ.get("NODE_RANK", "0") == "0":
        raise RecipeError(
            f"{folder} is not empty. Name another folder with `--out`, or go on with"
            f" `fastrecipes run --resume {folder}`."
        )
    return folder
