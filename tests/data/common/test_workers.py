"""The number of workers fits the machine and the data."""

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
