"""Averaged weights, and batch norm measured anew against torch's own."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from lightning_fastrecipes.nn.averaging import average_state, reestimate_batch_norm


def make(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [5 + 3 * torch.randn(8, 3, generator=generator) for _ in range(4)]


def test_average_is_that_of_torch():
    models = [make(seed) for seed in range(3)]
    theirs = AveragedModel(models[0])
    for model in models:
        theirs.update_parameters(model)
    ours = average_state(model.state_dict() for model in models)
    for name, value in theirs.module.named_parameters():
        torch.testing.assert_close(ours[name], value)
    assert ours["1.num_batches_tracked"].dtype == torch.int64


def test_average_keeps_types_and_leaves_states_alone():
    states = [{"w": torch.tensor([1.0, 3.0], dtype=torch.bfloat16)} for _ in range(3)]
    average = average_state(states)
    assert average["w"].dtype == torch.bfloat16
    average["w"].zero_()
    assert states[0]["w"].tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("states", "message"),
    [
        pytest.param([], "at least one state", id="none"),
        pytest.param([{"a": torch.ones(1)}, {"b": torch.ones(1)}], "same names", id="names"),
        pytest.param([{"a": torch.ones(1)}, {"a": torch.ones(2)}], "same names", id="shapes"),
    ],
)
def test_states_of_different_models_are_refused(states, message):
    with pytest.raises(ValueError, match=message):
        average_state(states)


def test_statistics_are_those_of_torch():
    ours, theirs = make(0), make(0)
    assert reestimate_batch_norm(ours, batches()) == 1
    update_bn(batches(), theirs)
    torch.testing.assert_close(ours[1].running_mean, theirs[1].running_mean)
    torch.testing.assert_close(ours[1].running_var, theirs[1].running_var)
    assert ours[1].momentum == 0.1


def test_every_sample_counts_alike_whatever_batch_it_is_in():
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(66, 3, generator=generator) * 2 + 1
    rows[64:] += 40  # the last batch is of two
    for wrap in (lambda b: b, lambda b: (b, b[:, 0]), lambda b: [(b, b), b], lambda b: {"x": b}):
        model = make(0)
        parts = [wrap(rows[:64]), wrap(rows[64:])]

        def forward(batch, model=model):
            while not isinstance(batch, torch.Tensor):
                batch = batch["x"] if isinstance(batch, dict) else batch[0]
            model(batch)

        reestimate_batch_norm(model, parts, forward)
        torch.testing.assert_close(model[1].running_mean, model[0](rows).mean(0))


def test_modes_are_put_back_and_weights_left_alone():
    model = make(0).eval()
    model[2].train()
    before = {name: value.clone() for name, value in model.named_parameters()}
    reestimate_batch_norm(model, batches())
    assert [module.training for module in model] == [False, False, True, False]
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name])


def test_norms_that_a_model_keeps_as_they_are_stay_as_they_are():
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.early, self.late = make(0), make(1)

        def train(self, mode: bool = True):
            super().train(mode)
            self.early.eval()
            return self

        def forward(self, inputs):
            return self.late(nn.functional.pad(self.early(inputs), (0, 1)))

    model = Frozen()
    before = model.early[1].running_mean.clone()
    assert reestimate_batch_norm(model, batches()) == 1
    assert torch.equal(model.early[1].running_mean, before)
    assert not torch.equal(model.late[1].running_mean, torch.zeros(4))


def test_modes_are_put_back_after_an_error():
    model = make(0).train()
    with pytest.raises(RuntimeError):
        reestimate_batch_norm(model, [torch.ones(2, 99)])
    assert all(module.training for module in model)
    assert model[1].momentum == 0.1


def test_batches_can_be_run_in_another_way():
    model = make(0)
    found = reestimate_batch_norm(model, [{"x": b} for b in batches()], lambda b: model(b["x"]))
    assert found == 1
    other = make(0)
    reestimate_batch_norm(other, [(b, torch.zeros(8)) for b in batches()])
    assert torch.equal(model[1].running_mean, other[1].running_mean)
