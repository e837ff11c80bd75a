"""The vectors of categories as a table that people and other programs can read."""

from collections.abc import Mapping

import pandas as pd
from torch import Tensor

from lightning_fastrecipes.functional.tables.spec import TableSpec


def embedding_table(spec: TableSpec, weights: Mapping[str, Tensor]) -> pd.DataFrame:
    """List the vector of every category of every column.

    ``weights`` are vectors ``(cardinality, size)`` by column, as ``embedding_weights`` of a task
    returns them. There is one row for each index: ``column``, ``value`` as text, ``(unknown)`` for
    index 0 and ``(rare)`` for that of rare values, then ``e0``, ``e1`` and so on; columns of
    narrower vectors are missing where there are wider ones. Raise `ValueError` if the vectors are
    not those of the spec's columns.

    >>> table = pd.DataFrame({"shop": ["a", "b"], "sales": [1.0, 2.0]})
    >>> spec = TableSpec.fit(table, target="sales", categorical=["shop"], continuous=[])
    >>> import torch
    >>> embedding_table(spec, {"shop": torch.eye(3)[:, :2]})
      column      value   e0   e1
    0   shop  (unknown)  1.0  0.0
    1   shop          a  0.0  1.0
    2   shop          b  0.0  0.0
    """
    found = {name: len(vectors) for name, vectors in weights.items()}
    wanted = dict(zip(spec.categorical, spec.cardinalities, strict=True))
    if found != wanted:
        raise ValueError(
            "`weights` must hold one vector for each index of each categorical column, that is"
            f" {wanted}, got {found}. Give those of the model with this spec."
        )
    parts = []
    for column in spec.category_columns:
        vectors = weights[column.name].detach().cpu().float().numpy()
        part = pd.DataFrame(vectors, columns=[f"e{place}" for place in range(vectors.shape[1])])
        part.insert(0, "column", column.name)
        part.insert(1, "value", column.labels)
        parts.append(part)
    if not parts:
        return pd.DataFrame({"column": [], "value": []}, dtype=object)
    # The widest one says the order of the columns.
    table = pd.concat(parts, ignore_index=True)
    widest = max(parts, key=lambda part: part.shape[1])
    return table[widest.columns.tolist()]
