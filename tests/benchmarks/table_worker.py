"""One measurement of tables, in a process of its own: ``python table_worker.py TASK FOLDER ...``.

Prints one line of JSON. ``test_tables.py`` starts it; ``fastai_epoch`` runs in fastai's own
interpreter, so nothing of ours is imported before a task asks for it.
"""

import json
import resource
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd

# Rossmann's: how many values its 22 categorical columns have, and 16 continuous ones.
CARDINALITIES = [1115, 7, 3, 12, 31, 3, 2, 25, 3, 4, 12, 52, 26, 2, 8, 8, 8, 8, 8, 8, 21, 12]
NUM_CONTINUOUS = 16
CATEGORICAL = [f"kind{i}" for i in range(len(CARDINALITIES))]
CONTINUOUS = [f"number{i}" for i in range(NUM_CONTINUOUS)]
LAYERS, DROPOUT, EMBEDDING_DROPOUT, LR = [1000, 500], [0.001, 0.01], 0.04, 1e-3
MIB = 1 << 20


def make(folder: Path, num_rows: int, ending: str) -> dict:
    """Write a table of narrow types: codes as small integers or text, numbers with some gaps."""
    draw = np.random.default_rng(0)
    frame = {}
    for name, count in zip(CATEGORICAL, CARDINALITIES, strict=True):
        codes = draw.integers(0, count, num_rows).astype(np.int16 if count > 127 else np.int8)
        if 20 < count < 30:
            frame[name] = pd.Categorical.from_codes(codes, [f"value {i}" for i in range(count)])
        else:
            frame[name] = codes
    for i, name in enumerate(CONTINUOUS):
        frame[name] = draw.random(num_rows, dtype=np.float32)
        if i < 3:
            frame[name][draw.random(num_rows, dtype=np.float32) < 0.1] = np.nan
    frame["day"] = np.datetime64("2013-01-01", "s") + np.arange(num_rows) * 942 // num_rows * 86400
    frame["sales"] = draw.integers(1000, 20000, num_rows).astype(np.int16)
    table = pd.DataFrame(frame, copy=False)
    path = folder / f"table{ending}"
    if ending == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    return {"narrow_mib": int(table.memory_usage(deep=True).sum()) / MIB}


def module(folder: Path, ending: str, batch_size: int):
    from lightning_fastrecipes.data.common.split_choice import DateSplit
    from lightning_fastrecipes.data.tables.columns import TableColumns
    from lightning_fastrecipes.data.tables.datamodule import TabularDataModule

    return TabularDataModule(
        folder / f"table{ending}",
        TableColumns("sales", CATEGORICAL, CONTINUOUS, log_target=True),
        split=DateSplit("day", val_from="2015-06-19"),
        batch_size=batch_size,
        cache=folder / "cache",
    )


def first_batch(folder: Path, ending: str) -> dict:
    """Time from a datamodule's constructor to its first batch."""
    import pytorch_lightning  # noqa: F401

    import lightning_fastrecipes.data.tables.datamodule  # noqa: F401

    started = time.perf_counter()
    data = module(folder, ending, 512)
    data.prepare_data()
    data.setup("fit")
    next(iter(data.train_dataloader()))
    return {"seconds": time.perf_counter() - started}


