"""Networks in one line, and the arithmetic of their sizes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastrecipes.functional.images.layer_patterns import (
    PATTERNS,
    Activate,
    Conv,
    Dense,
    Pool,
    num_parameters,
    num_zeros,
    output_side,
    parse_pattern,
    pooled_side,
)


def test_groups_are_written_out() -> None:
    block = [Conv(), Activate("relu"), Conv(), Activate("relu"), Pool()]
    assert parse_pattern("INPUT->[[CONV->RELU]*2->POOL?]*3->[FC->RELU]*2->FC") == [
        *block * 3, *[Dense(), Activate("relu")] * 2
    ]  # fmt: skip
    assert parse_pattern(" INPUT -> [CONV -> RELU] * 0 -> FC(7) -> [ TANH ] -> FC ") == [
        Dense(7), Activate("tanh")
    ]  # fmt: skip


def test_numbers_go_by_place_or_by_name() -> None:
    conv, average, pool = parse_pattern(
        "INPUT -> CONV(96, 11, stride=4, padding=same) -> AVERAGE_POOL(3, padding=1)"
        " -> pool(2,1) -> FC"
    )
    assert conv == Conv(96, kernel_size=11, stride=4, padding="same")
    assert average == Pool("average", 3, padding=1)
    assert pool == Pool("max", 2, stride=1)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("vgg", "there is no network of this name. Did you mean `vgg16`.* Networks with branches"),
        ("", "must begin with INPUT and end with FC"),
        ("INPUT", "no network of this name"),
        ("CONV -> FC", "must begin with INPUT"),
        ("INPUT -> CONV", "must begin with INPUT and end with FC"),
        ("INPUT -> CONV -> FC(10)", "must begin with INPUT and end with FC, the scores"),
        ("INPUT -> CONVV -> FC", "there is no layer CONVV. Did you mean `CONV`"),
        ("INPUT -> XYZ -> FC", "there is no layer XYZ. Known are CONV, POOL"),
        ("INPUT -> [CONV -> RELU]*N -> FC", r"`\*N` must be a number"),
        ("INPUT -> [CONV -> RELU -> FC", r"`\[CONV` is no layer between two arrows"),
        ("INPUT -> CONV]*2 -> FC", "is no layer between two arrows"),
        ("INPUT -> -> FC", "`` is no layer"),
        ("INPUT -> INPUT -> FC", "there is no layer INPUT"),
        ("INPUT -> FC -> POOL -> FC", "must stand before the first FC"),
        ("INPUT -> CONV(0) -> FC", "`width` of CONV must be from 1 to 65,536, got 0"),
        ("INPUT -> CONV(8, size=3) -> FC", "CONV takes whole numbers: width, kernel_size"),
        ("INPUT -> CONV(8, width=3) -> FC", "cannot be read"),
        ("INPUT -> CONV(x) -> FC", "cannot be read"),
        ("INPUT -> POOL(2, 2, 0, 1) -> FC", "cannot be read"),
        ("INPUT -> POOL(2, padding=same) -> FC", "POOL takes whole numbers"),
        ("INPUT -> RELU(1) -> FC", "RELU takes whole numbers: nothing"),
        ("INPUT -> " + "[" * 9 + "CONV" + "]*99" * 9 + " -> FC", "must be shorter"),
        ("INPUT -> [CONV]*99999999999 -> FC", "must be shorter"),
        ("INPUT -> [CONV]*2000 -> FC", "at most 1,000 layers, but has 2,002"),
        ("INPUT -> FC(65537) -> FC", "`width` of FC must be from 1 to 65,536, got 65537"),
        ("INPUT -> FC(" + "9" * 5000 + ") -> FC", "`width` of FC must be from 1 to 65,536"),
        ("INPUT -> FC(\N{SUPERSCRIPT TWO}) -> FC", "cannot be read"),
        ("INPUT -> [FC]*\N{SUPERSCRIPT TWO} -> FC", "must be a number"),
    ],
)
def test_what_is_no_pattern_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_pattern(pattern)


@pytest.mark.parametrize("name", PATTERNS)
def test_presets_can_be_read(name: str) -> None:
    size, pattern = PATTERNS[name]
    assert size > 0
    layers = parse_pattern(pattern)
    assert all(layer.width for layer in layers if isinstance(layer, Conv))


@given(
    side=st.integers(1, 40), kernel=st.integers(1, 7), stride=st.integers(1, 4),
    padding=st.sampled_from([0, 1, 2, 3, "valid", "same"]), dilation=st.integers(1, 3),
)  # fmt: skip
def test_sides_are_those_of_torch_or_are_refused(side, kernel, stride, padding, dilation) -> None:
    zeros = {"valid": 0, "same": dilation * (kernel - 1) // 2}.get(padding, padding)
    reach = dilation * (kernel - 1) + 1
    is_even = padding == "same" and reach % 2 == 0
    fits = side + 2 * zeros >= reach and (side + 2 * zeros - reach) % stride == 0
    if not fits or is_even:
        with pytest.raises(ValueError, match="must"):
            output_side(side, kernel, stride, padding, dilation)
        return
    conv = torch.nn.Conv2d(2, 3, kernel, stride, zeros, dilation, device="meta")
    images = torch.zeros(1, 2, side, side, device="meta")
    assert conv(images).shape[-1] == output_side(side, kernel, stride, padding, dilation)
    assert num_zeros(kernel, padding, dilation) == zeros
    assert num_parameters(kernel, 2, 3) == sum(p.numel() for p in conv.parameters())
    if padding == "same" and stride == 1:
        assert output_side(side, kernel, stride, padding, dilation) == side


@given(side=st.integers(1, 20), size=st.integers(1, 5), stride=st.integers(1, 4))
def test_pooled_sides_are_those_of_torch_or_are_refused(side: int, size: int, stride: int) -> None:
    if side < size:
        with pytest.raises(ValueError, match=r"\(W - F \+ 2P\)/S \+ 1 = "):
            pooled_side(side, Pool("max", size, stride))
    else:
        pooled = torch.nn.functional.max_pool2d(torch.zeros(1, 1, side, side), size, stride)
        assert pooled_side(side, Pool("max", size, stride)) == pooled.shape[-1]
