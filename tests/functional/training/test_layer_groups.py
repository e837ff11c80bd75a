"""Freezing, rates and optimizer groups."""

import copy

import pytest
import torch
from torch import nn

from lightning_fastrecipes.functional.training.layer_groups import (
    audit_param_groups,
    frozen_count,
    optimizer_groups,
    set_frozen,
    set_frozen_modes,
)
from lightning_fastrecipes.protocols import LayerGroup


class _Net(nn.Module):
    """Two blocks with batch norm and dropout, and a head with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        blocks = {
            name: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
            for name in ("early", "late")
        }
        self.backbone = nn.ModuleDict(blocks)
        self.head = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2))

    def forward(self, inputs):
        return self.head(self.backbone["late"](self.backbone["early"](inputs)))

    def groups(self) -> list[LayerGroup]:
        names = [name for name, _ in self.named_parameters()]
        prefixes = {"early": "backbone.early.", "late": "backbone.late.", "head": "head."}
        return [
            LayerGroup(group, tuple(name for name in names if name.startswith(prefix)))
            for group, prefix in prefixes.items()
        ]


def _prepared(policy: str, num_frozen: int) -> _Net:
    torch.manual_seed(0)
    net = _Net()
    set_frozen(net, net.groups(), num_frozen, policy)
    net.train()
    set_frozen_modes(net, net.backbone, policy)
    return net


def _train(net: _Net) -> None:
    groups = optimizer_groups(dict(net.named_parameters()), net.groups(), [0.1] * 3, 0.01)
    optimizer = torch.optim.AdamW(groups)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.randn(8, 4) + 3).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("freeze_to", "expected"),
    [(0, 0), (1, 1), (2, 2), (-1, 2), (-2, 1), (-3, 0)],
    ids=["nothing", "first", "two", "head-alone", "last-two", "all-from-the-head"],
)
def test_leading_groups_are_counted_as_frozen(freeze_to, expected) -> None:
    assert frozen_count(freeze_to, num_groups=3) == expected


@pytest.mark.parametrize("freeze_to", [3, -4])
def test_a_group_that_is_not_there_is_refused(freeze_to) -> None:
    with pytest.raises(
        ValueError, match=rf"`freeze_to` must be between -3 and 2 .* got {freeze_to}"
    ):
        frozen_count(freeze_to, num_groups=3)


def test_every_layer_group_has_two_optimizer_groups_frozen_or_not() -> None:
    net = _Net()
    set_frozen(net, net.groups(), 2, "eval")
    built = optimizer_groups(dict(net.named_parameters()), net.groups(), [0.0, 0.0, 0.1], 0.01)
    assert [(group["name"], group["lr"], group["weight_decay"]) for group in built] == [
        ("early/decay", 0.0, 0.01),
        ("early/no_decay", 0.0, 0.0),
        ("late/decay", 0.0, 0.01),
        ("late/no_decay", 0.0, 0.0),
        ("head/decay", 0.1, 0.01),
        ("head/no_decay", 0.1, 0.0),
    ]
    assert [set(group) for group in built] == [{"params", "lr", "weight_decay", "name"}] * 6
    audit_param_groups(dict(net.named_parameters()), torch.optim.SGD(built).param_groups)


def test_biases_vectors_and_listed_names_have_no_weight_decay() -> None:
    parameters = {
        "w": nn.Parameter(torch.zeros(2, 2)),
        "odd.bias": nn.Parameter(torch.zeros(2, 2)),
        "norm.weight": nn.Parameter(torch.ones(2)),
        "scale": nn.Parameter(torch.ones(())),
        "pos_embed": nn.Parameter(torch.zeros(1, 2, 2)),
    }
    group = LayerGroup("all", tuple(parameters))
    decay, no_decay = optimizer_groups(parameters, [group], [0.1], 0.01, no_decay={"pos_embed"})
    assert [id(item) for item in decay["params"]] == [id(parameters["w"])]
    assert len(no_decay["params"]) == 4


def test_parameters_with_equal_values_are_all_kept() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    parameters = dict(net.named_parameters())
    built = optimizer_groups(parameters, [LayerGroup("all", tuple(parameters))], [0.1], 0.0)
    assert [len(group["params"]) for group in built] == [4]


def test_tied_parameters_are_kept_once() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    named = dict(net.named_parameters(remove_duplicate=False))
    built = optimizer_groups(named, [LayerGroup("all", tuple(named))], [0.1], 0.0)
    assert sum(len(group["params"]) for group in built) == 3
    audit_param_groups(named, built)


@pytest.mark.parametrize(
    ("names", "rates", "decay", "message"),
    [
        pytest.param(("lost",), [0.1], 0.0, "'all' must name parameters .* 'lost'", id="no-such"),
        pytest.param(("weight",), [0.1, 0.1], 0.0, "`group_lrs` must hold one rate", id="rates"),
        pytest.param(("weight",), [0.1], -1.0, "`weight_decay` must be at least 0", id="decay"),
    ],
)
def test_optimizer_groups_that_cannot_be_are_refused(names, rates, decay, message) -> None:
    parameters = dict(nn.Linear(2, 2).named_parameters())
    with pytest.raises(ValueError, match=message):
        optimizer_groups(parameters, [LayerGroup("all", names)], rates, decay)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        pytest.param(["weight"], "Missing: bias", id="missing"),
        pytest.param(["weight", "bias", "bias"], "Twice: bias", id="twice"),
        pytest.param(
            ["weight", "bias", "foreign"],
            r"Not in the model: one of shape \(2,\) in g",
            id="foreign",
        ),
    ],
)
def test_the_audit_names_what_is_wrong(chosen, message) -> None:
    layer = nn.Linear(2, 2)
    nn.init.zeros_(layer.bias)
    known = {**dict(layer.named_parameters()), "foreign": nn.Parameter(torch.zeros(2))}
    groups = [{"params": [known[name] for name in chosen], "name": "g"}]
    with pytest.raises(ValueError, match=message):
        audit_param_groups(dict(layer.named_parameters()), groups)


def test_freezing_turns_gradients_off_and_on_again() -> None:
    net = _prepared("eval_if_frozen", num_frozen=2)
    trained = [name for name, item in net.named_parameters() if item.requires_grad]
    assert {name.split(".")[0] for name in trained} == {"head"}
    set_frozen(net, net.groups(), 0, "eval_if_frozen")
    assert all(item.requires_grad for item in net.parameters())


@pytest.mark.parametrize(
    ("policy", "training"),
    [
        pytest.param("eval", [False, False, True], id="no-batch-norm-of-the-backbone"),
        pytest.param("eval_if_frozen", [False, True, True], id="not-the-frozen-one"),
        pytest.param("stats_if_frozen", [True, True, True], id="statistics-of-the-frozen-one-too"),
        pytest.param("train", [True, True, True], id="all"),
    ],
)
def test_batch_norm_follows_the_policy(policy, training) -> None:
    net = _prepared(policy, num_frozen=1)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm1d)]
    assert [norm.training for norm in norms] == training
    assert all(norm.track_running_stats for norm in norms)
    assert norms[0].weight.requires_grad == (policy == "train")
    assert not net.backbone["early"][0].weight.requires_grad


@pytest.mark.parametrize("policy", ["eval", "eval_if_frozen", "stats_if_frozen", "train"])
def test_frozen_dropout_rests_and_trained_dropout_works(policy) -> None:
    net = _prepared(policy, num_frozen=1)
    assert [block[2].training for block in net.backbone.values()] == [False, True]


@pytest.mark.parametrize("policy", ["eval", "eval_if_frozen"])
def test_frozen_groups_stay_bit_equal_while_the_rest_trains(policy) -> None:
    net = _prepared(policy, num_frozen=1)
    before = copy.deepcopy(net.state_dict())
    _train(net)
    after = net.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not {name for name in changed if name.startswith("backbone.early.")}
    statistics = {name for name in changed if name.startswith("backbone.late.1.running")}
    assert bool(statistics) == (policy == "eval_if_frozen")
    assert {"backbone.late.0.weight", "head.1.weight", "head.0.running_mean"} <= changed


def test_statistics_alone_move_under_stats_if_frozen() -> None:
    net = _prepared("stats_if_frozen", num_frozen=1)
    before = copy.deepcopy(net.state_dict())
    _train(net)
    after = net.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name in changed if name.startswith("backbone.early.")} == {
        "backbone.early.1.running_mean",
        "backbone.early.1.running_var",
        "backbone.early.1.num_batches_tracked",
    }


def test_frozen_norm_weights_train_under_train() -> None:
    net = _prepared("train", num_frozen=1)
    before = copy.deepcopy(net.state_dict())
    _train(net)
    after = net.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    early = {name for name in moved if name.startswith("backbone.early.")}
    assert {"backbone.early.1.weight", "backbone.early.1.running_mean"} <= early
    assert "backbone.early.0.weight" not in early


def test_unfreezing_wakes_what_rested() -> None:
    net = _prepared("eval_if_frozen", num_frozen=2)
    set_frozen(net, net.groups(), 0, "eval_if_frozen")
    net.train()
    set_frozen_modes(net, net.backbone, "eval_if_frozen")
    assert all(module.training for module in net.modules())


def test_an_unknown_policy_is_refused() -> None:
    net = _Net()
    with pytest.raises(ValueError, match=r"`norm_policy` must be one of eval, .* got 'evil'"):
        set_frozen_modes(net, net.backbone, "evil")
    with pytest.raises(ValueError, match=r"`norm_policy` must be one of eval, .* got 'evil'"):
        set_frozen(net, net.groups(), 1, "evil")
