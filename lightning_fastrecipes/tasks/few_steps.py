"""A fit on a table that is over before anything is learned."""

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.functional.decisions import counted
from lightning_fastrecipes.functional.tables.sizing import LEAST_STEPS, table_sizes

FEW_STEPS = 100
"""Optimizer steps of a fit below which it is warned of."""


def warn_of_few_steps(trainer: pl.Trainer) -> None:
    """Warn of a fit of fewer than ``FEW_STEPS`` optimizer steps, with sizes that learn the table.

    Trials of a few batches that were asked for are none.
    """
    steps, limit = trainer.estimated_stepping_batches, trainer.limit_train_batches
    is_limited = isinstance(limit, int) or limit != 1.0
    # Lightning's stub has no `overfit_batches`.
    is_limited = is_limited or getattr(trainer, "overfit_batches", 0) > 0
    is_trial = pl.is_fast_dev_run(trainer) or is_limited
    if is_trial or steps >= FEW_STEPS:
        return
    count_rows = getattr(getattr(trainer, "datamodule", None), "num_rows", None)
    cure = ""
    if count_rows is not None:
        sizes = table_sizes(count_rows("train"))
        cure = f", such as `batch_size={sizes.batch_size}` and `max_epochs={sizes.max_epochs}`"
    rank_zero_warn(
        f"This fit takes {counted(int(steps), 'optimizer step')} in all, in which a table is hardly"
        f" learned; {LEAST_STEPS} or more are usual. Take smaller batches or more epochs"
        f"{cure}."
    )
