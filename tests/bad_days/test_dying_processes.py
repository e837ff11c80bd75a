"""A process that dies under a run is named with its cause and the way on, and nothing is lost."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from helpers.command import children, end_command, end_session, start_command
from helpers.run_content import assert_same_content, leftovers, run_content
from torch.utils.data import DataLoader, Dataset

from lightning_fastrecipes.cli.dead_processes import DeathWatch
from lightning_fastrecipes.recipe.artifacts.deaths import named_death

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.mark.parametrize("fresh_victim", ["images-with-a-worker"], indirect=True)
def test_a_worker_that_is_killed_is_named_and_the_run_goes_on(victim) -> None:
    steps = []

    def kill_a_worker(_: int, what: str) -> None:
        if what == "step":
            steps.append(what)
        # Of the second stage, whose images a worker loads.
        if what == "step" and len(steps) == 7:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    ended = victim.start(at=kill_a_worker)
    assert ended.code == 1, ended.said[-3000:]
    assert "Traceback" not in ended.said
    [line] = [one for one in ended.said.splitlines() if one.startswith("fastrecipes: ")]
    # PyTorch notices the one or the other; now and then the worker's socket breaks before both.
    with_process = r"\(process \d+\) ended: .*(killed by signal|exited unexpectedly)"
    assert re.search(rf"A worker that loads data ({with_process}|ended: Connection reset)", line)
    assert "It may have been killed by hand, or by the system for want of memory" in line
    assert f"Go on with: fastrecipes run --resume {victim.folder}" in line
    assert victim.start().code == 0
    assert_same_content(run_content(victim.folder), victim.expected)
    assert leftovers(victim.home) == []


def watched_run(tmp_path: Path, number: int) -> tuple[int, str]:
    """Watch a process that is ended by a signal; return the exit code, and what was said."""
    said = tmp_path / "said.txt"
    child = os.fork()
    if child == 0:
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
        sys.stderr = os.fdopen(2, "w")
        other, third = (subprocess.Popen(["sleep", "600"]) for _ in range(2))
        recipe = SimpleNamespace(trainer={"devices": 3})
        run = SimpleNamespace(recipe=recipe, started_processes=lambda: [other, third])
        with DeathWatch(tmp_path) as watch:
            watch.add(run)
            other.send_signal(number)
            other.wait()
            time.sleep(1 if number != signal.SIGKILL else 60)
        third.kill()
        os._exit(70)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), said.read_text()


def test_a_process_that_is_killed_ends_the_others_with_a_line(tmp_path) -> None:
    code, said = watched_run(tmp_path, signal.SIGKILL)
    assert code == 1
    assert "Another process of this run (" in said
    assert "was killed by SIGKILL. It may have been killed by hand" in said
    assert said.rstrip().endswith(f"Go on with: fastrecipes run --resume {tmp_path}")


def test_a_process_that_was_asked_to_end_is_no_death(tmp_path) -> None:
    assert watched_run(tmp_path, signal.SIGTERM) == (70, "")


@pytest.mark.slow
@pytest.mark.parametrize("fresh_victim", ["table"], indirect=True)
def test_a_killed_rank_is_named(victim) -> None:
    two = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    end_command(victim, *two)
    expected = run_content(victim.folder)
    victim.clear()
    command = start_command(victim, *two)
    begun = victim.folder / "checkpoints" / "all.begun.ckpt"
    while not begun.exists():
        assert command.poll() is None, (victim.home / "said.txt").read_text()[-3000:]
        time.sleep(0.01)
    [rank] = [one for one in children(command.pid) if b"lightning_fastrecipes" in cmdline(one)]
    os.kill(rank, signal.SIGKILL)
    assert command.wait(timeout=60) == 1
    said = (victim.home / "said.txt").read_text()
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if "Another process of this run" in line]
    assert len(lines) == 1, said[-3000:]
    assert lines[0].startswith("fastrecipes: ")
    assert f"Go on with: fastrecipes run --resume {victim.folder}" in lines[0]
    assert not end_session(command.pid)
    end_command(victim, *two)
    assert_same_content(run_content(victim.folder), expected)


def cmdline(process: int) -> bytes:
    return Path(f"/proc/{process}/cmdline").read_bytes()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("DataLoader worker (pid 77) is killed by signal: Killed. ", r"process 77\) ended"),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", r"process 7, 8\) ended"),
        ("[/pair.cc:1] Connection closed by peer [127.0.0.1]:1234", "Another process of this run"),
        ("[1] is setting up NCCL: remote process exited", "Another process"),
    ],
)
def test_processes_that_died_are_named_with_what_to_do(text, named) -> None:
    error = ValueError("wrapped")
    error.__cause__ = RuntimeError(text)
    assert re.search(named, named_death(error) or "")
    assert named_death(RuntimeError("shapes do not match")) is None


class Unreachable(Dataset):
    """Images on a disk of the network that answers no more."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, place: int) -> int:
        raise ConnectionResetError(104, "Connection reset by peer")


@pytest.mark.parametrize(
    "lost", [ConnectionResetError(104, "Connection reset by peer"), EOFError()]
)
def test_a_worker_that_is_lost_before_pytorch_knows_is_named(lost, monkeypatch) -> None:
    batches = iter(DataLoader(range(2), num_workers=1))
    monkeypatch.setattr(batches._data_queue, "get", Mock(side_effect=lost))
    with pytest.raises(type(lost)) as caught:
        next(batches)
    monkeypatch.undo()
    assert (named_death(caught.value) or "").startswith("A worker that loads data ended: ")
    assert "memory" in (named_death(caught.value) or "")
    assert named_death(lost.with_traceback(None)) is None

    with pytest.raises(ConnectionError) as caught:
        next(iter(DataLoader(Unreachable(), num_workers=1)))
    assert named_death(caught.value) is None
