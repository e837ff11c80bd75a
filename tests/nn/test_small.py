"""Small networks that are trained from scratch."""

import pytest
import torch
from torch import nn

from lightning_fastrecipes.functional.images.layer_patterns import PATTERNS
from lightning_fastrecipes.nn.backbones import create_backbone
from lightning_fastrecipes.nn.layer_stack import Maxout
from lightning_fastrecipes.nn.small import SmallCNN, SmallMLP


def test_without_hidden_layers_the_pixels_are_the_features() -> None:
    images = torch.randn(2, 3, 5, 5)
    network = SmallMLP(5)
    assert torch.equal(network(images), images.flatten(1))
    assert not list(network.parameters())
    backbone = create_backbone(network)
    assert backbone.layer_groups(1) == []
    assert backbone.num_features == 75


def test_hidden_layers_follow_one_another() -> None:
    network = SmallMLP(4, hidden=[8, 6])
    linears = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert [layer.weight.shape for layer in linears] == [(8, 48), (6, 8)]
    assert network(torch.randn(3, 3, 4, 4)).min() >= 0


@pytest.mark.parametrize("batch_norm", [False, True])
def test_convolutions_come_in_pairs(batch_norm: bool) -> None:
    network = SmallCNN(20, channels=[4, 6], hidden=10, batch_norm=batch_norm)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [4, 4, 6, 6]
    norms = [m for m in network.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert len(norms) == (5 if batch_norm else 0)
    # (20 - 4) / 2 = 8 and (8 - 4) / 2 = 2 pixels are left.
    assert network.layers[-1 - 1 - batch_norm].in_features == 6 * 2 * 2
    assert network(torch.randn(3, 3, 20, 20)).shape == (3, 10)
    output = network.train()(torch.randn(8, 3, 20, 20))
    output.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_what_passes_through_keeps_its_scale() -> None:
    torch.manual_seed(0)
    output = SmallCNN(28)(torch.randn(64, 3, 28, 28))
    assert 0.3 < output.square().mean().sqrt() < 3


@pytest.mark.parametrize("network", [SmallMLP(28), SmallCNN(28)], ids=["mlp", "cnn"])
def test_other_sizes_are_refused(network: nn.Module) -> None:
    backbone = create_backbone(network)
    backbone.check_image_size(28)
    with pytest.raises(ValueError, match="`image_size` must be 28 for 'Small"):
        backbone.check_image_size(32)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SmallMLP(0), "`image_size` must be at least 1"),
        (lambda: SmallMLP(28, hidden=[5, 0]), "`hidden` must be at least 1"),
        (lambda: SmallCNN(channels=[0]), "`channels` must be at least 1"),
        (lambda: SmallCNN(hidden=0), "`hidden` must be at least 1"),
        (lambda: SmallCNN(9), "CONV number 3 does not: .* = .2 - 3 "),
    ],
    ids=["size", "hidden", "channels", "cnn-hidden", "too-small"],
)
def test_wrong_numbers_are_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("pattern", "channels", "num_parameters"),
    [("alexnet", 3, 62_378_344), ("vgg16", 3, 138_357_544), ("lenet", 1, 61_706)],
)
def test_named_networks_have_as_many_parameters_as_published(
    pattern: str, channels: int, num_parameters: int
) -> None:
    num_classes = 10 if pattern == "lenet" else 1000
    with torch.device("meta"):
        network = SmallCNN(pattern=pattern, in_channels=channels)
        size = network.input_spec.image_size
        num_features = network(torch.zeros(2, channels, size, size)).shape[1]
        network.append = nn.Linear(num_features, num_classes)
    assert sum(parameter.numel() for parameter in network.parameters()) == num_parameters


