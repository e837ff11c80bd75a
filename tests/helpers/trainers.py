"""Trainers that print and write nothing."""

from typing import Any

import pytorch_lightning as pl

QUIET = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def quiet_trainer(*callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    """Build a trainer of one CPU."""
    return pl.Trainer(callbacks=list(callbacks), **(QUIET | options))
