"""Scripts beside the tests, run as processes of their own or loaded into this one."""

import importlib.util
import os
import subprocess
import sys
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
