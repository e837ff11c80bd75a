"""Every process serves its share of one order, which names the epoch in each index."""

import pytest
import torch
from torch.utils.data import DistributedSampler

from lightning_fastrecipes.data.common.samplers import (
    ShuffleSampler,
    WeightedSampler,
    drops_last_batch,
)


def indices(length, epoch=0, **options):
    sampler = ShuffleSampler(range(length), options.pop("seed", 0), **options)
    sampler.set_epoch(epoch)
    assert len(sampler) == len(list(sampler))
    return list(sampler)


def test_each_epoch_is_another_order_of_all_indices_and_says_which():
    first, second = indices(10, 3), indices(10, 4)

    assert sorted(first) == list(range(30, 40))
    assert sorted(second) == list(range(40, 50))
    assert [i - 30 for i in first] != [i - 40 for i in second]
    assert first == indices(10, 3)


def test_seeds_and_epochs_are_not_mixed_up():
    assert indices(10, 1, seed=0) != [i + 10 for i in indices(10, 0, seed=1)]


@pytest.mark.parametrize(
    ("length", "replicas"), [(10, 2), (11, 2), (7, 3), (2, 5)], ids=lambda value: str(value)
)
def test_processes_share_one_order_with_equal_lengths(length, replicas):
    shares = [indices(length, 1, num_replicas=replicas, rank=rank) for rank in range(replicas)]
    whole = indices(length, 1)

    assert len({len(share) for share in shares}) == 1
    interleaved = [share[i] for i in range(len(shares[0])) for share in shares]
    assert interleaved[:length] == whole
    assert set(interleaved) == set(whole)
    theirs = DistributedSampler(range(length), replicas, 0)
    assert len(shares[0]) == len(theirs)


def test_lightning_takes_it_for_a_distributed_sampler():
    assert isinstance(ShuffleSampler("abc", 0), DistributedSampler)


def test_rank_and_world_come_from_the_process_group(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)

    assert indices(10) == indices(10, num_replicas=2, rank=1)


@pytest.mark.parametrize(
    ("samples", "batch", "expected"),
    [(9, 4, True), (8, 4, False), (10, 4, False), (1, 4, False), (5, 4, True), (5, 1, False)],
)
def test_only_a_last_batch_of_one_is_dropped(samples, batch, expected):
    assert drops_last_batch(samples, batch) is expected


def weighted(weights, epoch=0, **options):
    sampler = WeightedSampler(range(len(weights)), 0, torch.tensor(weights), **options)
    sampler.set_epoch(epoch)
    assert len(sampler) == len(list(sampler))
    return list(sampler)


def test_weighted_draws_follow_the_weights_and_say_the_epoch():
    weights = [1.0, 0.0, 3.0] * 1000

    drawn = weighted(weights, epoch=2)

    assert min(drawn) >= 6000
    kinds = torch.bincount(torch.tensor(drawn) % 3, minlength=3)
    assert kinds[1] == 0
    assert kinds[2] / kinds[0] == pytest.approx(3.0, rel=0.15)
    assert drawn == weighted(weights, epoch=2)
    assert [i - 3000 for i in drawn] != weighted(weights, epoch=1)


@pytest.mark.parametrize(("length", "replicas"), [(10, 2), (11, 2), (7, 3)], ids=str)
def test_processes_share_the_draws_of_one(length, replicas):
    weights = [1.0 + i for i in range(length)]
    shares = [weighted(weights, 1, num_replicas=replicas, rank=rank) for rank in range(replicas)]
    whole = weighted(weights, 1)

    interleaved = [share[i] for i in range(len(shares[0])) for share in shares]

    assert interleaved[:length] == whole
    assert len({len(share) for share in shares}) == 1


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0]], ids=str)
def test_weights_that_cannot_be_drawn_from_are_refused(weights):
    with pytest.raises(ValueError, match="`weights` must be a number of at least 0 for each of 2"):
        WeightedSampler("ab", 0, torch.tensor(weights))
