"""Features of many rows on a flat map, on which like lies near like."""

from typing import cast

import numpy as np
import numpy.typing as npt

_MOST_NEIGHBOURS = 30.0
_NUM_COMPONENTS = 30


def flat_map(features: npt.NDArray[np.float32], seed: int = 0) -> npt.NDArray[np.float64]:
    """Place rows of features on a map, in [0, 1] both ways. Shape ``(rows, 2)``.

    Rows that are near one another in all their features are near one another on the map; the
    distances of far ones mean little. t-SNE from the principal components (van der Maaten and
    Hinton, 2008); of fewer than eight rows the components alone.

    >>> flat_map(np.eye(4, 8, dtype=np.float32)).shape
    (4, 2)
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    num_rows, width = features.shape
    if num_rows < 3:
        return np.full((num_rows, 2), 0.5)
    # Not of the features' own scale, which differs between backbones by orders of magnitude.
    values = (features - features.mean(axis=0)) / max(float(features.std()), 1e-12)
    found = PCA(min(_NUM_COMPONENTS, num_rows, width), random_state=seed).fit_transform(values)
    if found.shape[1] == 1:
        found = np.column_stack([found, np.zeros(num_rows)])
    if num_rows >= 8 and float(found.std()) > 0:
        perplexity = min(_MOST_NEIGHBOURS, (num_rows - 1) / 3)
        start = found[:, :2] / max(float(found[:, 0].std()), 1e-12) * 1e-4
        found = (
            TSNE(2, perplexity=perplexity, init=start, random_state=seed, max_iter=500)
            .fit(found)
            .embedding_
        )
    flat = found[:, :2] - found[:, :2].min(axis=0)
    scaled = flat / np.maximum(flat.max(axis=0), 1e-12)
    return cast(npt.NDArray[np.float64], np.asarray(scaled, dtype=np.float64))
