"""What was decided about data, in sentences that people can agree with or overrule."""

from typing import NamedTuple


class Decision(NamedTuple):
    """One decision: what it is about, and one sentence with the figure that it rests on.

    >>> str(Decision("batch size", "64, for about 25 steps in each of 2,400 rows."))
    'batch size: 64, for about 25 steps in each of 2,400 rows.'
    """

    about: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.about}: {self.sentence}"


def counted(count: int, one: str, more: str | None = None) -> str:
    """Write a number of things.

    >>> counted(1, "row"), counted(2400, "row")
    ('1 row', '2,400 rows')
    """
    return f"{count:,} {one if count == 1 else more or one + 's'}"
