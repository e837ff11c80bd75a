"""Trying networks out without data."""

import copy

import pytest
import torch
from torch import nn

from lightning_fastrecipes.nn.probing import Probe, reached_parameters, size_rule, taken_sizes
from lightning_fastrecipes.protocols import InputSpec


class _Noisy(nn.Module):
    """Keeps state, draws random numbers, and holds a tensor that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.scale = torch.tensor(2.0)
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        features = self.norm(self.conv(images)) * self.scale
        return nn.functional.dropout(features, 0.5) + torch.rand(1, device=images.device)


def _run(model, images):
    return model(images)


@pytest.mark.parametrize("real", [False, True], ids=["meta", "real-copy"])
def test_a_probe_leaves_no_trace(real) -> None:
    net = _Noisy().eval()
    net.conv.requires_grad_(False)
    before = copy.deepcopy(net.state_dict())
    state = torch.get_rng_state()
    probe = Probe(net, (lambda m, x: _run(m, x) * float(x.sum() + 1)) if real else _run, real=real)
    output, twin = probe.run(8, gradients=True)
    assert output.shape == (2, 4, 6, 6)
    assert output.is_meta != real
    assert twin is not net
    assert reached_parameters(output, twin) == {name for name, _ in net.named_parameters()}
    assert torch.equal(torch.get_rng_state(), state)
    assert not net.training
    assert not net.norm.training
    assert net.calls == 0
    assert not net.conv.weight.requires_grad
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_a_size_that_fails_is_refused_with_the_cause() -> None:
    probe = Probe(_Noisy(), _run)
    with pytest.raises(ValueError, match=r"must take images of 1 x 1 pixels .* fails on them: .+"):
        probe.run(1)
    assert not probe.takes(1)
    assert not probe.takes(0)
    assert probe.takes(3)


def test_sizes_are_tried_out_on_the_network_itself_which_stays_as_it_was() -> None:
    net = _Noisy().train()
    net.conv.eval()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    assert taken_sizes(net, iter([8, 3])) == [8, 3]
    with pytest.raises(ValueError, match="_Noisy must take images of 2 x 2 px, but it fails on"):
        taken_sizes(net, [8, 2])
    assert net.calls == 4
    assert (net.training, net.conv.training, net.norm.training) == (True, False, True)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_a_network_that_normalises_images_is_tried_out_on_bytes() -> None:
    class Strict(nn.Flatten):
        def forward(self, images):
            assert images.dtype == (torch.uint8 if hasattr(self, "input_spec") else torch.float32)
            return super().forward(images)

    net = Strict()
    assert taken_sizes(net, [8]) == [8]
    net.input_spec = InputSpec()
    assert taken_sizes(net, [8]) == [8]


def test_parameters_beside_the_output_are_not_reached() -> None:
    net = nn.ModuleDict({"used": nn.Linear(2, 2), "idle": nn.Linear(2, 2)})
    output = net["used"](torch.zeros(1, 2))
    assert reached_parameters([output], net) == {"used.weight", "used.bias"}
    assert reached_parameters(output.detach(), net) == set()


class _Picky(nn.Module):
    """Takes the sizes that a rule allows."""

    def __init__(self, rule) -> None:
        super().__init__()
        self.rule = rule
        self.conv = nn.Conv2d(3, 1, 1)

    def forward(self, images):
        if not self.rule(images.shape[-1]):
            raise RuntimeError("no")
        return self.conv(images)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        pytest.param(lambda size: True, (1, False), id="any"),
        pytest.param(lambda size: size % 16 == 0, (16, False), id="patches"),
        pytest.param(lambda size: size % 4 == 0, (4, False), id="finer-than-the-stride"),
        pytest.param(lambda size: size == 224, (1, True), id="one-alone"),
        pytest.param(lambda size: 224 <= size < 240, (1, True), id="rounded-down-is-one-alone"),
        pytest.param(lambda size: size >= 224 and size % 32 == 0, (32, False), id="large-alone"),
    ],
)
def test_the_rule_of_sizes_is_found(rule, expected) -> None:
    stride = 16 if expected[0] == 16 else 32
    assert size_rule(Probe(_Picky(rule), _run), image_size=224, stride=stride) == expected
