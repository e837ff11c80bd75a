"""Image sizes and batch sizes that change from epoch to epoch."""

from collections.abc import Mapping


def check_milestones(name: str, steps: Mapping[int, int]) -> dict[int, int]:
    """Check a mapping from epochs to the values that hold from there on.

    Args:
        name: Name of the argument, for messages.
        steps: Epoch from 0 to value; 0 must be among the epochs.

    Returns:
        The mapping, sorted by epoch.

    Raises:
        ValueError: If there is no value for epoch 0, an epoch is negative, or a value is below 1.
        TypeError: If it is not a mapping from whole numbers to whole numbers.

    Example:
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
    """Return the value that holds in an epoch.

    Args:
        steps: As :func:`check_milestones` returns it.
        epoch: Epoch from 0.

    Returns:
        The value of the last entry up to the epoch.

    Example:
        >>> [milestone_value({0: 128, 3: 160, 5: 224}, epoch) for epoch in range(7)]
        [128, 128, 128, 160, 160, 224, 224]
    """
    return steps[max(start for start in steps if start <= epoch)]


def nearest_multiple(size: int, multiple: int) -> int:
    """Round a size to the nearest multiple above 0; half-way sizes are rounded up.

    Args:
        size: At least 1.
        multiple: At least 1.

    Returns:
        The nearest multiple, at least ``multiple``.

    Example:
        >>> nearest_multiple(128, 14), nearest_multiple(7, 14), nearest_multiple(3, 14)
        (126, 14, 14)
    """
    return max(1, (2 * size + multiple) // (2 * multiple)) * multiple
