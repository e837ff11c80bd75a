"""A network for tables: a vector for each category, beside the continuous columns."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lightning_fastrecipes.batches import TableInputs
from lightning_fastrecipes.nn.input_types import as_floats

_NUMBERS = "Continuous columns must be scaled floats, as `TableSpec.encode` makes them"


class EntityEmbeddings(nn.Module):
    """Turn the category indices of a row into one vector: a learned piece for each column.

    ``cardinalities`` are the numbers of indices of the columns, ``sizes`` the widths of their
    pieces. Dropout is on the vector.

    >>> embeddings = EntityEmbeddings([3, 8], sizes=[2, 4])
    >>> embeddings(torch.tensor([[2, 7], [0, 0]])).shape
    torch.Size([2, 6])

    One table for each column is as fast on a CPU as one table for all (1.2 ms a step of 512 rows
    and 22 columns, backward pass and optimizer included; 1.6 to 2.2 ms for three ways with fewer
    tables), and each is a matrix that people can read.
    """

    def __init__(
        self, cardinalities: Sequence[int], sizes: Sequence[int], dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.tables = nn.ModuleList()
        for cardinality, size in zip(cardinalities, sizes, strict=True):
            table = nn.Embedding(cardinality, size)
            # As the course does: the wider, the smaller.
            nn.init.uniform_(table.weight, -2 / (size + 1), 2 / (size + 1))
            self.tables.append(table)
        self.dropout = nn.Dropout(dropout)
        self.num_features = sum(sizes)

    def forward(self, codes: Tensor) -> Tensor:
        """Look up and join the pieces of integer codes ``(batch, num_categorical)``."""
        columns = codes.t().long().contiguous()
        pieces = [table(column) for table, column in zip(self.tables, columns, strict=True)]
        vectors: Tensor = self.dropout(torch.cat(pieces, dim=1))
        return vectors


class TableBackbone(nn.Module):
    """Embeddings and normalised continuous columns, then hidden layers.

    Each layer is linear, ReLU, batch norm and dropout, as in the course (2018, lesson 3,
    ``MixedInputModel``). ``cardinalities`` are the numbers of indices of the categorical columns,
    ``sizes`` the widths of their vectors; ``num_continuous`` counts the flags, too. There is a
    dropout for each of the hidden ``layers``.

    >>> backbone = TableBackbone([3], [2], 4, layers=(8, 5), dropout=(0.1, 0.2))
    >>> backbone(TableInputs(torch.tensor([[1], [2]]), torch.zeros(2, 4))).shape
    torch.Size([2, 5])

    In fast.ai 0.7 the batch norm of the continuous columns was in no layer group and never trained;
    here it is one like any other.
    """

    def __init__(
        self,
        cardinalities: Sequence[int],
        sizes: Sequence[int],
        num_continuous: int,
        layers: Sequence[int],
        dropout: Sequence[float],
        embedding_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embeddings = EntityEmbeddings(cardinalities, sizes, embedding_dropout)
        self.norm = nn.BatchNorm1d(num_continuous) if num_continuous else None
        widths = [self.embeddings.num_features + num_continuous, *layers]
        self.layers = nn.Sequential(
            *(
                _hidden_layer(num_inputs, num_outputs, share)
                for (num_inputs, num_outputs), share in zip(pairwise(widths), dropout, strict=True)
            )
        )
        self.num_features = widths[-1]

    def empty_rows(self, count: int) -> TableInputs:
        """Return rows whose categories are unknown and whose numbers are 0, the means."""
        width = 0 if self.norm is None else self.norm.num_features
        codes = torch.zeros(count, len(self.embeddings.tables), dtype=torch.long)
        return TableInputs(codes, torch.zeros(count, width))

    def forward(self, inputs: TableInputs) -> Tensor:
        """Compute features of a batch of rows. Shape ``(batch, num_features)``."""
        parts = [self.embeddings(inputs.codes)] if self.embeddings.num_features else []
        if self.norm is not None:
            numbers = as_floats(self, inputs.continuous, self.norm.weight.dtype, _NUMBERS)
            parts.append(self.norm(numbers))
        features: Tensor = self.layers(torch.cat(parts, dim=1))
        return features


def _hidden_layer(num_inputs: int, num_outputs: int, dropout: float) -> nn.Sequential:
    linear = nn.Linear(num_inputs, num_outputs)
    nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
    nn.init.zeros_(linear.bias)
    return nn.Sequential(
        linear, nn.ReLU(inplace=True), nn.BatchNorm1d(num_outputs), nn.Dropout(dropout)
    )
