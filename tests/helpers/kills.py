"""Runs of the command in processes forked from this warm one, and ended at any moment."""

import logging
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lightning_fastrecipes.callbacks.seeded_steps import SeededSteps
from lightning_fastrecipes.cli.main import main

_WRITES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.move"}
At = Callable[[int, str], None]


@dataclass
class Ended:
    """How a process ended: its exit code, or minus the signal; its words; how often it ticked."""

    code: int
    said: str
    ticks: int


def run_forked(words: list[str], home: Path, at: At | None = None) -> Ended:
    """Run the command in a child process.

    Args:
        words: Those after ``fastrecipes``.
        home: All that counts lies below it: each file that is opened, made, moved or removed there
            is a tick, and so is each training step.
        at: Called with the number of each tick, and with what it is, before it happens: ``step``,
            or the event and the path, such as ``open .../metrics.csv``.

    Returns:
        How it ended.
    """
    said, counted = home / "said.txt", home / "ticks.txt"
    counted.write_text("0")
    child = os.fork()
    if child == 0:
        code = 70
        try:
            file = said.open("w")
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            sys.stdout = sys.stderr = file  # not those of pytest
            signal.signal(signal.SIGINT, signal.default_int_handler)
            warnings.resetwarnings()  # pytest makes errors of them
            # A command that ran before has its hand on them, and pytest has it off again.
            logging.captureWarnings(False)
            ticks = _count_ticks(home, at)
            code = main(words)
            counted.write_text(str(ticks[0]))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), said.read_text(), int(counted.read_text()))


def killed_at(number: int) -> At:
    """Return what kills the process at a tick, with no time for anything else."""

    def kill(tick: int, _: str) -> None:
        if tick == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return kill


def killed_when(pattern: str, times: int = 1) -> At:
    """Return what kills the process when a tick of some kind comes for the so many-th time."""
    left = [times]

    def kill(_: int, what: str) -> None:
        left[0] -= bool(re.search(pattern, what))
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return kill


def _count_ticks(home: Path, at: At | None) -> list[int]:
    ticks, owner, root = [0], os.getpid(), str(home)
    skipped = (str(home / "said.txt"), str(home / "ticks.txt"))

    def tick(what: str) -> None:
        if os.getpid() == owner:
            ticks[0] += 1
            if at is not None:
                at(ticks[0], what)

    def look(event: str, arguments: tuple) -> None:
        if event in _WRITES:
            path = arguments[0]
            text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
            if text.startswith(root) and text not in skipped:
                tick(f"{event} {text}")

    sys.addaudithook(look)  # for good: the process ends with the run
    step = SeededSteps.on_train_batch_start

    def step_and_tick(self, *arguments):
        tick("step")
        return step(self, *arguments)

    SeededSteps.on_train_batch_start = step_and_tick
    return ticks


def phase(said: str, last_stage: str = "all") -> str:
    """Return how far a run had come, by what it had printed until it ended."""
    begun = re.findall(r"^ *Stage (\w+): \d+ epoch", said, re.MULTILINE)
    ended = re.findall(r"^Stage (\w+) took", said, re.MULTILINE)
    if last_stage in ended:
        return "evaluation and export"
    return f"stage {begun[-1]}" if begun else "before training"


def callback(name: str, **arguments) -> dict:
    """Describe a callback as a recipe does."""
    return {"class_path": f"lightning_fastrecipes.{name}", "init_args": arguments}


def image_document(squares: Path, **data) -> dict:
    """Return a recipe of features, mixed images, snapshots and views on a few images."""
    return {
        "description": "Squares.",
        "save_every": 2,
        "initial_checks": False,
        "validation_guard": False,
        "data": {
            "class_path": "lightning_fastrecipes.ImageFolderDataModule",
            "init_args": {
                "root": str(squares), "split": {"val": 0.25, "test": 0.25}, "image_size": 16,
                "batch_size": 4, "num_workers": 0, **data,
            },
        },
        "model": {
            "class_path": "lightning_fastrecipes.ImageClassifier",
            "init_args": {
                "backbone": {
                    "class_path": "lightning_fastrecipes.nn.small.SmallCNN",
                    "init_args": {"image_size": 16, "channels": [4], "hidden": 8},
                },
                "head": {"layout": "linear", "dropout": 0.2},
            },
        },
        "trainer": {"accelerator": "cpu", "precision": "32-true"},
        "stages": {
            "head": {"max_epochs": 1, "freeze_to": -1, "lr": 0.01, "precompute": True},
            "all": {
                "max_epochs": 2, "lr": 0.003, "augmentation": "side_on",
                "callbacks": [callback("SGDR", cycle_len=1), callback("CycleSnapshots"),
                              callback("ImageMixing")],
            },
        },
        "evaluation": {"ensemble": "snapshots", "tta": {"n": 2}},
    }  # fmt: skip


def table_document(folder: Path) -> dict:
    """Write a small table, and return a recipe of two stages with an ensemble."""
    draw = np.random.default_rng(0)
    shops = draw.integers(1, 6, 90)
    km = draw.uniform(1, 9, 90).round(2)
    frame = pd.DataFrame({"Shop": shops, "Km": km, "Sales": (100.0 * shops + 10 * km).round(2)})
    folder.mkdir(parents=True)
    frame.to_csv(folder / "sales.csv", index=False)
    columns = {"target": "Sales", "categorical": ["Shop"], "continuous": ["Km"]}
    return {
        "description": "Sales.",
        "save_every": 2,
        "initial_checks": False,
        "validation_guard": False,
        "data": {
            "class_path": "lightning_fastrecipes.TabularDataModule",
            "init_args": {
                "source": str(folder / "sales.csv"), "columns": columns,
                "split": {"val": 0.2, "test": 0.2}, "batch_size": 16,
            },
        },
        "model": {
            "class_path": "lightning_fastrecipes.TabularRegressor",
            "init_args": {"network": {"layers": [16, 8], "dropout": 0.1}},
        },
        "trainer": {"accelerator": "cpu", "precision": "32-true"},
        "stages": {
            "top": {"max_epochs": 1, "freeze_to": -1, "lr": 0.01},
            "all": {
                "max_epochs": 2, "lr": 0.02, "lr_ratio": 2,
                "callbacks": [callback("SGDR", cycle_len=1), callback("CycleSnapshots")],
            },
        },
        "evaluation": {"ensemble": "snapshots"},
    }  # fmt: skip
