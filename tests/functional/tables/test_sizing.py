from hypothesis import given
from hypothesis import strategies as st

from lightning_fastrecipes.functional.tables.sizing import LEAST_STEPS, table_sizes


@given(st.integers(min_value=1, max_value=50_000_000))
def test_every_table_gets_its_steps_in_batches_that_fit(num_train: int) -> None:
    sizes = table_sizes(num_train)
    assert sizes.num_steps >= LEAST_STEPS
    assert 16 <= sizes.batch_size <= 1024
    assert sizes.batch_size & (sizes.batch_size - 1) == 0
    assert sizes.max_epochs == 7 * sizes.cycle_len
    assert sizes.steps_per_epoch * sizes.batch_size >= num_train


def test_more_rows_mean_no_fewer_steps_and_no_smaller_network() -> None:
    sizes = [table_sizes(rows) for rows in (100, 1_000, 10_000, 100_000, 1_000_000)]
    assert [one.layers for one in sizes] == sorted(one.layers for one in sizes)
    assert sizes[0].num_steps < 2 * LEAST_STEPS < sizes[-1].num_steps
