"""The commands that show what a run has learned, and how networks compute."""

import argparse
import logging
from pathlib import Path
from typing import Any

from lightning_fastrecipes.cli.output import check_finished, check_place, err, out
from lightning_fastrecipes.cli.run_folder import only_run_in
from lightning_fastrecipes.trust import Trust


def report(options: argparse.Namespace) -> int:
    """Write the report of a finished run."""
    check_finished(options.run_folder)
    from lightning_fastrecipes.recipe.artifacts.environment import keep_freed_memory
    from lightning_fastrecipes.recipe.artifacts.logs import keep_quiet
    from lightning_fastrecipes.reporting.reports import report as write

    keep_freed_memory()
    keep_quiet(err)
    out.print(f"Report: {write(options.run_folder, trust=options.trust)}")
    return 0


def clean(options: argparse.Namespace) -> int:
    """Apply the decisions of a report to the labels of its run."""
    check_finished(options.run_folder)
    from lightning_fastrecipes.recipe.artifacts.logs import keep_quiet
    from lightning_fastrecipes.reporting.cleaning import clean as apply

    keep_quiet(err)
    found = apply(options.run_folder, options.apply, trust=options.trust)
    out.print(
        f"Labels: {found.labels} ({found.relabelled} changed, {found.removed} images left out,"
        f" {found.left} as they were). No image was touched."
    )
    out.print(f"Next: fastrecipes run {found.recipe}")
    return 0


def look(options: argparse.Namespace) -> int:
    """Write a page, or a spreadsheet, that shows how a network computes."""
    check_place(options.out)
    if options.look in ("layers", "trace"):
        check_finished(options.run_folder)
    from lightning_fastrecipes.data.common.files import write_atomically

    if options.look == "trace":
        from lightning_fastrecipes.reporting.looks.trace import trace

        trace(options.run_folder, options.image, options.out, trust=options.trust)
        out.print(f"Spreadsheet: {options.out}")
        return 0
    write_atomically(options.out, _page(options))
    out.print(f"Page: {options.out}")
    return 0


def _page(options: argparse.Namespace) -> str:
    if options.look == "layers":
        from lightning_fastrecipes.reporting.looks.layers import layers_page

        return layers_page(
            options.run_folder, options.image, num_images=options.images, trust=options.trust
        )
    if options.look == "fit":
        from lightning_fastrecipes.reporting.looks.fit import fit_page

        return fit_page()
    from lightning_fastrecipes.reporting.looks.kernels import kernels_page

    return kernels_page(options.image)


def report_on_run(recipe: Any, folder: Path, trust: Trust) -> None:
    """Write the report of a run that has just ended, which stays finished if that fails."""
    if not recipe.report:
        return
    from lightning_fastrecipes.reporting.reports import report as write

    try:
        out.print("Writing the report, which `report: false` leaves out")
        with only_run_in(folder):  # sweeps what a killed one left
            place = write(folder, trust=trust)
        out.print(f"Report: {place}")
    except Exception as error:  # whatever it is, the run has ended well
        logging.getLogger(__name__).exception("The report failed")
        again = f"The run is finished. Try again with: fastrecipes report {folder}"
        err.print(f"fastrecipes: there is no report: {error} {again}", style="red")


def said_finished(recipe: Any, folder: Path, trust: Trust) -> bool:
    """Show what a run has reached, if it is finished, in place of resuming it."""
    from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder
    from lightning_fastrecipes.recipe.run import terminal
    from lightning_fastrecipes.recipe.run.parts import is_finished

    if not is_finished(recipe, RunFolder(folder)):
        return False
    terminal.print_results(out, RunFolder(folder).read_results())
    more = f"fastrecipes run --continue {folder} --stages.NAME.max_epochs=N"
    out.print(f"{folder} is finished, and stays as it is. Train it further with: {more}")
    if not (folder / "report.html").exists():
        report_on_run(recipe, folder, trust)
    return True
