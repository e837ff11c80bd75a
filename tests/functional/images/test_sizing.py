from hypothesis import given
from hypothesis import strategies as st

from lightning_fastrecipes.functional.images.sizing import image_size, image_sizes


@given(st.integers(1, 20_000))
def test_sides_suit_backbones_and_stay_within_bounds(side: int) -> None:
    found = image_size(side)
    assert found % 32 == 0
    assert 64 <= found <= 224
    assert found >= min(side, 224)


@given(st.integers(1, 1_000_000), st.integers(1, 2_000))
def test_heads_get_their_steps_and_few_images_stay_frozen(rows: int, classes: int) -> None:
    sizes = image_sizes(rows, 300, classes)
    steps = -(-rows // sizes.batch_size)
    assert sizes.head_epochs * steps >= 300 or sizes.head_epochs == 60
    assert (sizes.tuned_epochs == 0) == (rows < 10 * classes)
