"""Where the messages of a run go: all to its log, this package's warnings to the terminal too."""

import logging
import re
from pathlib import Path

from rich.console import Console

from lightning_fastrecipes._lightning import LIGHTNING
from lightning_fastrecipes.messages import printable


def log_to(path: Path, console: Console) -> None:
    """Append the messages of this package, of Lightning and of warnings to a file.

    This package's own warnings are shown on the console as well.
    """
    # Lightning's information on devices and loops goes to the log alone. First: where there is no
    # room for a log, what ends the run is said without a traceback.
    keep_quiet(console)
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(_Printable("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in ("lightning_fastrecipes", LIGHTNING, "py.warnings"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(min(logger.level or logging.INFO, logging.INFO))


def keep_quiet(console: Console) -> None:
    """Show no log messages except Lightning's, and of Python's warnings this package's alone."""
    logging.captureWarnings(True)
    warnings = logging.getLogger("py.warnings")
    for handler in [one for one in warnings.handlers if isinstance(one, _OwnWarnings)]:
        warnings.removeHandler(handler)
    warnings.addHandler(_OwnWarnings(console))
    # Without any handler Python would write our warnings to the terminal by itself.
    logging.getLogger("lightning_fastrecipes").addHandler(logging.NullHandler())
    for name in (LIGHTNING, LIGHTNING.partition(".")[0]):
        for shown in logging.getLogger(name).handlers:
            if not isinstance(shown, logging.FileHandler):
                shown.setLevel(logging.WARNING)


class _LogFile(logging.FileHandler):
    """A log that is left out where its disk is full: what ends the run is said elsewhere."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Write no traceback to the terminal."""


class _Printable(logging.Formatter):
    """Write out what a terminal would act upon, for whoever prints the log."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as a line, and errors below it."""
        return printable(super().format(record))


class _OwnWarnings(logging.Handler):
    """Show this package's own warnings on the terminal; the others are in the log."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print the text of a captured warning without its place in the code."""
        place, *texts = re.split(r":\d+: (?:\w+: )?", record.getMessage(), maxsplit=1)
        if texts and "lightning_fastrecipes" in place:
            text = f"fastrecipes: {texts[0].splitlines()[0]}"
            self.console.print(text, style="yellow", markup=False)
