"""The table of a network's layers, against what the network does."""

import json

import pandas as pd
import pytest
import timm
import torch
from torch import nn

from lightning_fastrecipes import (
    ImageClassifier,
    Optim,
    TableSpec,
    TabularClassifier,
    TabularNetwork,
    conv_arithmetic,
    summary,
)
from lightning_fastrecipes.batches import TableInputs
from lightning_fastrecipes.nn.small import SmallCNN, SmallMLP


def test_each_layer_has_shape_parameters_and_the_spread_of_its_output() -> None:
    torch.manual_seed(0)
    network = SmallCNN(8, [4], hidden=5, convolution={"padding": "same"})
    images = torch.randn(6, 3, 8, 8)
    table = summary(network, images).layers
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
    table = summary(SmallMLP(8, hidden=[192] * 6, init=init), torch.randn(64, 3, 8, 8)).layers
    last = table["std"].iloc[-1]
    assert ends[0] < last < ends[1]


def test_nothing_of_the_model_is_changed() -> None:
    network = SmallCNN(8, [4], hidden=5, batch_norm=True, dropout=0.5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(3)
    first = summary(network, torch.randn(6, 3, 8, 8, generator=torch.Generator())).layers
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    # In train mode batch norm measures the batch, in eval mode it knows nothing yet.
    norm = first["type"] == "BatchNorm2d"
    assert first["std"][norm].to_numpy() == pytest.approx(1, abs=1e-3)
    second = summary(network.eval(), torch.randn(6, 3, 8, 8, generator=torch.Generator())).layers
    assert abs(second["std"][norm] - 1).max() > 0.01


def test_a_task_is_summarised_on_a_batch_of_its_loader() -> None:
    model = ImageClassifier("test_resnet.r160_in1k", num_classes=3)
    model.freeze()
    images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    table = summary(model, (images, torch.zeros(4))).layers
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
    table = summary(Odd(), (inputs, torch.zeros(3))).layers
    assert table["layer"].tolist() == ["twice", "twice", "", "never"]
    assert table["parameters"].tolist() == [6, 0, 2, 9]
    assert table["trained"].tolist() == ["part", "", "yes", "yes"]
    assert table["output"].tolist()[2:] == [(3, 2), None]
    without = summary(Odd()).layers
    assert without["output"].isna().all()
    assert without["parameters"].sum() == 17


def test_its_work_and_fields_are_those_of_the_arithmetic() -> None:
    pattern = "CONV(8) -> RELU -> CONV(8, padding=2, dilation=2) -> POOL -> CONV(4, 5, stride=2)"
    wanted = conv_arithmetic(pattern, image_size=64)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 4, 5, stride=2),
    )
    found = summary(network, torch.randn(3, 3, 64, 64)).layers
    for column in ("parameters", "multiply_adds", "receptive_field"):
        assert found[column].tolist() == wanted[column].tolist(), column


@pytest.mark.parametrize(
    ("name", "work", "field", "at"),
    [
        # He et al. (2015), 1.8e9; the fields of Araujo et al., *Computing receptive fields* (2019).
        ("resnet18", 1_814_073_344, 11, "maxpool"),
        ("resnet18", 1_814_073_344, 99, "layer2.1.act2"),
    ],
)
def test_work_and_fields_of_a_network_that_is_published(name, work, field, at) -> None:
    layers = summary(timm.create_model(name).eval(), torch.randn(1, 3, 224, 224)).layers
    assert layers["multiply_adds"].sum() == work
    assert layers.set_index("layer")["receptive_field"][at] == field
    assert layers["receptive_field"].iloc[-1] == 224  # behind the mean over the image


def test_attention_sees_the_whole_image_and_its_products_count() -> None:
    network = timm.create_model("test_vit.r160_in1k").eval()
    found = summary(network, torch.randn(2, 3, 160, 160)).layers
    by_layer = found.drop_duplicates("layer").set_index("layer")
    assert by_layer["receptive_field"]["patch_embed.proj"] == 16
    assert by_layer["receptive_field"]["blocks.0.attn"] == 160
    tokens, width = 101, network.embed_dim
    assert by_layer["multiply_adds"]["blocks.0.attn"] == 2 * tokens**2 * width
    assert by_layer["parameters"]["blocks.0.attn"] == 0


