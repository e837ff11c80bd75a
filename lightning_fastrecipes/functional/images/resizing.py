"""Image sizes and batch sizes that change from epoch to epoch."""

from collections.abc import Mapping


def check_milestones(name: str, steps: Mapping[int, int]) -> dict[int, int]:
    """Check and sort a mapping from epochs, 0 among them, to the values that hold from there on.

    ``name`` is that of the argument, for messages. Raise `ValueError` if there is no value for
    epoch 0, an epoch is negative or a value is below 1, and `TypeError` if it is no mapping of
    whole numbers.

    >>> check_milestones("sizes", {3: 160, 0: 128})
    {0: 128, 3: 160}
    """
    if not isinstance(steps, Mapping):
        raise TypeError(
            f"`{name}` must be a mapping of epochs to values such as {{0: 128, 3: 160}}, got"
            f" {steps!r}. Write from which epoch on each value holds."
        )
    for epoch, value in steps.items():
        for number in (epoch, value):
            if isinstance(number, bool) or not isinstance(number, int):
                raise TypeError(
                    f"`{name}` must map whole epochs to whole numbers, got {epoch!r}: {value!r}."
                    " Write it as {0: 128, 3: 160}."
                )
        if epoch < 0 or value < 1:
            raise ValueError(
                f"`{name}` must map epochs from 0 to values of at least 1, got {epoch}: {value}."
            )
    if 0 not in steps:
        raise ValueError(
            f"`{name}` must say what holds from epoch 0 on, but its epochs are {sorted(steps)}."
            " Add an entry for 0."
        )
    return dict(sorted(steps.items()))


def milestone_value(steps: Mapping[int, int], epoch: int) -> int:
    """Return the value of the last milestone up to an epoch.

    >>> [milestone_value({0: 128, 3: 160, 5: 224}, epoch) for epoch in range(7)]
    [128, 128, 128, 160, 160, 224, 224]
    """
    return steps[max(start for start in steps if start <= epoch)]


def nearest_multiple(size: int, multiple: int) -> int:
    """Round a size to the nearest multiple above 0; half-way sizes are rounded up.

    >>> nearest_multiple(128, 14), nearest_multiple(7, 14), nearest_multiple(3, 14)
    (126, 14, 14)
    """
    return max(1, (2 * size + multiple) // (2 * multiple)) * multiple
