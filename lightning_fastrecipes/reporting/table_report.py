"""The report of a run of a table."""

from lightning_fastrecipes.reporting.advice import Figures
from lightning_fastrecipes.reporting.blocks import Page
from lightning_fastrecipes.reporting.finished_run import FinishedRun
from lightning_fastrecipes.reporting.overview import results_blocks


def write_table_report(run: FinishedRun, page: Page, figures: Figures) -> None:
    """Put everything that is known of a table on the page."""
    figures.take(run, {}, {})
    page.add("results", "Results", results_blocks(run, {}, {}))
