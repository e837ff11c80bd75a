"""Every category's vector is in the table, beside its value."""

import numpy as np
import pandas as pd
import pytest
import torch

from lightning_fastrecipes.functional.tables.embeddings import embedding_table
from lightning_fastrecipes.functional.tables.spec import TableSpec

TABLE = pd.DataFrame({"shop": list("aabbc"), "day": [1, 2, 3, 3, 1], "y": 0.0})


def spec_of(**options):
    return TableSpec.fit(TABLE, target="y", categorical=["day", "shop"], continuous=[], **options)


def test_each_row_is_the_vector_of_the_index_that_the_value_is_encoded_to():
    spec = spec_of()
    weights = {
        name: torch.randn(cardinality, size)
        for name, cardinality, size in zip(
            spec.categorical, spec.cardinalities, [2, 3], strict=True
        )
    }
    found = embedding_table(spec, weights)

    assert found.columns.tolist() == ["column", "value", "e0", "e1", "e2"]
    assert found["value"].tolist() == ["(unknown)", "1", "2", "3", "(unknown)", "a", "b", "c"]
    for place, name in enumerate(spec.categorical):
        codes = spec.encode(TABLE).codes[:, place]
        for value, code in zip(TABLE[name], codes, strict=True):
            row = found[(found["column"] == name) & (found["value"] == str(value))]
            vector = row.filter(like="e").drop(columns=["value"]).to_numpy(float)[0]
            width = weights[name].shape[1]
            np.testing.assert_array_equal(vector[:width], weights[name][code].numpy())
            assert np.isnan(vector[width:]).all()


def test_it_survives_a_csv(tmp_path):
    spec = spec_of(min_count=2)
    weights = {"day": torch.randn(4, 2), "shop": torch.randn(4, 2)}
    found = embedding_table(spec, weights)
    found.to_csv(tmp_path / "embeddings.csv", index=False)
    again = pd.read_csv(tmp_path / "embeddings.csv")

    assert "(rare)" in found["value"].tolist()
    np.testing.assert_allclose(again[["e0", "e1"]], found[["e0", "e1"]], rtol=1e-6)
    assert again["value"].tolist() == found["value"].tolist()


def test_vectors_of_another_spec_are_refused():
    message = r"that is \{'day': 4, 'shop': 4\}, got \{'day': 3, 'shop': 4\}"
    with pytest.raises(ValueError, match=message):
        embedding_table(spec_of(), {"day": torch.zeros(3, 2), "shop": torch.zeros(4, 2)})


def test_a_table_without_categories_has_no_vectors():
    spec = TableSpec.fit(TABLE, target="y", categorical=[], continuous=["day"])
    assert embedding_table(spec, {}).columns.tolist() == ["column", "value"]
