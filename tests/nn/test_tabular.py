"""Entity embeddings beside normalised continuous columns, through hidden layers."""

import pytest
import torch
from torch import nn

from lightning_fastrecipes.batches import TableInputs
from lightning_fastrecipes.nn.tabular import EntityEmbeddings, TableBackbone


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64])
def test_each_column_is_looked_up_in_its_own_table(dtype):
    embeddings = EntityEmbeddings([3, 5], [2, 4])
    codes = torch.tensor([[2, 0], [1, 4]], dtype=dtype)
    first, second = (table.weight for table in embeddings.tables)

    expected = torch.stack([torch.cat([first[2], second[0]]), torch.cat([first[1], second[4]])])
    assert torch.equal(embeddings(codes), expected)
    assert embeddings.num_features == 6


def test_vectors_start_as_in_the_course():
    weight = EntityEmbeddings([4000], [9]).tables[0].weight

    assert float(weight.min()) == pytest.approx(-0.2, abs=1e-3)
    assert float(weight.max()) == pytest.approx(0.2, abs=1e-3)
    assert float(weight.mean()) == pytest.approx(0.0, abs=3e-3)


def test_a_step_moves_only_the_vectors_of_the_batch():
    embeddings = EntityEmbeddings([4], [2])
    before = embeddings.tables[0].weight.detach().clone()
    optimizer = torch.optim.SGD(embeddings.parameters(), lr=0.1)
    embeddings(torch.tensor([[0], [2]])).sum().backward()
    optimizer.step()

    moved = (embeddings.tables[0].weight != before).any(dim=1)
    assert moved.tolist() == [True, False, True, False]


def batch(num_rows=64, num_continuous=3):
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 4, (num_rows, 2), generator=generator)
    return TableInputs(codes, 50 + 9 * torch.randn(num_rows, num_continuous, generator=generator))


def test_continuous_columns_go_through_a_batch_norm_that_learns():
    backbone = TableBackbone([4, 4], [2, 2], 3, layers=(8,), dropout=(0.0,))
    seen = []
    backbone.layers.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for _ in range(60):
        backbone(batch())

    assert seen[0].shape == (64, 7)
    torch.testing.assert_close(seen[0][:, 4:].mean(dim=0), torch.zeros(3), atol=1e-4, rtol=0)
    assert (backbone.norm.running_mean > 45).all()
    backbone.eval()
    backbone(batch())
    assert float(seen[-1][:, 4:].abs().mean()) < 2


def test_the_layers_are_those_of_the_course():
    backbone = TableBackbone([4, 4], [2, 3], 3, (10, 6), (0.1, 0.2), embedding_dropout=0.3)
    kinds = [[type(part) for part in layer] for layer in backbone.layers]

    assert kinds == [[nn.Linear, nn.ReLU, nn.BatchNorm1d, nn.Dropout]] * 2
    assert [(layer[0].in_features, layer[0].out_features) for layer in backbone.layers] == [
        (8, 10),
        (10, 6),
    ]
    assert [layer[3].p for layer in backbone.layers] == [0.1, 0.2]
    assert backbone.embeddings.dropout.p == 0.3
    assert backbone.num_features == 6


@pytest.mark.parametrize(
    ("cardinalities", "num_continuous", "layers", "width"),
    [
        pytest.param([], 3, (5,), 5, id="continuous-alone"),
        pytest.param([4, 4], 0, (5,), 5, id="categories-alone"),
        pytest.param([4, 4], 3, (), 7, id="no-hidden-layer"),
    ],
)
def test_what_there_is_not_is_left_out(cardinalities, num_continuous, layers, width):
    sizes = [2] * len(cardinalities)
    backbone = TableBackbone(cardinalities, sizes, num_continuous, layers, [0.0] * len(layers))
    rows = batch(num_continuous=num_continuous)
    features = backbone(rows._replace(codes=rows.codes[:, : len(cardinalities)]))

    assert features.shape == (64, width)
    assert backbone.num_features == width
    features.square().mean().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
