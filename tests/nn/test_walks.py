"""What layers give, as hooks of torch see it."""

import pytest
import timm
import torch
from torch import nn

from lightning_fastrecipes.nn.walks import peaks, walk


@pytest.mark.parametrize("name", ["resnet18", "test_convnext.r160_in1k", "test_vit.r160_in1k"])
def test_steps_are_what_hooks_see(name: str) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0).eval()
    images = torch.randn(1, 3, 160, 160)
    seen = {}
    handles = [
        module.register_forward_hook(
            lambda _m, _i, output, own=own: seen.update({(own, 0): output.clone()})
        )
        for own, module in network.named_modules()
    ]
    with torch.no_grad():
        network(images)
    for handle in handles:
        handle.remove()
    found = walk(network, images)
    assert 5 < len(found.steps) <= 70
    for step in found.steps:
        output = seen[step.key][0]
        if output.ndim == 1:
            output = output[:, None, None]
        elif output.ndim == 2:  # a class token, and 10 x 10 patches
            output = output[-100:].reshape(10, 10, -1).permute(2, 0, 1)
        elif output.shape[0] == output.shape[1] != output.shape[2]:
            output = output.permute(2, 0, 1)
        assert output.shape == step.shape
        assert torch.equal(step.maps, output[step.channels])
        strongest = output.amax((1, 2)).sort(descending=True).values[: len(step.channels)]
        assert torch.equal(step.maps.amax((1, 2)), strongest)
    batch = torch.cat([images, torch.randn(2, 3, 160, 160)])
    for step, values in zip(found.steps, peaks(network, batch, found.steps), strict=True):
        assert values.shape == (3, len(step.channels))
        assert values[0] == pytest.approx(step.maps.amax((1, 2)), rel=1e-3, abs=1e-3)


def test_activations_in_place_do_not_change_the_step_before() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)).eval()
    steps = walk(network, torch.randn(1, 3, 9, 9)).steps
    assert steps[0].maps.min() < 0 <= steps[1].maps.min()
    order = [steps[1].channels.index(channel) for channel in steps[2].channels]
    assert torch.equal(steps[2].taken, steps[1].maps[order])


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu = nn.Conv2d(3, 4, 1), nn.ReLU()
        self.idle, self.words = nn.Dropout(), Pair()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.relu(self.first(images))
        return self.words(self.relu(self.idle(found) - 1))[0]


class Pair(nn.Module):
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, str]:
        return images, "word"


def test_a_module_that_runs_twice_is_two_steps_and_what_has_no_maps_is_named() -> None:
    found = walk(Twice().eval(), torch.randn(1, 3, 5, 5))
    assert [step.key for step in found.steps] == [("first", 0), ("relu", 0), ("relu", 1)]
    assert found.left_out == ["words"]


def test_a_deep_network_is_walked_block_by_block_with_every_max_pooling() -> None:
    block = [nn.Sequential(nn.Conv2d(4, 4, 1), nn.MaxPool2d(1), nn.ReLU()) for _ in range(5)]
    network = nn.Sequential(*block).eval()
    names = [step.key[0] for step in walk(network, torch.randn(1, 4, 4, 4), most_steps=10).steps]
    assert names == ["0.1", "0", "1.1", "1", "2.1", "2", "3.1", "3", "4.1", "4"]
    assert len(walk(network, torch.randn(1, 4, 4, 4), most_steps=15).steps) == 15
