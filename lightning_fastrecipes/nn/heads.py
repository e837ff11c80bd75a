"""Heads: the layers from a backbone's pooled features to logits."""

from typing import Literal

from torch import nn

Layout = Literal["course", "linear"]
"""``course``: two layers with batch norm and dropout; ``linear``: one layer."""

_LAST_STD = 0.01


def create_head(
    layout: Layout, num_features: int, num_classes: int, *, hidden: int = 512, dropout: float = 0.5
) -> nn.Module:
    """Build the head of a layout, from ``(batch, num_features)`` to ``(batch, num_classes)``.

    ``hidden`` is the width of the hidden layer of ``course``, ``dropout`` the probability before
    the last layer, in [0, 1). Raises ValueError if there is no such layout, or a number is out of
    range.

    >>> create_head("linear", 8, 2)(torch.zeros(4, 8)).shape
    torch.Size([4, 2])
    """
    if layout == "course":
        return concat_pool_head(num_features, num_classes, hidden=hidden, dropout=dropout)
    if layout == "linear":
        return linear_head(num_features, num_classes, dropout=dropout)
    raise ValueError(f"`layout` of a head must be 'course' or 'linear', got {layout!r}.")


def concat_pool_head(
    num_features: int, num_classes: int, hidden: int = 512, dropout: float = 0.5
) -> nn.Module:
    """Build the course's head: batch norm, dropout and a linear layer, twice, with a ReLU between.

    The first dropout is half as strong as the second. Weights start from He's normal distribution,
    those of the last layer small, so that training starts from even probabilities; biases start
    from 0. The concatenated average and maximum that it is named after are computed by the
    backbone, so that precomputed features are small. Arguments are those of :func:`create_head`.

    >>> head = concat_pool_head(8, 2)
    >>> [type(layer).__name__ for layer in head[:4]]
    ['BatchNorm1d', 'Dropout', 'Linear', 'ReLU']

    fast.ai 0.7 (``ConvnetBuilder``) ends the head with a log-softmax; this one returns logits. All
    linear layers have a bias, as in 0.7; fastai 2 leaves it out. 0.7 starts the last layer from
    He's distribution too; on frozen features of the recipe ``solar_cells`` the test loss was then
    0.41 to 0.43 instead of 0.36 to 0.37 (two seeds). He et al., *Delving Deep into Rectifiers*
    (2015).
    """
    _check(num_features=num_features, num_classes=num_classes, hidden=hidden)
    _check_dropout(dropout)
    first, last = nn.Linear(num_features, hidden), nn.Linear(hidden, num_classes)
    nn.init.kaiming_normal_(first.weight)
    nn.init.normal_(last.weight, std=_LAST_STD)
    for layer in (first, last):
        nn.init.zeros_(layer.bias)
    return nn.Sequential(
        nn.BatchNorm1d(num_features),
        nn.Dropout(dropout / 2),
        first,
        nn.ReLU(),
        nn.BatchNorm1d(hidden),
        nn.Dropout(dropout),
        last,
    )


def linear_head(num_features: int, num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build one linear layer, after dropout; arguments are those of :func:`create_head`."""
    _check(num_features=num_features, num_classes=num_classes)
    _check_dropout(dropout)
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(num_features, num_classes))


def _check(**widths: int) -> None:
    for argument, width in widths.items():
        if width < 1:
            raise ValueError(f"`{argument}` must be at least 1, got {width}.")


def _check_dropout(dropout: float) -> None:
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be in [0, 1), got {dropout}. Use 0 for none.")