def epoch(folder: Path, ending: str, batch_size: int, num_threads: int, precision: str) -> dict:
    """Time an epoch of ours, its first ten steps left out.

    ``auto`` is the precision that the command chooses.
    """
    import pytorch_lightning as pl
    import torch

    from lightning_fastrecipes.recipe.config.defaults import default_precision
    from lightning_fastrecipes.tasks.table_task import TabularNetwork
    from lightning_fastrecipes.tasks.tabular import TabularRegressor

    torch.set_num_threads(num_threads)
    data = module(folder, ending, batch_size)
    model = TabularRegressor(
        network=TabularNetwork(LAYERS, DROPOUT, EMBEDDING_DROPOUT, "fastai"), lr=LR
    )

    class Clock(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx == 9:
                self.started = time.perf_counter()

        def on_train_epoch_end(self, trainer, pl_module):
            self.seconds = time.perf_counter() - self.started

    clock = Clock()
    if precision == "auto":
        precision = default_precision("cpu", model)
    trainer = pl.Trainer(
        max_epochs=1, precision=precision, limit_val_batches=0, callbacks=[clock],
        accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, data)
    return {"seconds": clock.seconds, "steps": trainer.global_step - 10}


def fastai_epoch(folder: Path, ending: str, batch_size: int, num_threads: int) -> dict:
    """Time an epoch of fastai's tabular learner, its first ten steps left out."""
    import torch
    from fastai.tabular.all import (
        Callback,
        Categorify,
        FillMissing,
        Normalize,
        RegressionBlock,
        TabularPandas,
        tabular_learner,
    )  # fmt: skip

    torch.set_num_threads(num_threads)
    table = pd.read_parquet(folder / f"table{ending}")
    table["sales"] = np.log(table["sales"].astype(np.float32))
    is_train = (table["day"] < "2015-06-19").to_numpy()
    splits = (np.flatnonzero(is_train).tolist(), np.flatnonzero(~is_train)[:100].tolist())
    prepared = TabularPandas(
        table.drop(columns="day"), [Categorify, FillMissing, Normalize], CATEGORICAL, CONTINUOUS,
        y_names="sales", y_block=RegressionBlock(), splits=splits,
    )  # fmt: skip
    loaders = prepared.dataloaders(bs=batch_size, device=torch.device("cpu"))

    class Clock(Callback):
        def after_batch(self):
            if self.training and self.iter == 9:
                self.started = time.perf_counter()

        def after_train(self):
            self.learn.seconds = time.perf_counter() - self.started

    config = {"ps": DROPOUT, "embed_p": EMBEDDING_DROPOUT, "y_range": (0, 12)}
    learner = tabular_learner(loaders, layers=LAYERS, config=config, cbs=[Clock()])
    with learner.no_bar(), learner.no_logging():
        learner.fit(1, LR)
    return {"seconds": learner.seconds, "steps": len(loaders.train) - 10}


class Peak:
    """The greatest memory of our own (not of mapped files), watched by a thread."""

    def __enter__(self) -> "Peak":
        self.before = self.greatest = self.now()
        self.is_done = False
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.is_done = True
        self.thread.join()
        self.mib = (self.greatest - self.before) / MIB

    def watch(self) -> None:
        while not self.is_done:
            self.greatest = max(self.greatest, self.now())
            time.sleep(0.01)

    @staticmethod
    def now() -> int:
        fields = dict(
            line.split(":") for line in Path("/proc/self/status").read_text().splitlines()
        )
        return int(fields["RssAnon"].split()[0]) * 1024


def size(folder: Path, ending: str, batch_size: int, num_threads: int) -> dict:
    """Time and memory of preparing and then training on a table."""
    import pytorch_lightning as pl
    import torch

    from lightning_fastrecipes.tasks.tabular import TabularRegressor

    torch.set_num_threads(num_threads)
    found = {}
    with Peak() as peak:
        started = time.perf_counter()
        data = module(folder, ending, batch_size)
        data.prepare_data()
        data.setup("fit")
        found["prepare_seconds"] = time.perf_counter() - started
    found["prepare_peak_mib"] = peak.mib
    trainer = pl.Trainer(
        max_epochs=1, limit_val_batches=0, logger=False, accelerator="cpu",
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with Peak() as peak:
        started = time.perf_counter()
        trainer.fit(TabularRegressor(network={"layers": [64], "dropout": 0.0}), data)
        found["epoch_seconds"] = time.perf_counter() - started
    found["epoch_peak_mib"] = peak.mib
    found["process_peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


TASKS = {task.__name__: task for task in (make, first_batch, epoch, fastai_epoch, size)}

if __name__ == "__main__":
    name, folder, *rest = sys.argv[1:]
    arguments = [int(word) if word.isdigit() else word for word in rest]
    print(json.dumps(TASKS[name](Path(folder), *arguments)))
