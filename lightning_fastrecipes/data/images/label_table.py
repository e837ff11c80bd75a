"""What the columns of a table of labels mean."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SingleLabel:
    """One label per image, whatever characters are in it, and numbers, too.

    Args:
        column: Column of class names.
        one_hot: Columns of 0 and 1, one per class, a single 1 in every row; in place of ``column``.
    """

    column: str = "label"
    one_hot: list[str] | None = None


@dataclass(frozen=True)
class Tags:
    """Any number of labels per image, or none.

    Args:
        column: Column of labels, several in one value, or one in each of several rows of an image.
            Lists are read as such, also as text: ``['a', 'b']``, ``["a", "b"]``.
        separator: What stands between them, such as a space or a comma; ``auto`` finds it.
        columns: Columns of 0 and 1, one per label; in place of ``column``. Empty cells and -1 are
            unknown: loss, metrics, thresholds, weights and reports leave them out, and an image
            without any known label is in no split.

    Raises:
        ValueError: If ``separator`` is empty, or comes with ``columns``.
    """

    column: str = "label"
    separator: str = "auto"
    columns: list[str] | None = None

    def __post_init__(self) -> None:
        if self.separator == "":
            raise ValueError("`separator` must not be empty. For spaces give ' '.")
        if self.columns is not None and self.separator != "auto":
            raise ValueError("`columns` and `separator` contradict one another. Give one.")


@dataclass(frozen=True)
class SoftLabels:
    """A probability for each class.

    Args:
        classes: Two or more class names: those of the columns of probabilities, or the negative
            and the positive class for ``probability_column``.
        probability_column: Column with the probability of the second class, in [0, 1].

    Raises:
        ValueError: If ``classes`` has fewer than two different names, or other than two for
            ``probability_column``.
    """

    classes: list[str]
    probability_column: str | None = None

    def __post_init__(self) -> None:
        if len(set(self.classes)) != max(len(self.classes), 2):
            raise ValueError(f"`classes` must be two or more different names, got {self.classes}.")
        if self.probability_column is not None and len(self.classes) != 2:
            raise ValueError(
                "`classes` must name two classes, negative and positive, for"
                f" `probability_column`, got {self.classes}. Name them in this order."
            )

    @property
    def columns(self) -> list[str]:
        """Columns of probabilities."""
        return self.classes if self.probability_column is None else [self.probability_column]


@dataclass(frozen=True)
class LabelTable:
    """What the columns of a table of labels mean.

    Blanks around values and names of columns are left out. A line says how names of files, lists
    and flags of splits were read, and names a column that may be the split but is not used.

    ============================ ================================================================
    column                       what it may hold
    ============================ ================================================================
    files                        paths below ``folder``, with ``/`` or backslashes; ids without
                                 extension, such as ``train_7``, if one image is called so
    a label                      text or whole numbers; many different numbers, as of a regression,
                                 are refused
    several labels               ``sun sea``, ``sun, sea``, ``sun;sea``, ``sun|sea``, lists, their
                                 text in Python, JSON, NumPy or PostgreSQL, or one row per image and
                                 label
    a label each                 0 and 1, or booleans; in columns that ``Tags`` names, nothing or -1
                                 where a label is unknown
    probabilities                numbers from 0 to 1 that sum to 1 in a row, one of which may be
                                 unknown
    split, named by ``split``    ``train``, ``Validation``, ``dev``, ``test_set`` and so on, or 0
                                 and 1, where the name says what 1 means: ``is_valid``, ``is_test``
    ============================ ================================================================

    Args:
        folder: What file names are relative to; the table's own folder if not given. Also
            ``package:NAME/inner/path``.
        file_column: Column of file names, with ``/`` or backslashes, with or without extension.
        labels: Where the labels are: ``SingleLabel``, ``Tags`` or ``SoftLabels``. A text is the
            name of their column, and the whole table decides whether an image may have several, by
            the rule of ``label_sets.split_labels``; without such a column, all others are taken
            for labels if they hold nothing but 0 and 1.
        stratify_by: Columns whose mix every drawn split keeps; the label if not given.
        separator: What stands between columns, or a regular expression; found out if not given.
        column_names: Names of the columns, for a file without a first line of names.
        suffix: What is behind every file name that does not end so, such as ``.jpg``; if not given,
            names without extension are looked up in the folder.

    Example:
        >>> LabelTable(labels=Tags(separator=" ")).labels
        Tags(column='label', separator=' ', columns=None)
    """

    folder: str | None = None
    file_column: str = "file"
    labels: SingleLabel | Tags | SoftLabels | str = "label"
    stratify_by: list[str] | None = None
    separator: str | None = None
    column_names: list[str] | None = None
    suffix: str | None = None
