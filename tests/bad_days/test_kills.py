"""Runs that are killed at any moment go on, bit for bit, and leave nothing behind.

Fourteen kills run with the suite, one in each phase of a run. A hundred at random:
``pytest -m slow tests/bad_days/test_kills.py``, of which ten are of the real command, four of them
on two processes; ``-s`` shows where each came.
"""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from helpers.command import end_command, end_session, start_command
from helpers.kills import killed_at, killed_when, phase
from helpers.run_content import assert_same_content, leftovers, run_content

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

KINDS = ["images", "images-with-a-worker", "table"]


# The tick that a run is killed at, and which of its kind; it goes on until the next of them.
PHASES = {
    "images": [
        (r"open .*/cache/manifests/", 2),
        (r"open .*/cache/features/.*\.npy", 1),
        ("step", 3),
        (r"os\.rename .*head", 1),
        (r"os\.rename .*begun", 3),
        (r"os\.rename .*cycle-2", 1),
        (r"open .*predictions", 2),
        (r"os\.rename .*confusion", 1),
        (r"open .*export", 3),
        (r"os\.rename .*results", 1),
        (r"os\.rename .*report", 1),
    ],
    "table": [
        (r"os\.rename .*/cache/tables/", 1),
        (r"os\.rename .*recipe", 1),
        ("step", 4),
        (r"os\.rename .*progress", 2),
        (r"open .*predictions", 1),
        (r"os\.rename .*report", 1),
    ],
}  # fmt: skip


def tell(what: str, code: int, said: str) -> None:
    """Write where a kill came, for ``pytest -s``."""
    sys.stdout.write(f"{what}: code {code}, {phase(said)}\n")


def check_end(victim, kills: list) -> None:
    """Let a run that was killed end, and compare it with the whole run."""
    ended = victim.start()
    assert ended.code == 0, (kills, ended.said[-3000:])
    assert_same_content(run_content(victim.folder), victim.expected)
    assert leftovers(victim.home) == [], kills


@pytest.mark.parametrize(
    ("fresh_victim", "kind"), [(k, k) for k in PHASES], indirect=["fresh_victim"]
)
def test_a_kill_in_each_phase(victim, kind) -> None:
    for pattern, times in PHASES[kind]:
        ended = victim.start(at=killed_when(pattern, times))
        assert ended.code == -signal.SIGKILL, (pattern, ended.said[-3000:])
    check_end(victim, PHASES[kind])


@pytest.mark.slow
@pytest.mark.parametrize("fresh_victim", KINDS, indirect=True)
def test_thirty_kills(victim) -> None:
    draw, num_kills = random.Random(len(victim.expected)), 0
    while num_kills < 30:
        victim.clear()
        kills = [draw.randint(1, victim.ticks) for _ in range(draw.randint(1, 3))]
        for moment in kills:
            ended = victim.start(at=killed_at(moment))
            tell(f"tick {moment} of {victim.ticks}", ended.code, ended.said)
            if ended.code == 0:  # it had less left
                break
            assert ended.code == -signal.SIGKILL, ended.said[-3000:]
            num_kills += 1
        check_end(victim, kills)


@pytest.mark.slow
@pytest.mark.parametrize("fresh_victim", KINDS[1:], indirect=True)
@pytest.mark.parametrize("num_processes", [1, 2])
def test_ten_kills_of_the_command(victim, num_processes) -> None:
    more = [f"--trainer.devices={num_processes}", "--trainer.strategy=ddp"]
    more = more if num_processes > 1 else []
    began = time.monotonic()
    end_command(victim, *more)
    seconds = time.monotonic() - began
    expected = run_content(victim.folder)
    victim.clear()
    draw, num_kills = random.Random(num_processes), 0
    while num_kills < (3 if num_processes == 1 else 2):
        command = start_command(victim, *more)
        try:
            assert command.wait(draw.uniform(0.2, 0.9) * seconds) == 0  # it had less left
            victim.clear()
        except subprocess.TimeoutExpired:
            # The process that was started alone, as the system does: its workers and ranks find
            # out.
            command.kill()
            command.wait()
            end_session(command.pid)
            num_kills += 1
        tell("command", command.returncode, (victim.home / "said.txt").read_text())
    end_command(victim, *([] if (victim.folder / "recipe.yaml").is_file() else more))
    assert_same_content(run_content(victim.folder), expected)
    assert leftovers(victim.home) == []
