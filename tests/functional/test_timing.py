from hypothesis import given
from hypothesis import strategies as st

from lightning_fastrecipes.functional.timing import cycles_within, models_within


@given(st.integers(1, 50), st.floats(1e-3, 1e3), st.floats(1e-3, 1e5))
def test_cycles_never_last_longer_than_there_is_time(length, epoch, seconds) -> None:
    found = cycles_within(length, epoch, seconds)
    if found is None:
        assert epoch > seconds
    else:
        assert found.max_epochs * epoch <= seconds * (1 + 1e-9)
        assert 1 <= found.cycle_len <= length
        assert found.max_epochs in (1, 3, 7 * found.cycle_len, 3 * found.cycle_len, found.cycle_len)


def test_models_fit_into_what_is_left() -> None:
    assert [models_within(10, seconds, 5) for seconds in (-1, 9, 10, 49, 1000)] == [0, 0, 1, 4, 5]
