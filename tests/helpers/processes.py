"""Scripts beside the tests, run as processes of their own or loaded into this one."""

import importlib.util
import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

TESTS = Path(__file__).parents[1]


def run_script(script: Path, *arguments: object, timeout: float = 180) -> str:
    """Run a script with one thread, and with `helpers` on its path; return what it printed."""
    paths = [str(TESTS), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def load_script(path: Path) -> ModuleType:
    """Import a file that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def free_port() -> int:
    """Return a port of this machine that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fork_group(count: int, work: Callable[..., None], *arguments: object) -> None:
    """Call ``work(rank, *arguments)`` in processes that find one another, and exit as they do.

    For a script: it changes the environment. Importing Lightning again would take longer.
    """
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "NODE_RANK": "0"}
    fork = multiprocessing.get_context("fork")
    processes = [
        fork.Process(target=_work_as, args=(rank, work, arguments)) for rank in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(max(abs(process.exitcode or 0) for process in processes))


def _work_as(rank: int, work: Callable[..., None], arguments: tuple[object, ...]) -> None:
    os.environ["LOCAL_RANK"] = str(rank)
    work(rank, *arguments)
