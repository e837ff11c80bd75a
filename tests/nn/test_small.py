"""Small networks that are trained from scratch."""

import pytest
import torch
from torch import nn

from lightning_fastrecipes.nn.backbones import create_backbone
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
        (lambda: SmallCNN(9), "must leave a pixel after 2 pairs"),
    ],
    ids=["size", "hidden", "channels", "cnn-hidden", "too-small"],
)
def test_wrong_numbers_are_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
