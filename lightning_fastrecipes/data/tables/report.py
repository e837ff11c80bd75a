"""What was found while a table was prepared, for people."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lightning_fastrecipes.functional.tables.spec import EncodedTable
from lightning_fastrecipes.messages import name_some, shown

_SHOWN = 4


@dataclass
class TableReport:
    """What was found while a table was prepared, as plain values.

    ``steps`` is what the steps that prepared it say, such as unmatched keys of a join. By split,
    ``num_rows`` counts rows, and by split and column ``unknown`` counts values that training had
    not, ``filled`` gaps and ``far`` numbers far from those of the training; ``spelled`` has those
    of the unknown ones that ``suspects.spelled_otherwise`` finds. ``constant`` are continuous
    columns with one value in all training rows. ``suspicions`` are sentences on columns of the
    training rows that are probably not meant as they are.
    """

    steps: list[str] = field(default_factory=list)
    num_rows: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, dict[str, int]] = field(default_factory=dict)
    filled: dict[str, dict[str, int]] = field(default_factory=dict)
    constant: list[str] = field(default_factory=list)
    far: dict[str, dict[str, int]] = field(default_factory=dict)
    suspicions: list[str] = field(default_factory=list)
    spelled: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)

    def add(self, split: str, encoded: EncodedTable, spelled: Mapping[str, dict[str, str]]) -> None:
        """Count what one chunk of a split had."""
        for counts, found in (
            (self.unknown, encoded.unknown),
            (self.filled, encoded.filled),
            (self.far, encoded.far),
        ):
            split_counts = counts.setdefault(split, {})
            for name, count in found.items():
                split_counts[name] = split_counts.get(name, 0) + count
        of_split = self.spelled.setdefault(split, {})
        for name, pairs in spelled.items():
            of_split[name] = of_split.get(name, {}) | pairs

    def include(self, other: "TableReport") -> None:
        """Add what was found in other rows, in place of what was known of splits of their names."""
        self.steps = [*self.steps, *(line for line in other.steps if line not in self.steps)]
        self.num_rows |= other.num_rows
        self.unknown |= other.unknown
        self.filled |= other.filled
        self.far |= other.far
        self.spelled |= other.spelled

    @property
    def has_findings(self) -> bool:
        """Whether values are unknown, missing or far from those of the training."""
        return any((*self.unknown.values(), *self.filled.values(), *self.far.values()))

    @property
    def warnings(self) -> list[str]:
        """What is probably not meant as it is, a sentence each."""
        if not self.constant:
            return self.suspicions
        constant = (
            f"The continuous columns {name_some(self.constant)} have one value in all training rows"
            " and carry no information. Drop them from `continuous`."
        )
        return [constant, *self.suspicions]

    def __str__(self) -> str:
        """Return one line for the steps and one for each split."""
        lines = list(self.steps)
        for split, num_rows in self.num_rows.items():
            parts = [f"{num_rows:,} rows"]
            for what, counts in (
                ("values unknown to training", self.unknown),
                ("gaps filled", self.filled),
                ("numbers far from those of the training", self.far),
            ):
                if counts.get(split):
                    named = ", ".join(f"'{name}' {n:,}" for name, n in counts[split].items())
                    parts.append(f"{what}: {named}")
            parts += [
                f"of '{name}' {_pairs_in_words(pairs)} by spelling alone"
                for name, pairs in self.spelled.get(split, {}).items()
            ]
            lines.append(f"{split}: {'; '.join(parts)}")
        return "\n".join(lines)


def _pairs_in_words(pairs: Mapping[str, str]) -> str:
    """Return which unknown values differ from which known ones, the first of many."""
    named = [f"{shown(new)} differs from {shown(known)}" for new, known in pairs.items()]
    more = f", and {len(named) - _SHOWN:,} others" if len(named) > _SHOWN else ""
    return f"{', '.join(named[:_SHOWN])}{more}"