def test_every_preset_is_built_for_its_own_size() -> None:
    sides = {"zfnet": [111, 55, 26, 13, 13, 13, 13, 6], "lenet": [28, 14, 10, 5]}
    for name in PATTERNS:
        with torch.device("meta"):
            network = SmallCNN(pattern=name)
            size = network.input_spec.image_size
            images, found = torch.zeros(2, 3, size, size), []
            for layer in network.layers:
                images = layer(images)
                if isinstance(layer, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
                    found.append(images.shape[-1])
        assert images.ndim == 2
        assert found == sides.get(name, found)


def test_without_a_pattern_it_is_the_pattern_of_the_notes() -> None:
    pattern = "INPUT -> [[CONV -> RELU]*2 -> POOL?]*3 -> [FC -> RELU]*2 -> FC"
    options = {"channels": [4, 5, 6], "convolution": {"padding": "same"}, "batch_norm": True}
    networks = []
    for form in ({"pattern": pattern}, {}):
        torch.manual_seed(0)
        networks.append(SmallCNN(16, hidden=[8, 7], **options, **form))
    assert repr(networks[0]) == repr(networks[1])
    images = torch.randn(4, 3, 16, 16)
    assert torch.equal(networks[0](images), networks[1](images))
    # Of the convolutions that name no width each pool begins another.
    widths = [layer.out_channels for layer in networks[0].modules() if isinstance(layer, nn.Conv2d)]
    assert widths == [4, 4, 5, 5, 6, 6]


def test_channels_double_after_each_pool_where_none_are_named() -> None:
    network = SmallCNN(26, hidden=8, pattern="INPUT -> [CONV -> RELU -> POOL]*2 -> CONV -> FC")
    widths = [layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert widths == [32, 64, 128]


def test_numbers_of_the_pattern_go_before_those_of_the_arguments() -> None:
    pattern = (
        "INPUT -> CONV(5, 7, stride=2, padding=3) -> MAXOUT -> CONV -> AVERAGE_POOL(3, 1) -> FC"
    )
    network = SmallCNN(17, channels=[6], pattern=pattern, convolution={"dilation": 2, "padding": 1})
    first, last = (layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    assert (first.out_channels, first.kernel_size, first.stride, first.padding, first.dilation) == (
        10, (7, 7), (2, 2), (3, 3), (2, 2)
    )  # fmt: skip
    assert (last.in_channels, last.out_channels, last.padding, last.dilation) == (
        5, 6, (1, 1), (2, 2)
    )  # fmt: skip
    assert network.layers[3].kernel_size == 3


@pytest.mark.parametrize(
    ("activation", "layer"),
    [
        ("relu", nn.ReLU), ("leaky_relu", nn.LeakyReLU), ("elu", nn.ELU), ("tanh", nn.Tanh),
        ("sigmoid", nn.Sigmoid), ("maxout", Maxout), ("none", nn.Identity),
    ],
)  # fmt: skip
def test_an_activation_replaces_all_others(activation: str, layer: type) -> None:
    other = [nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Tanh, nn.Sigmoid, Maxout]
    for network in (
        SmallCNN(8, [4], hidden=6, activation=activation, pooling="none"),
        SmallMLP(8, hidden=[6, 6], activation=activation),
    ):
        found = [type(m) for m in network.modules() if type(m) in other]
        assert found == [layer] * (0 if activation == "none" else len(found))
        assert len(found) == (0 if activation == "none" else 2 + isinstance(network, SmallCNN))
        output = network(torch.randn(5, 3, 8, 8))
        assert output.shape == (5, 6)
        output.sum().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())


def test_maxout_takes_the_larger_of_two_pieces() -> None:
    values = torch.tensor([[1.0, 2.0, 4.0, 3.0]])
    assert Maxout()(values).tolist() == [[2.0, 4.0]]
    assert Maxout()(values[:, :, None, None]).shape == (1, 2, 1, 1)
    linear = nn.Linear(3, 6)
    network = SmallMLP(1, hidden=[3], activation="maxout")
    network.layers[1] = linear
    images = torch.randn(4, 3, 1, 1)
    pieces = linear(images.flatten(1))
    assert torch.equal(network(images), torch.maximum(pieces[:, ::2], pieces[:, 1::2]))


def test_without_activation_layers_are_one_linear_map() -> None:
    network = SmallMLP(4, hidden=[8, 6], activation="none")
    first, last = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    mean = network((first + last) / 2)
    torch.testing.assert_close(mean, (network(first) + network(last)) / 2)


def test_pooling_is_maximum_average_or_none() -> None:
    images = torch.randn(2, 3, 8, 8)
    pattern = "INPUT -> POOL -> FC"
    pooled = [SmallCNN(8, pattern=pattern, pooling=kind)(images) for kind in ("max", "average")]
    blocks = images.unfold(2, 2, 2).unfold(3, 2, 2)
    torch.testing.assert_close(pooled[0], blocks.amax((-1, -2)).flatten(1))
    torch.testing.assert_close(pooled[1], blocks.mean((-1, -2)).flatten(1))
    assert torch.equal(SmallCNN(8, pattern=pattern, pooling="none")(images), images.flatten(1))


@pytest.mark.parametrize(
    ("init", "std"),
    [("he", (2 / 300) ** 0.5), ("xavier", (2 / 700) ** 0.5), ("small_random", 0.01), ("zero", 0)],
)
def test_initialisations_have_their_deviation(init: str, std: float) -> None:
    torch.manual_seed(0)
    weight = SmallMLP(10, hidden=[400], init=init).layers[1].weight
    assert weight.shape == (400, 300)
    assert weight.std().item() == pytest.approx(std, rel=0.01)
    assert abs(weight.mean().item()) < 0.001


def test_dropout_follows_each_fully_connected_layer() -> None:
    for network in (SmallCNN(8, [4], [6, 5], dropout=0.3), SmallMLP(8, [6, 5], dropout=0.3)):
        kinds = [type(layer) for layer in network.layers][-6:]
        assert kinds == [nn.Linear, nn.ReLU, nn.Dropout] * 2
        assert network.layers[-1].p == 0.3


def test_one_channel_takes_the_mean_of_three_and_others_their_own() -> None:
    images = torch.randn(2, 3, 8, 8)
    network = SmallCNN(8, [4], 6, in_channels=1)
    assert torch.equal(network(images), network(images.mean(1, keepdim=True)))
    assert create_backbone(network).input_spec.mean == (0.5,) * 3
    backbone = create_backbone(SmallMLP(8, hidden=[6], in_channels=4))
    assert backbone(torch.randn(2, 4, 8, 8)).shape == (2, 6)
    assert backbone.input_spec.mean == (0.5,) * 4
    with pytest.raises(ValueError, match=r"must have 4 channels, got shape \(2, 3, 8, 8\)"):
        backbone(images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolution": {"stride": 2}}, r"= \(10 - 3 \+ 2\*0\)/2 \+ 1 = 4.5, .* a whole number"),
        (
            {"convolution": {"kernel_size": 5, "dilation": 3}},
            r"= \(10 - 13 \+ 2\*0\)/1 \+ 1 = -2 with F = 3\*\(5 - 1\) \+ 1, .* at least 1",
        ),
        ({"convolution": {"kernel_size": 4, "padding": "same"}}, "must have an odd kernel size"),
        ({"channels": [2] * 3}, r"images of 10 x 10 px, but CONV number 4 does not: .*= \(1 - 3"),
        ({"pattern": "INPUT -> POOL(11) -> FC"}, r"POOL number 1 does not: .* = \(10 - 11 "),
        ({"channels": [2, 2], "pattern": "INPUT -> CONV -> FC"}, "`channels` must have 1 width"),
        ({"hidden": [4], "pattern": "INPUT -> CONV(2) -> FC(3) -> FC"}, "`hidden` must have 0"),
        ({"convolution": {"padding": "full"}}, "`padding` must be 'valid' or 'same'"),
        ({"convolution": {"padding": -1}}, "`padding` must be at least 0"),
        ({"convolution": {"stride": 0}}, "`stride` must be at least 1"),
        ({"activation": "swish"}, "`activation` must be 'relu'"),
        ({"pooling": "mean"}, "`pooling` must be 'max'"),
        ({"init": "lsuv", "channels": []}, "`init` must be 'he'"),
        ({"dropout": 1.0}, r"`dropout` must be in \[0, 1\)"),
        ({"in_channels": 0}, "`in_channels` must be at least 1"),
    ],
)
def test_layers_that_do_not_fit_are_refused_with_the_arithmetic(options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmallCNN(10, **options)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_keys_and_weights_are_those_of_earlier_versions(batch_norm: bool) -> None:
    torch.manual_seed(7)
    layers: list[nn.Module] = []
    for before, after in ((3, 4), (4, 6)):
        for width in (before, after):
            layers.append(nn.Conv2d(width, after, kernel_size=3, bias=not batch_norm))
            layers += [nn.BatchNorm2d(after)] * batch_norm
            layers.append(nn.ReLU())
        layers.append(nn.MaxPool2d(2))
    layers += [nn.Flatten(), nn.Linear(6 * 2 * 2, 10, bias=not batch_norm)]
    layers += [nn.BatchNorm1d(10)] * batch_norm
    earlier = nn.Sequential(*layers, nn.ReLU())
    for layer in earlier.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    torch.manual_seed(7)
    network = SmallCNN(20, [4, 6], 10, batch_norm)
    expected = {f"layers.{name}": value for name, value in earlier.state_dict().items()}
    found = network.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    images = torch.randn(4, 3, 20, 20)
    assert torch.equal(network(images), earlier(images))