@pytest.mark.parametrize(
    "optimizer", ["torch.optim.AdamW", "torch.optim.SGD", "torch.optim.Adagrad"]
)
def test_groups_have_rates_decay_norms_and_the_memory_of_a_step(optimizer: str) -> None:
    optim = Optim(lr=[1e-4, 1e-3], weight_decay=0.05, optimizer=optimizer)
    model = ImageClassifier("test_resnet.r160_in1k", num_classes=3, optim=optim)
    model.freeze_to(1)
    model.train()
    batch = (torch.randint(256, (4, 3, 64, 64), dtype=torch.uint8), torch.zeros(4))
    found = summary(model, batch)
    groups = found.groups.set_index("group")
    assert groups.index.tolist() == ["early", "late", "head"]
    assert groups["lr"].tolist() == [0, 1e-4, 1e-3]
    assert (groups["weight_decay"] == 0.05).all()
    assert groups["norms"].tolist() == ["stored", "batch", "batch"]
    assert groups["trained"].tolist() == [0, *groups["parameters"][1:]]
    assert groups["multiply_adds"].sum() == found.layers["multiply_adds"].sum() > 0
    used = model.configure_optimizers()
    model.loss(model(batch[0]), torch.tensor([0, 1, 2, 0])).backward()
    used.step()
    parameters = [item for item in model.parameters() if item.grad is not None]
    memory = found.memory
    assert memory.gradients == sum(item.grad.nbytes for item in parameters)
    tensors = [v for state in used.state.values() for v in state.values() if torch.is_tensor(v)]
    trained_state = sum(v.nbytes for v in tensors)
    frozen = [item for item in model.parameters() if item.grad is None]
    spare = sum(
        v.nbytes for item in frozen for v in used.state[item].values() if torch.is_tensor(v)
    )
    assert memory.optimizer == trained_state - spare
    assert memory.activations > 4 * 64 * 64 * 3 * 4
    assert memory.total == sum(vars(memory).values())


def test_an_image_task_needs_no_batch_and_everything_becomes_json() -> None:
    model = ImageClassifier("test_resnet.r160_in1k", num_classes=3)
    found = summary(model)
    assert found.layers["output"].iloc[-1] == (2, 3)
    assert found.layers["mean"].isna().all()  # that of noise would tell nothing
    values = json.loads(json.dumps(found.plain_values(), allow_nan=False))
    assert values["layers"][0]["output"][0] == 2
    assert values["memory"]["total"] == found.memory.total
    assert "multiply-adds a sample" in repr(found)
    assert found._repr_html_().count("<table") == 2


def test_a_table_task_needs_no_batch_once_its_columns_are_known() -> None:
    rows = {"shop": ["a", "b", "a", "b"], "km": [1.0, 2.0, 3.0, 4.0], "kind": ["x", "y", "x", "y"]}
    roles = {"categorical": ["shop"], "continuous": ["km"], "task": "classes"}
    spec = TableSpec.fit(pd.DataFrame(rows), target="kind", **roles)
    network = TabularNetwork([8], 0.1)
    found = summary(TabularClassifier(spec, network=network))
    assert found.layers["output"].iloc[-1] == (2, 2)
    assert found.layers["multiply_adds"].sum() == sum(
        row.output[1] * (row.parameters // row.output[1] - 1)
        for row in found.layers.itertuples()
        if row.type == "Linear"
    )
    assert "multiply-adds a sample" in repr(found)
    json.dumps(found.plain_values(), allow_nan=False)
    # Until then there are no layers.
    assert "Empty" not in repr(summary(TabularClassifier(network=network)))


def test_a_batch_that_is_a_mapping_counts_its_samples() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.layer(batch["x"])

    found = summary(Named(), {"x": torch.zeros(6, 4)})
    assert found.batch_size == 6
    assert found.layers["multiply_adds"].tolist() == [8]
