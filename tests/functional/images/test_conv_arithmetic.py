"""The arithmetic of layers, beside PyTorch's own layers, counters and gradients."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import lightning_fastrecipes as fr
from lightning_fastrecipes.functional.images.layer_patterns import PATTERNS
from lightning_fastrecipes.nn.small import SmallCNN


@st.composite
def stacks(draw):
    """Layers as words, and as modules of PyTorch."""
    words, modules, channels = [], [], 2
    for _ in range(draw(st.integers(1, 3))):
        kernel, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
        padding, width = draw(st.integers(0, 2)), draw(st.integers(1, 3))
        words.append(f"CONV({width}, {kernel}, padding={padding}, dilation={dilation})")
        modules.append(nn.Conv2d(channels, width, kernel, 1, padding, dilation))
        channels = width
        if draw(st.booleans()):
            size, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
            words.append(f"AVERAGE_POOL({size}, {stride})")
            modules.append(nn.AvgPool2d(size, stride))
    return " -> ".join(words), nn.Sequential(*modules).double()


@settings(max_examples=60)
@example(
    (
        "CONV(1, 1) -> AVERAGE_POOL(1, 3) -> CONV(1, 2, padding=0) -> AVERAGE_POOL(2, 3)"
        " -> CONV(1, 3, padding=0, dilation=2)",
        nn.Sequential(
            nn.Conv2d(2, 1, 1), nn.AvgPool2d(1, 3), nn.Conv2d(1, 1, 2), nn.AvgPool2d(2, 3),
            nn.Conv2d(1, 1, 3, dilation=2),
        ).double(),
    )
)  # fmt: skip
@given(stacks())
def test_it_says_what_layers_of_pytorch_do(stack) -> None:
    words, network = stack
    image = torch.zeros(1, 2, 40, 40, dtype=torch.float64, requires_grad=True)
    try:
        table = fr.conv_arithmetic(words, image_size=40, in_channels=2)
    except ValueError:  # too many strides for the image, of which PyTorch says so too
        with pytest.raises(RuntimeError):
            network(image)
        return
    for module in network:
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)  # no weight may hide what is seen
    with FlopCounterMode(display=False) as counter:
        found = network(image)
    last = table.iloc[-1]
    assert tuple(found.shape) == (1, last["channels"], last["side"], last["side"])
    assert table["parameters"].sum() == sum(p.numel() for p in network.parameters())
    assert 2 * table["multiply_adds"].sum() == counter.get_total_flops()
    middle = found.shape[-1] // 2
    found[0, 0, middle, middle].backward()
    seen = image.grad[0].amax(0).nonzero()
    extent = (seen.amax(0) - seen.amin(0) + 1).tolist()
    # Zeros around the image have no gradient.
    assert max(extent) <= last["receptive_field"]
    if last["receptive_field"] < 20:
        dilated = "dilation=2" in words or "AVERAGE_POOL(1, " in words
        assert dilated or extent == [last["receptive_field"]] * 2


@pytest.mark.parametrize("name", [name for name in PATTERNS if name not in ("linear", "two_layer")])
def test_known_networks_have_the_parameters_that_they_have(name) -> None:
    table = fr.conv_arithmetic(name)
    with torch.device("meta"):
        network = SmallCNN(PATTERNS[name][0], pattern=name)
    count = sum(p.numel() for p in network.parameters())
    assert table["parameters"].sum() == count


def test_vgg_is_as_the_notes_have_it() -> None:
    table = fr.conv_arithmetic("vgg16")
    convolutions = table[table["layer"] == "CONV"]
    assert convolutions["parameters"].sum() == 14_714_688
    assert convolutions["receptive_field"].iloc[-1] == 196
    assert table[table["layer"] == "FC"]["parameters"].iloc[0] == 7 * 7 * 512 * 4096 + 4096


def test_maxout_has_two_filters_for_each_output() -> None:
    pattern = "INPUT -> CONV(8) -> MAXOUT -> CONV(4) -> FC(3) -> MAXOUT -> FC"
    table = fr.conv_arithmetic(pattern, image_size=9, in_channels=1)
    assert table["channels"].tolist() == [16, 8, 4, 6, 3]
    network = SmallCNN(9, pattern=pattern, in_channels=1)
    assert table["parameters"].sum() == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("CONV -> POOL", r"CONV number 1: it must have a width, such as CONV\(16\)"),
        ("CONV(4) -> FC", r"FC number 1: it must have a width"),
        ("CONV(4) -> POOL(40)", r"POOL number 1: \(W - F \+ 2P\)/S \+ 1 = \(30 - 40"),
        ("CONV(4) -> CONV(4, 3, stride=4)", r"CONV number 2: .* = 7.75, which must be a whole"),
        ("CONW(4)", "there is no layer CONW. Did you mean `CONV`"),
        ("vgg", "there is no layer VGG|no network of this name"),
    ],
)
def test_what_does_not_fit_is_refused(words, message) -> None:
    with pytest.raises(ValueError, match=message):
        fr.conv_arithmetic(words)


@pytest.mark.parametrize("arguments", [{"image_size": 0}, {"in_channels": 0}])
def test_sizes_are_at_least_one(arguments) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        fr.conv_arithmetic("CONV(1, 1)", **arguments)
