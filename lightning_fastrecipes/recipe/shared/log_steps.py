"""Loggers whose steps go on from one fit to the next."""

from collections.abc import Iterable, Mapping
from typing import Any

from lightning_fastrecipes import _lightning as pl


def count_steps_from(loggers: Iterable[pl.Logger], first: int) -> None:
    """Let loggers add a number of steps to those of a trainer, which count from 0 in every fit.

    Only what is logged as numbers moves; images keep the step that they are sent with.
    """
    for logger in loggers:
        _shift(logger, first)


def _shift(logger: pl.Logger, first: int) -> None:
    def log_metrics(metrics: Mapping[str, Any], step: int | None = None) -> None:
        # Of the class, so that shifting a logger again does not add both numbers.
        type(logger).log_metrics(logger, dict(metrics), None if step is None else step + first)

    # On the instance: callbacks ask of which class a logger is.
    logger.log_metrics = log_metrics  # type: ignore[method-assign]
