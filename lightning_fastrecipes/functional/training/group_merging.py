"""Dividing a network into small groups, and merging those into a few layer groups."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor

from lightning_fastrecipes.protocols import LayerGroup


def merge_groups(
    groups: Sequence[Sequence[str]], parameters: Mapping[str, Tensor], num_groups: int
) -> list[LayerGroup]:
    """Merge consecutive groups of parameter names into as many layer groups as asked for.

    The cuts make the groups as equally deep as they can be, depth being the number of tensors with
    two or more axes (one per layer). Of two equally good cuts, the one with the more equal
    parameter counts wins. Parameter counts alone would leave almost every layer in the first group,
    since the last stage holds most of them; this rule cuts a ResNet where fast.ai does. The result
    is named ``backbone``, or ``early`` and ``late``, or ``backbone_0`` and so on. Raises ValueError
    if there are fewer groups than asked for.

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
    names = {1: ["backbone"], 2: ["early", "late"]}.get(num_groups)
    return [
        LayerGroup(
            names[position] if names else f"backbone_{position}",
            tuple(name for group in groups[start:stop] for name in group),
        )
        for position, (start, stop) in enumerate(pairwise(cuts))
    ]


def groups_by_prefix(parameters: Mapping[str, Tensor], at_least: int) -> list[list[str]]:
    """Divide parameters, in the order of ``named_parameters``, by the module they are in.

    The direct children of the network come first. While there are fewer than ``at_least`` groups,
    the largest is replaced by its own children, as long as there are any; the parameters of its own
    go with its first child.

    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    >>> groups_by_prefix(dict(net.named_parameters()), at_least=2)
    [['0.weight', '0.bias'], ['1.weight', '1.bias']]
    """
    groups = _opened(list(parameters), depth=0)
    depths = [1] * len(groups)
    while len(groups) < at_least:
        parts = [_opened(group, depth) for group, depth in zip(groups, depths, strict=True)]
        sizes = [sum(parameters[name].numel() for name in group) for group in groups]
        deepest = max(name.count(".") for group in groups for name in group)
        openable = [i for i, depth in enumerate(depths) if depth <= deepest]
        if not openable:
            break
        largest = max(openable, key=lambda i: (len(parts[i]) > 1, sizes[i]))
        depths[largest : largest + 1] = [depths[largest] + 1] * len(parts[largest])
        groups[largest : largest + 1] = parts[largest]
    return groups


def _opened(names: Sequence[str], depth: int) -> list[list[str]]:
    """Divide names by their component at a depth; names that end there go with the next."""
    children: dict[str, list[str]] = {}
    loose: list[str] = []
    for name in names:
        path = name.split(".")
        if len(path) <= depth + 1:
            loose.append(name)
        else:
            children.setdefault(".".join(path[: depth + 1]), []).append(name)
    parts = list(children.values()) or [[]]
    parts[0] = [*loose, *parts[0]]
    return [part for part in parts if part]


def _most_even_cuts(depths: Sequence[int], sizes: Sequence[int], num_groups: int) -> list[int]:
    """Return the borders that minimise the sum of squared depths, then that of squared sizes."""
    count = len(depths)
    best: dict[int, tuple[tuple[int, int], list[int]]] = {0: ((0, 0), [0])}
    for made in range(1, num_groups + 1):
        longer = {}
        for stop in range(made, count - (num_groups - made) + 1):
            longer[stop] = min(
                (
                    (cost[0] + sum(depths[start:stop]) ** 2, cost[1] + sum(sizes[start:stop]) ** 2),
                    [*cuts, stop],
                )
                for start, (cost, cuts) in best.items()
                if start < stop
            )
        best = longer
    return best[count][1]
