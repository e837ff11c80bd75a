"""Batches are slices of one tensor; what is in them follows from seed, epoch, step and process."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, SequentialSampler, Subset

from lightning_fastrecipes import TableColumns, TabularDataModule
from lightning_fastrecipes.batches import TableInputs
from lightning_fastrecipes.data.tables.encoding import EncodedSplit
from lightning_fastrecipes.data.tables.loader import TableLoader, TableRows, TableSampler
from lightning_fastrecipes.functional.labels.targets import num_repeated_rows


def rows_of(num_rows: int, num_columns: int = 2) -> TableRows:
    numbers = np.arange(num_rows)
    codes = np.repeat(numbers[:, None] + 1, num_columns, axis=1).astype(np.int16)
    continuous = numbers[:, None].astype(np.float32)
    return TableRows.of(EncodedSplit(codes, continuous, numbers.astype(np.float32), numbers))


def loader(num_rows: int, batch_size: int = 4, seed: int | None = 0, **options) -> TableLoader:
    shares = {name: options.pop(name) for name in ("rank", "num_replicas") if name in options}
    sampler = TableSampler(num_rows, seed, **shares)
    return TableLoader(rows_of(num_rows), batch_size, sampler, **options)


def targets(batches) -> list[list[int]]:
    return [batch[1].int().tolist() for batch in batches]


def flat(batches: list[list[int]]) -> list[int]:
    return [row for batch in batches for row in batch]


def test_a_batch_keeps_its_rows_together_and_its_types() -> None:
    inputs, target = next(iter(loader(10)))

    assert isinstance(inputs, TableInputs)
    assert (inputs.codes.dtype, inputs.continuous.dtype) == (torch.int16, torch.float32)
    assert (inputs.codes[:, 0] - 1).tolist() == target.int().tolist()
    assert inputs.continuous[:, 0].tolist() == target.tolist()


def test_every_epoch_is_another_order_of_all_rows_that_the_seed_gives_again() -> None:
    one = loader(10)
    first = targets(one)
    one.sampler.set_epoch(1)
    second = targets(one)

    assert sorted(flat(first)) == sorted(flat(second)) == list(range(10))
    assert first != second
    assert first == targets(loader(10))
    assert first != targets(loader(10, seed=1))


def test_the_epoch_may_be_set_after_the_iterator_was_asked_for() -> None:
    expected = loader(10)
    expected.sampler.set_epoch(3)
    late = loader(10)
    batches = iter(late)
    late.sampler.set_epoch(3)

    assert targets(batches) == targets(expected)


def test_rows_in_order_are_not_copied() -> None:
    one = loader(10, seed=None)
    batches = list(one)

    assert targets(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    start = one.dataset.continuous.untyped_storage().data_ptr()
    assert {b[0].continuous.untyped_storage().data_ptr() for b in batches} == {start}


@pytest.mark.parametrize(
    ("num_rows", "is_training", "sizes"),
    [
        (8, True, [4, 4]),
        (9, True, [4, 4]),
        (9, False, [4, 4, 1]),
        (10, True, [4, 4, 2]),
        (1, True, [1]),
    ],
    ids=str,
)
def test_only_a_last_training_batch_of_one_row_is_dropped(num_rows, is_training, sizes) -> None:
    one = loader(num_rows, is_training=is_training)

    assert [len(batch[1]) for batch in one] == sizes
    assert len(one) == len(sizes)


@pytest.mark.parametrize(("num_rows", "world"), [(10, 2), (11, 2), (7, 3), (2, 5)], ids=str)
def test_processes_share_the_order_of_one_in_equally_many_batches(num_rows, world) -> None:
    shares = [loader(num_rows, 2, rank=rank, num_replicas=world) for rank in range(world)]
    found = [flat(targets(one)) for one in shares]
    whole = flat(targets(loader(num_rows, 2)))

    assert len({len(one) for one in shares}) == len({len(rows) for rows in found}) == 1
    interleaved = [rows[i] for i in range(len(found[0])) for rows in found]
    assert interleaved[:num_rows] == whole
    assert set(interleaved) == set(whole)


@pytest.mark.parametrize(("num_rows", "world"), [(10, 2), (11, 2), (7, 3), (2, 5)], ids=str)
def test_evaluated_rows_are_counted_once_over_all_processes(num_rows, world) -> None:
    counted = []
    for rank in range(world):
        one = loader(num_rows, 2, seed=None, rank=rank, num_replicas=world)
        for index, batch in enumerate(targets(one)):
            counted += batch[: len(batch) - num_repeated_rows(one, index)]

    assert sorted(counted) == list(range(num_rows))


def test_predicted_rows_are_shared_out_without_evening_out() -> None:
    shares = [list(TableSampler(5, None, False, 2, rank)) for rank in range(2)]

    assert shares == [[0, 2, 4], [1, 3]]


def test_rank_and_world_come_from_the_process_group(monkeypatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)

    assert list(TableSampler(6, None)) == [1, 3, 5]


def masks(one: TableLoader) -> list[list[list[bool]]]:
    return [(batch[0].codes == 0).tolist() for batch in one]


def test_a_share_of_the_codes_is_masked_and_nothing_else() -> None:
    one = TableLoader(rows_of(5000, 4), 500, TableSampler(5000, 0), mask_fraction=0.1)
    plain = TableLoader(rows_of(5000, 4), 500, TableSampler(5000, 0))
    masked = torch.cat([batch[0].codes == 0 for batch in one]).float()

    assert masked.mean(0) == pytest.approx([0.1] * 4, abs=0.015)
    both = masked[:, :1] * masked[:, 1:2]  # columns are masked independently
    assert both.mean() == pytest.approx(0.01, abs=0.006)
    for ours, theirs in zip(one, plain, strict=True):
        assert torch.equal(ours[0].continuous, theirs[0].continuous)
        assert torch.equal(ours[1], theirs[1])
        kept = ours[0].codes > 0
        assert torch.equal(ours[0].codes[kept], theirs[0].codes[kept])
    assert not (one.dataset.codes == 0).any()


def test_masks_follow_seed_epoch_step_and_process() -> None:
    def of(seed=0, epoch=0, rank=0) -> list:
        one = loader(64, 16, seed, mask_fraction=0.3, rank=rank, num_replicas=2)
        one.sampler.set_epoch(epoch)
        return masks(one)

    assert of() == of()
    assert len({str(step) for step in of()}) == 2
    others = [of(seed=1), of(epoch=1), of(rank=1), of()]
    assert len({str(one) for one in others}) == 4


def test_masks_do_not_touch_the_random_numbers_of_others() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    list(loader(64, mask_fraction=0.3))

    assert torch.equal(torch.rand(2), expected)


def test_an_epoch_goes_on_where_it_was_saved() -> None:
    def fresh(epoch: int) -> TableLoader:
        one = loader(20, 3, mask_fraction=0.3)
        one.sampler.set_epoch(epoch)
        return one

    saved = fresh(2)
    batches = iter(saved)
    before = [next(batches) for _ in range(3)]
    state = saved.state_dict()
    resumed = fresh(2)
    resumed.load_state_dict(state)
    after = list(resumed)

    assert targets(before + after) == targets(fresh(2))
    assert masks(before) + masks(after) == masks(fresh(2))
    assert len(list(resumed)) == len(resumed)  # once only


@pytest.mark.parametrize(("epoch", "num_given"), [(2, 7), (1, 3)], ids=["done", "earlier-epoch"])
def test_an_epoch_that_is_done_is_not_gone_on_with(epoch, num_given) -> None:
    one = loader(20, 3)
    one.sampler.set_epoch(2)
    one.load_state_dict({"epoch": epoch, "num_given": num_given})

    assert len(list(one)) == len(one) == 7


def test_another_iterator_in_between_does_not_move_the_position() -> None:
    one = loader(20, 3)
    batches = iter(one)
    next(batches)
    list(one)
    next(batches)

    assert one.state_dict()["num_given"] == 2


def test_overfitting_on_purpose_gets_the_same_rows_in_order_every_epoch() -> None:
    one = loader(10, 4, seed=None, is_fixed=True)

    assert isinstance(one.sampler, SequentialSampler)
    assert not hasattr(one.sampler, "set_epoch")


def test_a_loader_of_torch_over_some_rows_gives_the_same_batches() -> None:
    one = loader(10, 4, seed=None)
    some = DataLoader(Subset(one.dataset, [1, 3, 5]), one.batch_size, collate_fn=one.collate_fn)

    ((inputs, target),) = some
    assert isinstance(inputs, TableInputs)
    assert target.tolist() == [1, 3, 5]


def test_rows_to_predict_have_no_targets() -> None:
    rows = TableRows(torch.ones(3, 2), torch.ones(3, 1), None)

    (batch,) = TableLoader(rows, 4, TableSampler(3, None))
    assert len(batch) == 1
    assert isinstance(batch[0], TableInputs)
    assert rows.num_bytes == 36
    assert rows.to(torch.device("cpu")).targets is None


def test_classes_are_drawn_equally_often_whatever_their_number() -> None:
    sizes = np.repeat(["rare", "common"], [30, 570])
    frame = pd.DataFrame({"a": np.arange(600.0), "size": sizes})
    columns = TableColumns("size", continuous=["a"], task="classes", class_balanced=True)
    data = TabularDataModule(frame, columns, batch_size=60, mask_fraction=0, cache="off")
    data.setup("fit")
    loader = data.train_dataloader()
    targets = torch.cat([batch[1] for batch in loader])
    assert len(targets) == data.num_rows("train")
    assert 0.4 < float((targets == data.spec.classes.index("rare")).float().mean()) < 0.6
    assert torch.equal(targets, torch.cat([batch[1] for batch in data.train_dataloader()]))
    assert data.num_rows("val") == sum(len(batch[1]) for batch in data.val_dataloader())
    shares = [
        TableSampler(7, 0, num_replicas=2, rank=rank, weights=torch.arange(7.0)).indices()
        for rank in (0, 1)
    ]
    whole = TableSampler(7, 0, num_replicas=1, rank=0, weights=torch.arange(7.0)).indices()
    assert torch.stack(shares, dim=1).flatten()[:7].tolist() == whole.tolist()
    with pytest.raises(ValueError, match="`class_balanced` must be False for a regression"):
        TableColumns("a", ["size"], class_balanced=True)
