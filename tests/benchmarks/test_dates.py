"""What ``add_datepart`` costs beside fastai's, as ratios measured in turn: ``-m benchmark -s``.

``FASTRECIPES_FASTAI_PYTHON`` names the interpreter of an environment that has fastai (the bars are
for 2.8.12), which is never imported here.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark

NUM_ROUNDS = 5
NUM_ROWS = 1_017_209  # the course's table of sales

# Every measurement is a process of its own: the best of a few calls for the time, and then, since
# tracing takes time, the peak of what one more call allocates for the memory.
SCRIPT = """
import json, sys, time, tracemalloc
import numpy as np, pandas as pd
if sys.argv[1] == "fastai":
    from fastai.tabular.core import add_datepart
else:
    from lightning_fastrecipes.functional.tables.dates import add_datepart
num_rows = int(sys.argv[2])
dates = pd.date_range("2013-01-01", periods=942)[np.arange(num_rows) % 942]
table = pd.DataFrame({"Date": dates, "Store": np.arange(num_rows) % 1115})
seconds = []
for _ in range(5):
    copy = table.copy()
    started = time.perf_counter()
    add_datepart(copy, "Date")
    seconds.append(time.perf_counter() - started)
copy = table.copy()
tracemalloc.start()
before = tracemalloc.get_traced_memory()[0]
made = add_datepart(copy, "Date")
peak = tracemalloc.get_traced_memory()[1] - before
first = int(made["Elapsed"].iloc[0])
found = {"seconds": min(seconds), "peak": peak, "elapsed": first, "pandas": pd.__version__}
print(json.dumps(found))
"""


@pytest.fixture
def fastai_python() -> str:
    python = os.environ.get("FASTRECIPES_FASTAI_PYTHON")
    if not python or not Path(python).exists():
        pytest.skip("FASTRECIPES_FASTAI_PYTHON names no interpreter of an environment with fastai")
    return python


def measured(python: str, whose: str) -> dict:
    done = subprocess.run(
        [python, "-W", "ignore", "-c", SCRIPT, whose, str(NUM_ROWS)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def test_a_million_dates_take_no_longer_than_fastais_and_half_the_memory(
    fastai_python: str,
) -> None:
    times, peaks = [], []
    for _ in range(NUM_ROUNDS):  # in turn, so that a noisy neighbour hits both
        theirs, ours = measured(fastai_python, "fastai"), measured(sys.executable, "ours")
        for name, found in (("fastai", theirs), ("ours", ours)):
            print(
                f"{name}: {1000 * found['seconds']:.0f} ms, {found['peak'] / 1e6:.1f} MB more,"
                f" Elapsed of 2013-01-01 {found['elapsed']}, pandas {found['pandas']}"
            )
        times.append(ours["seconds"] / theirs["seconds"])
        peaks.append(ours["peak"] / theirs["peak"])
        assert ours["elapsed"] == 1_356_998_400
    print(f"time ours / fastai: {min(times):.2f} to {max(times):.2f}")
    print(f"peak of extra memory ours / fastai: {min(peaks):.3f} to {max(peaks):.3f}")
    assert statistics.median(times) <= 1
    assert statistics.median(peaks) <= 0.5
