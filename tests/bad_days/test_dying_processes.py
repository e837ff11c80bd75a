"""A process that dies under a run is named with its cause and the way on, and nothing is lost."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.command import children, end_command, end_session, start_command
from helpers.run_content import assert_same_content, leftovers, run_content

from lightning_fastrecipes.cli.dead_processes import DeathWatch

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
    assert "A worker that loads data (process " in line
    # PyTorch says the one or the other, whichever it notices first.
    assert "killed by signal" in line or "exited unexpectedly" in line
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
