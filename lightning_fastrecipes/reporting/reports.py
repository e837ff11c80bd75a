"""Write the report of a run: one file of HTML in its folder."""

from pathlib import Path

from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.errors import DataNotFoundError
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder
from lightning_fastrecipes.reporting.advice import Figures, advise
from lightning_fastrecipes.reporting.blocks import Block, Page, Section
from lightning_fastrecipes.reporting.finished_run import FinishedRun, read_run
from lightning_fastrecipes.reporting.overview import (
    curve_blocks,
    history_of,
    recipe_blocks,
    time_blocks,
)
from lightning_fastrecipes.reporting.page import render
from lightning_fastrecipes.trust import Trust

REPORT = "report.html"


def report(run: str | Path, *, trust: Trust = ()) -> Path:
    """Write what a finished run has learned to one page of HTML, and what to try next.

    The page needs no network and no other file, so that it can be mailed. Where the data are gone,
    it shows what the run folder holds.

    Args:
        run: The run folder; of a series of variants, each variant gets a report of its own.
        trust: Modules whose code the recipe may name, besides those of known packages.

    Returns:
        The file that was written, ``report.html`` in the run folder; of a series that of the last
        variant.

    Raises:
        DataNotFoundError: If the folder is none of a finished run.
        DataError: If a file in it is damaged.
    """
    path = Path(run)
    if homes := variant_folders(path):
        return [report(home, trust=trust) for home in homes][-1]
    found = read_run(path, trust)
    target = path / REPORT
    write_atomically(target, render(build_page(found)))
    return target


def variant_folders(path: Path) -> list[Path]:
    """Return the run folders of a series, in the order of their names; none of a single run."""
    home = RunFolder(path).variant("x").parent
    if not home.is_dir():
        return []
    found = [folder for folder in sorted(home.iterdir()) if (folder / "results.json").is_file()]
    if not found:
        raise DataNotFoundError(
            f"{path} holds no finished variant. Finish it with `fastrecipes run --resume {path}`."
        )
    return found


def build_page(run: FinishedRun) -> Page:
    """Return everything that is to be said of a run."""
    page = Page(f"Report of {run.recipe.name}", run.recipe.description)
    figures = Figures(history=history_of(run)[0], stages=list(run.results["stages"]))
    figures.found_rates = _found_rates(run)
    if run.data is not None:
        figures.num_train = _num_train(run)
    if run.is_table:
        from lightning_fastrecipes.reporting.table_report import write_table_report

        write_table_report(run, page, figures)
    else:
        from lightning_fastrecipes.reporting.image_report import begin_image_report

        begin_image_report(run, page, figures).write()
    page.add("curves", "Curves", curve_blocks(run))
    page.add("time", "Time", time_blocks(run))
    page.add("recipe", "Recipe and versions", recipe_blocks(run))
    page.sections.insert(1, Section("next", "What to try next", [_advice_block(figures)]))
    return page


def _advice_block(figures: Figures) -> Block:
    items = [{"title": one.title, "text": one.reason} for one in advise(figures)]
    return {"type": "list", "items": items}


def _found_rates(run: FinishedRun) -> dict[str, tuple[float, float]]:
    """Return the rates that stages trained at, and those that a finder suggested beside them."""
    found = {}
    for stage in run.recipe.stages:
        suggested = run.folder.found_lr(stage.name)
        if suggested is not None and isinstance(stage.lr, float):
            found[stage.name] = stage.lr, suggested
    return found


def _num_train(run: FinishedRun) -> int:
    return int(run.data.num_rows("train")) if run.is_table else len(run.data.train_targets)
