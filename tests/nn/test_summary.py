"""The table of a network's layers, against what the network does."""

import pytest
import torch
from torch import nn

from lightning_fastrecipes import ImageClassifier, summary
from lightning_fastrecipes.batches import TableInputs
from lightning_fastrecipes.nn.small import SmallCNN, SmallMLP


def test_each_layer_has_shape_parameters_and_the_spread_of_its_output() -> None:
    torch.manual_seed(0)
    network = SmallCNN(8, [4], hidden=5, convolution={"padding": "same"})
    images = torch.randn(6, 3, 8, 8)
    table = summary(network, images)
    assert table["type"].tolist() == [
        "Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d", "Flatten", "Linear", "ReLU"
    ]  # fmt: skip
    assert table["output"].tolist()[:1] == [(6, 4, 8, 8)]
    assert table["output"].tolist()[4:] == [(6, 4, 4, 4), (6, 64), (6, 5), (6, 5)]
    assert table["parameters"].tolist() == [112, 0, 148, 0, 0, 0, 325, 0]
    assert table["parameters"].sum() == sum(p.numel() for p in network.parameters())
    for index, row in enumerate(table.itertuples()):
        with torch.no_grad():
            output = network.layers[: index + 1](images)
        assert row.layer == f"layers.{index}"
        assert row.mean == pytest.approx(output.mean().item(), rel=1e-5)
        assert row.std == pytest.approx(output.std(correction=0).item(), rel=1e-5)


@pytest.mark.parametrize(("init", "ends"), [("he", (0.3, 3)), ("small_random", (0, 1e-6))])
def test_it_shows_whether_an_initialisation_keeps_the_scale(init: str, ends) -> None:
    torch.manual_seed(0)
    table = summary(SmallMLP(8, hidden=[192] * 6, init=init), torch.randn(64, 3, 8, 8))
    last = table["std"].iloc[-1]
    assert ends[0] < last < ends[1]


def test_nothing_of_the_model_is_changed() -> None:
    network = SmallCNN(8, [4], hidden=5, batch_norm=True, dropout=0.5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(3)
    first = summary(network, torch.randn(6, 3, 8, 8, generator=torch.Generator()))
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    # In train mode batch norm measures the batch, in eval mode it knows nothing yet.
    norm = first["type"] == "BatchNorm2d"
    assert first["std"][norm].to_numpy() == pytest.approx(1, abs=1e-3)
    second = summary(network.eval(), torch.randn(6, 3, 8, 8, generator=torch.Generator()))
    assert abs(second["std"][norm] - 1).max() > 0.01


def test_a_task_is_summarised_on_a_batch_of_its_loader() -> None:
    model = ImageClassifier("test_resnet.r160_in1k", num_classes=3)
    model.freeze()
    images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    table = summary(model, (images, torch.zeros(4)))
    assert table["parameters"].sum() == sum(p.numel() for p in model.parameters())
    backbone = table["layer"].str.startswith("backbone.") & (table["parameters"] > 0)
    assert set(table["trained"][backbone]) == {"frozen"}
    head = table["layer"].str.startswith("head.") & (table["parameters"] > 0)
    assert set(table["trained"][head]) == {"yes"}
    assert table["output"].iloc[-1] == (4, 3)


def test_layers_that_run_twice_or_not_at_all() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(2))
            self.twice = nn.Linear(2, 2)
            self.never = nn.Linear(2, 3)
            self.twice.bias.requires_grad_(requires_grad=False)

        def forward(self, inputs: TableInputs) -> torch.Tensor:
            return self.twice(self.twice(inputs.continuous)).relu_() * self.scale

    inputs = TableInputs(torch.zeros(3, 0, dtype=torch.long), torch.randn(3, 2))
    table = summary(Odd(), (inputs, torch.zeros(3)))
    assert table["layer"].tolist() == ["twice", "twice", "", "never"]
    assert table["parameters"].tolist() == [6, 0, 2, 9]
    assert table["trained"].tolist() == ["part", "", "yes", "yes"]
    assert table["output"].tolist()[2:] == [(3, 2), None]
    without = summary(Odd())
    assert without["output"].isna().all()
    assert without["parameters"].sum() == 17
