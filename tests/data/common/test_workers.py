"""The number of workers fits the machine and the data."""

import threading
import time

import pytest

from lightning_fastrecipes.data.common import workers
from lightning_fastrecipes.data.common.workers import map_threads, num_loader_workers


@pytest.mark.parametrize(
    ("cores", "images", "processes", "expected"),
    [
        pytest.param(8, 63, 1, 0, id="tiny-data"),
        pytest.param(8, 64, 1, 7, id="one-core-is-left-to-training"),
        pytest.param(64, 9999, 1, 8, id="never-more-than-eight"),
        pytest.param(16, 9999, 4, 3, id="shared-by-local-processes"),
        pytest.param(1, 9999, 1, 1, id="a-single-core"),
        pytest.param(2, 9999, 4, 1, id="more-processes-than-cores"),
    ],
)
def test_workers_fit_the_machine(monkeypatch, cores, images, processes, expected):
    monkeypatch.setattr(workers, "num_cores", lambda: cores)

    assert num_loader_workers(images, processes) == expected


def test_threads_keep_the_order():
    assert map_threads(abs, [-3, 2, -1]) == [3, 2, 1]


@pytest.mark.parametrize(("seconds", "may_have_threads"), [(0.0, False), (0.002, True)])
def test_short_work_is_done_by_one_thread_and_long_work_by_several(
    seconds, may_have_threads, monkeypatch
):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def work(number: int) -> tuple[int, bool]:
        clock[0] += seconds
        return number, threading.current_thread() is threading.main_thread()

    found = map_threads(work, range(300))

    assert [number for number, _ in found] == list(range(300))
    assert all(is_main for _, is_main in found) is not may_have_threads


def test_what_work_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        map_threads(lambda number: 1 / number, range(3))
