"""The real command in a session of its own, and the processes of that."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def start_command(victim: Any, *more: str) -> "subprocess.Popen[bytes]":
    """Start the run of a victim, or go on with it; what it says is in ``said.txt``."""
    with (victim.home / "said.txt").open("w") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "lightning_fastrecipes", "run", *victim.going_on, *more],
            stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip


def end_command(victim: Any, *more: str) -> None:
    """Run, or go on with the run, to its end."""
    command = start_command(victim, *more)
    assert command.wait(timeout=900) == 0, (victim.home / "said.txt").read_text()[-3000:]


def end_session(session: int, patience: float = 60) -> list[int]:
    """Wait for what a command has left running; end, and return, what does not end by itself."""
    ends = time.monotonic() + patience
    while time.monotonic() < ends and _members(session):
        time.sleep(0.2)
    left = _members(session)
    for process in left:
        os.kill(process, signal.SIGKILL)
    return left


def children(process: int) -> list[int]:
    """Return the processes that a process has started."""
    return [number for number, fields in _processes() if int(fields[1]) == process]


def _members(session: int) -> list[int]:
    return [n for n, fields in _processes() if int(fields[3]) == session and fields[0] != "Z"]


def _processes() -> list[tuple[int, list[str]]]:
    """Return number, and state, parent, group and session, of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        found.append((int(path.parent.name), fields))
    return found
