"""Merging the many small groups of a network into a few layer groups."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor

from lightning_fastrecipes.protocols import LayerGroup


def merge_groups(
    groups: Sequence[Sequence[str]], parameters: Mapping[str, Tensor], num_groups: int
) -> list[LayerGroup]:
    """Merge consecutive groups of parameters into as many layer groups as asked for.

    The cuts make the groups as equally deep as they can be, depth being the number of tensors with
    two or more axes (one a layer). Where two cuts are equally good, the one with the more equal
    parameter counts wins. Parameter counts alone would leave almost every layer in the first group,
    for the last stage holds most of them: this rule cuts a ResNet where fast.ai does.

    Args:
        groups: Parameter names, one sequence a group, input side first.
        parameters: The parameters by name.
        num_groups: How many groups to make, at least 1 and at most ``len(groups)``.

    Returns:
        The groups, named ``backbone``, or ``early`` and ``late``, or ``backbone_0`` and so on.

    Raises:
        ValueError: If there are fewer groups than asked for.

    Example:
        >>> weights = {name: torch.zeros(2, 2) for name in "abcd"}
        >>> merge_groups([["a"], ["b"], ["c"], ["d"]], weights, num_groups=2)[1]
        LayerGroup(name='late', parameters=('c', 'd'))
    """
    if not 1 <= num_groups <= len(groups):
        raise ValueError(
            f"`num_groups` must be between 1 and the {len(groups)} groups that this backbone"
            f" divides into, got {num_groups}. Ask for fewer groups (a model's head counts as one"
            " more)."
        )
    depths = [sum(parameters[name].ndim >= 2 for name in group) for group in groups]
    sizes = [sum(parameters[name].numel() for name in group) for group in groups]
    cuts = _most_even_cuts(depths, sizes, num_groups)
    merged = [
        tuple(name for group in groups[start:stop] for name in group)
        for start, stop in pairwise(cuts)
    ]
    return [LayerGroup(*item) for item in zip(_group_names(num_groups), merged, strict=True)]


def _most_even_cuts(depths: Sequence[int], sizes: Sequence[int], num_groups: int) -> list[int]:
    """Give the borders that minimise the sum of squared depths, then that of squared sizes."""
    count = len(depths)
    best: dict[int, tuple[tuple[int, int], list[int]]] = {0: ((0, 0), [0])}
    for made in range(1, num_groups + 1):
        longer = {}
        for stop in range(made, count - (num_groups - made) + 1):
            longer[stop] = min(
                (
                    (
                        cost[0] + sum(depths[start:stop]) ** 2,
                        cost[1] + sum(sizes[start:stop]) ** 2,
                    ),
                    [*cuts, stop],
                )
                for start, (cost, cuts) in best.items()
                if start < stop
            )
        best = longer
    return best[count][1]


def _group_names(num_groups: int) -> list[str]:
    if num_groups == 1:
        return ["backbone"]
    if num_groups == 2:
        return ["early", "late"]
    return [f"backbone_{position}" for position in range(num_groups)]
