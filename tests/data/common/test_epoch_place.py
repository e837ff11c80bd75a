"""A loader goes on in the midst of an epoch, with the samples that are left, in their order."""

import pytest
import torch
from torch.utils.data import TensorDataset

from lightning_fastrecipes.data.common.epoch_place import ResumableLoader
from lightning_fastrecipes.data.common.samplers import ShuffleSampler, WeightedSampler
from lightning_fastrecipes.data.tables.loader import TableLoader, TableRows, TableSampler
from lightning_fastrecipes.errors import ConfigurationError

ROWS = torch.arange(24.0)
SAMPLES = TensorDataset(torch.arange(24))


class Numbered(TensorDataset):
    """Takes indices that carry their epoch."""

    def __getitem__(self, index: int):
        return super().__getitem__(index % len(self))


def loader(batch_size=4, rank=0, num_replicas=1, workers=0, *, weighted=False, epoch=2):
    data = Numbered(*SAMPLES.tensors)
    if weighted:
        weights = torch.arange(24.0)
        sampler = WeightedSampler(data, 0, weights, num_replicas, rank)
    else:
        sampler = ShuffleSampler(data, 0, num_replicas, rank)
    sampler.set_epoch(epoch)
    return ResumableLoader(
        data, batch_size=batch_size, sampler=sampler, num_workers=workers,
        persistent_workers=workers > 0,
    )  # fmt: skip


def rows(batches) -> list[list[int]]:
    return [batch[0].tolist() for batch in batches]


def begun(one: ResumableLoader, count: int) -> dict[str, int]:
    batches = iter(one)
    for _ in range(count):
        next(batches)
    return one.state_dict()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("count", [1, 5])
def test_what_is_left_is_served_in_order(count, weighted) -> None:
    state = begun(loader(weighted=weighted), count)
    resumed = loader(weighted=weighted)
    resumed.load_state_dict(state)
    whole = rows(loader(weighted=weighted))
    assert rows(resumed) == whole[count:]
    assert resumed.state_dict()["num_given"] == 6
    assert rows(resumed) == whole  # once only


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_load_nothing_of_what_was_served() -> None:
    resumed = loader(workers=2)
    resumed.load_state_dict(begun(loader(), 4))
    assert rows(resumed) == rows(loader())[4:]
    assert rows(resumed) == rows(loader())


def test_another_epoch_or_a_finished_one_begins_at_its_start() -> None:
    for state in (begun(loader(), 6), begun(loader(epoch=1), 3)):
        resumed = loader()
        resumed.load_state_dict(state)
        assert rows(resumed) == rows(loader())


def test_other_processes_go_on_with_the_same_order_over_all() -> None:
    state = begun(loader(batch_size=4, num_replicas=2), 2)
    one = loader(batch_size=8)
    one.load_state_dict(state)
    whole = [one for batch in rows(loader(batch_size=8)) for one in batch]
    left = [one for batch in rows(one) for one in batch]
    assert left == whole[16:]
    two = [loader(batch_size=4, rank=rank, num_replicas=2) for rank in (0, 1)]
    for process in two:
        process.load_state_dict(begun(loader(batch_size=8), 1))
    both = [sorted(a + b) for a, b in zip(*map(rows, two), strict=True)]
    assert both == [sorted(whole[8:16]), sorted(whole[16:])]


def test_tables_go_on_over_other_processes_or_refuse_as_images_do() -> None:
    def table(batch_size: int, rank: int = 0, num_replicas: int = 1) -> TableLoader:
        rows = TableRows(torch.zeros(24, 0, dtype=torch.int64), torch.zeros(24, 1), ROWS)
        sampler = TableSampler(24, seed=0, num_replicas=num_replicas, rank=rank)
        sampler.set_epoch(2)
        return TableLoader(rows, batch_size, sampler, is_training=True)

    def targets(one: TableLoader) -> list[list[float]]:
        return [batch[1].tolist() for batch in one]

    whole, begun_one = targets(table(8)), table(8)
    next(batches := iter(begun_one))
    state = begun_one.state_dict()
    two = [table(4, rank, 2) for rank in (0, 1)]
    for process in two:
        process.load_state_dict(state)
    both = [sorted(a + b) for a, b in zip(*map(targets, two), strict=True)]
    assert both == [sorted(batch) for batch in whole[1:]]
    with pytest.raises(ConfigurationError, match=r"of 8 samples .* but it is of 12"):
        table(4, 0, 3).load_state_dict(state)
    batches.close()


@pytest.mark.parametrize(("batch_size", "num_replicas"), [(4, 2), (2, 1), (4, 3)])
def test_steps_of_other_samples_are_refused_in_the_midst_of_an_epoch(
    batch_size, num_replicas
) -> None:
    other = loader(batch_size, num_replicas=num_replicas)
    with pytest.raises(ConfigurationError, match=r"of 4 samples .* but it is of"):
        other.load_state_dict(begun(loader(), 3))
    other.load_state_dict(begun(loader(), 6))  # at the end of an epoch any may go on
    assert len(rows(other)) == len(other)
