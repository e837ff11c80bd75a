"""Runs that are killed at any moment go on, bit for bit, and leave nothing behind.

Ten kills run with the suite. A hundred: ``pytest -m slow tests/bad_days/test_kills.py``, of which
ten are of the real command, four of them on two processes.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.kills import draw_moments, killed_at
from helpers.run_content import assert_same_content, leftovers, run_content

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

KINDS = ["images", "images-with-a-worker", "table"]


def check_all_kills(victim, moments: list[int], kills_each: int) -> None:
    """Kill runs, each several times, let them end, and compare them with the whole run."""
    for start in range(0, len(moments), kills_each):
        victim.clear()
        for moment in moments[start : start + kills_each]:
            ended = victim.start(at=killed_at(moment))
            # A run that has little left may end before its moment.
            assert ended.code in (-signal.SIGKILL, 0), ended.said[-3000:]
        ended = victim.start()
        assert ended.code == 0, (moments[start : start + kills_each], ended.said[-3000:])
        assert_same_content(run_content(victim.folder), victim.expected)
        assert leftovers(victim.home) == [], moments[start : start + kills_each]


@pytest.mark.parametrize("victim", ["images", "table"], indirect=True)
def test_five_kills(victim) -> None:
    # One for each fifth of a run: before training, in both stages, in evaluation and export.
    fifth = victim.ticks // 5
    moments = [random.Random(7).randint(1, fifth) + fifth * part for part in range(5)]
    check_all_kills(victim, moments, kills_each=5)


@pytest.mark.slow
@pytest.mark.parametrize("victim", KINDS, indirect=True)
def test_thirty_kills(victim) -> None:
    check_all_kills(victim, draw_moments(len(victim.expected), 30, victim.ticks), kills_each=2)


def start_command(victim, *more: str) -> subprocess.Popen:
    has_begun = (victim.folder / "recipe.yaml").is_file()
    words = ["--resume", str(victim.folder)] if has_begun else victim.words
    with (victim.home / "said.txt").open("w") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "lightning_fastrecipes", "run", *words, *more],
            stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip


def end_command(victim, *more: str) -> None:
    command = start_command(victim, *more)
    assert command.wait(timeout=900) == 0, (victim.home / "said.txt").read_text()[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("victim", KINDS[1:], indirect=True)
@pytest.mark.parametrize("num_processes", [1, 2])
def test_ten_kills_of_the_command(victim, num_processes) -> None:
    more = [f"--trainer.devices={num_processes}", "--trainer.strategy=ddp"]
    more = more if num_processes > 1 else []
    began = time.monotonic()
    end_command(victim, *more)
    seconds = time.monotonic() - began
    expected = run_content(victim.folder)
    victim.clear()
    draw = random.Random(num_processes)
    for _ in range(3 if num_processes == 1 else 2):
        command = start_command(victim, *more)
        time.sleep(draw.uniform(0.2, 0.9) * seconds)
        # The process that was started alone, as the system does: its workers and ranks find out.
        command.kill()
        command.wait()
        stop_others(command.pid)
    end_command(victim, *([] if (victim.folder / "recipe.yaml").is_file() else more))
    assert_same_content(run_content(victim.folder), expected)
    assert leftovers(victim.home) == []


def stop_others(session: int) -> None:
    """Wait for what a killed process has left running, and end what does not end by itself."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends and members(session):
        time.sleep(0.2)
    for process in members(session):
        os.kill(process, signal.SIGKILL)


def members(session: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(number) == session and state != "Z":
            found.append(int(path.parent.name))
    return found
