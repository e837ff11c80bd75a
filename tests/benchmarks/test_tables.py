"""What tables cost, measured in processes of their own: ``pytest -m benchmark -s``.

``FASTAI_PYTHON`` names an interpreter that has fastai 2.8. Each measurement stands by itself:
``-k epoch``, ``-k first_batch``, ``-k 1-million``, ``-k 3-million`` and ``-k 10-million``.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark

WORKER = Path(__file__).with_name("table_worker.py")
NUM_ROWS = 844_338
"""As many as Rossmann's table has with sales."""


def measure(*words: object, python: str = sys.executable) -> dict:
    done = subprocess.run(
        [python, str(WORKER), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("batch_size", "precision"),
    [(128, "32-true"), (128, "auto"), (256, "auto"), (512, "32-true"), (512, "auto")],
)
def test_an_epoch_is_half_as_long_again_with_fastai(tmp_path, batch_size, precision) -> None:
    """Time both with 32 bits, and ours as the command trains, with bfloat16 where there is.

    The course's batches are of 128 rows, the recipe's of 256 in bfloat16. With 512 rows a step is
    nearly all products of matrices, which are the same in both libraries: in 32 bits ours misses
    the bound there (1.08 to 1.54 times), and the test says so by failing.
    """
    fastai = os.environ.get("FASTAI_PYTHON")
    if not fastai:
        pytest.skip("FASTAI_PYTHON names no interpreter with fastai")
    num_rows = os.environ.get("FASTRECIPES_TABLE_ROWS", NUM_ROWS)
    measure("make", tmp_path, num_rows, ".parquet")
    sizes = (batch_size, len(os.sched_getaffinity(0)))
    ratios = []
    for _ in range(3):  # in turn, so that a noisy neighbour hits both
        ours = measure("epoch", tmp_path, ".parquet", *sizes, precision)
        theirs = measure("fastai_epoch", tmp_path, ".parquet", *sizes, python=fastai)
        assert ours["steps"] == pytest.approx(theirs["steps"], abs=1)
        print(
            f"{num_rows} rows, batch {batch_size}, {precision}: ours {ours['seconds']:.1f} s,"
            f" fastai {theirs['seconds']:.1f} s for {ours['steps']} steps"
        )
        ratios.append(theirs["seconds"] / ours["seconds"])
    print(f"{min(ratios):.2f} to {max(ratios):.2f} times")
    assert statistics.median(ratios) >= 1.5


def test_the_first_batch_comes_five_times_sooner_from_a_warm_cache(tmp_path) -> None:
    num_rows = os.environ.get("FASTRECIPES_TABLE_ROWS", NUM_ROWS)
    measure("make", tmp_path, num_rows, ".csv")
    cold = measure("first_batch", tmp_path, ".csv")["seconds"]
    warm = [measure("first_batch", tmp_path, ".csv")["seconds"] for _ in range(2)]
    print(f"{num_rows} rows: cold {cold:.2f} s, warm {warm[0]:.2f} and {warm[1]:.2f} s")
    assert cold / statistics.median(warm) >= 5


@pytest.mark.parametrize("millions", [1, 3, 10], ids=lambda millions: f"{millions}-million")
def test_time_and_memory_grow_with_the_rows(tmp_path, millions) -> None:
    narrow = measure("make", tmp_path, millions * 1_000_000, ".parquet")["narrow_mib"]
    found = measure("size", tmp_path, ".parquet", 4096, len(os.sched_getaffinity(0)))
    factor = found["prepare_peak_mib"] / narrow
    print(
        f"{millions} million rows, {narrow:,.0f} MiB narrow: prepared in"
        f" {found['prepare_seconds']:.1f} s with {found['prepare_peak_mib']:,.0f} MiB of its own"
        f" ({factor:.2f} times the table); an epoch in {found['epoch_seconds']:.1f} s with"
        f" {found['epoch_peak_mib']:,.0f} MiB more; in all, with mapped files,"
        f" {found['process_peak_mib']:,.0f} MiB"
    )
    assert factor <= 3
