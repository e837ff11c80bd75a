import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data.distributed import DistributedSampler

from lightning_fastrecipes.functional.labels.targets import hard_labels, padding_rows


def test_indices_are_returned_as_they_are() -> None:
    assert hard_labels(torch.tensor([2, 0, 1])).tolist() == [2, 0, 1]


def test_a_probability_of_one_half_counts_as_positive() -> None:
    rows = torch.tensor([[0.5, 0.5], [0.51, 0.49], [1 / 3, 2 / 3]])
    assert hard_labels(rows).tolist() == [1, 0, 1]


def test_targets_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got shape \(2, 2, 2\)"):
        hard_labels(torch.zeros(2, 2, 2))


@given(num_samples=st.integers(1, 200), num_replicas=st.integers(1, 8))
def test_rows_left_after_removing_padding_are_each_counted_once(
    num_samples: int, num_replicas: int
) -> None:
    kept: list[int] = []
    for rank in range(num_replicas):
        data = list(range(num_samples))
        sampler = DistributedSampler(data, num_replicas, rank, shuffle=False)
        shard = list(sampler)
        kept += shard[: len(shard) - padding_rows(num_samples, num_replicas, rank)]
    assert sorted(kept) == list(range(num_samples))
