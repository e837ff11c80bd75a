import pytest
import torch
from torch import nn

from lightning_fastrecipes.functional.training.norm_calibration import (
    measure_inputs,
    store_statistics,
    trained_norms,
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4)
    )
    for norm in trained_norms(net):
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 20)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return net.eval()


def calibrate(net: nn.Module, parts: list[torch.Tensor]) -> None:
    norms = trained_norms(net)
    store_statistics(norms, measure_inputs(norms, lambda: [net(part) for part in parts]))


def images(num: int = 24) -> torch.Tensor:
    return 3 + 2 * torch.randn(num, 3, 9, 9, generator=torch.Generator().manual_seed(1))


def test_the_output_is_the_same_and_that_of_train_mode_agrees_with_it() -> None:
    net, rows = network(), images()
    before = net(rows)
    apart = (net.train()(rows) - before).abs().mean()
    net = network()
    calibrate(net, [rows])
    torch.testing.assert_close(net(rows), before, rtol=1e-4, atol=1e-4)
    together = (net.train()(rows) - before).abs().mean()
    assert together < 0.02 * apart


def test_the_statistics_are_those_of_all_rows_whatever_the_batches() -> None:
    whole, parted, rows = network(), network(), images()
    calibrate(whole, [rows])
    calibrate(parted, list(rows.split([3, 5, 16])))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parted.state_dict()[name], value)
    seen = whole[0](rows)
    torch.testing.assert_close(whole[1].running_mean, seen.mean((0, 2, 3)))
    torch.testing.assert_close(whole[1].running_var, seen.var((0, 2, 3)))


def test_sums_of_two_processes_add_up() -> None:
    alone, net, rows = network(), network(), images()
    calibrate(alone, [rows])
    norms = trained_norms(net)
    halves = [measure_inputs(norms, lambda part=part: net(part)) for part in rows.chunk(2)]
    store_statistics(norms, halves[0] + halves[1])
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(net.state_dict()[name], value)


def test_a_channel_that_is_constant_keeps_its_output() -> None:
    norm = nn.BatchNorm1d(2)
    nn.init.constant_(norm.running_mean, 4.0)
    rows = torch.tensor([[1.0, 2.0], [1.0, 6.0]])
    before = norm.eval()(rows)
    calibrate(norm, [rows])
    torch.testing.assert_close(norm(rows), before)
    assert torch.isfinite(norm.train()(rows)).all()


def test_norms_that_are_frozen_or_store_nothing_are_left_alone() -> None:
    frozen = nn.BatchNorm1d(2).requires_grad_(False)
    net = nn.Sequential(
        frozen, nn.BatchNorm1d(2, track_running_stats=False), nn.BatchNorm1d(2, affine=False)
    )
    assert trained_norms(net) == []
    assert measure_inputs([], lambda: None).shape == (3, 0)


def test_a_norm_that_sees_nothing_stays_as_it_is() -> None:
    norm = nn.BatchNorm1d(2)
    store_statistics([norm], measure_inputs([norm], lambda: None))
    assert norm.running_mean.tolist() == [0, 0]
    assert norm.weight.tolist() == [1, 1]


def test_hooks_are_gone_afterwards_also_after_an_error() -> None:
    net = network()
    with pytest.raises(RuntimeError, match="channels"):
        calibrate(net, [torch.zeros(1, 7, 9, 9)])
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_a_compiled_network_is_measured_as_well() -> None:
    net, rows = network(), images()
    expected = network()
    calibrate(expected, [rows])
    net.compile(backend="eager")
    net(rows)  # compiled before there are hooks
    calibrate(net, [rows])
    torch.testing.assert_close(net[1].running_mean, expected[1].running_mean)
