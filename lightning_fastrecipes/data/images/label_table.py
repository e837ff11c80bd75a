"""What the columns of a table of labels mean."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lightning_fastrecipes.data.common.text_files import encoding_name, separator_expression
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.messages import name_some, shown
from lightning_fastrecipes.typed import check_types


@dataclass(frozen=True)
class SingleLabel:
    """One label per image, whatever characters are in it, and numbers, too.

    Args:
        column: Column of class names.
        one_hot: Columns of 0 and 1, one per class, a single 1 in every row; in place of ``column``.

    Raises:
        ConfigurationError: If a value is not of its type, or ``one_hot`` names no column, or one
            twice.
    """

    column: str = "label"
    one_hot: list[str] | None = None

    def __post_init__(self) -> None:
        check_types(self)
        _check_names("one_hot", self)


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
        ValueError: If a value is not of its type, ``separator`` is empty, or comes with
            ``columns``, or these name no column, or one twice.
    """

    column: str = "label"
    separator: str = "auto"
    columns: list[str] | None = None

    def __post_init__(self) -> None:
        check_types(self)
        _check_names("columns", self)
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
        ValueError: If a value is not of its type, ``classes`` has fewer than two different names,
            or other than two for ``probability_column``.
    """

    classes: list[str]
    probability_column: str | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if len(set(self.classes)) != max(len(self.classes), 2):
            raise ValueError(
                f"`classes` must be two or more different names, got {shown(self.classes)}."
            )
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
class Numbers:
    """One or several numbers per image, which an ``ImageRegressor`` learns.

    Every image must have them, and a gap is refused. Means and deviations are those of the training
    images; metrics and predictions are in the units of the column.

    Args:
        columns: Column of numbers, or several. Of arrays, names for the columns of ``y_train``.
        log: Whether the logarithms are learned, of numbers above 0 that differ by factors; or
            the columns of which they are.

    Raises:
        ConfigurationError: If a value is not of its type, there is no column, one is named twice,
            or ``log`` names another.

    Example:
        >>> Numbers(["age", "income"], log=["income"]).is_log.tolist()
        [False, True]
    """

    columns: str | list[str] = "label"
    log: bool | list[str] = False

    def __post_init__(self) -> None:
        check_types(self)
        _check_names("columns", self)
        logs = [] if isinstance(self.log, bool) else self.log
        if unknown := [name for name in logs if name not in self.names]:
            raise ConfigurationError(
                f"`log` of `Numbers` must be true, false, or some of its columns"
                f" {name_some(self.names)}, but names {name_some(unknown)}."
            )

    @property
    def names(self) -> list[str]:
        """Names of the numbers in their order."""
        return [self.columns] if isinstance(self.columns, str) else list(self.columns)

    @property
    def is_log(self) -> npt.NDArray[np.bool_]:
        """Whether the logarithm of each number is learned. Shape ``(columns,)``."""
        logs = self.log
        return np.array([logs if isinstance(logs, bool) else n in logs for n in self.names])

    def for_columns(self, count: int) -> "Numbers":
        """Return these for an array of ``count`` columns, which are numbered if not named."""
        if count == len(self.names):
            return self
        if self.columns != "label":
            raise ConfigurationError(
                f"`columns` of `Numbers` must name each number of an image, {count} in the data,"
                f" but are {name_some(self.names)}."
            )
        return replace(self, columns=[f"label_{number}" for number in range(1, count + 1)])


@dataclass(frozen=True)
class LabelTable:
    """What the columns of a table of labels mean.

    Blanks around values and names of columns are left out. A line says how names of files, lists
    and flags of splits were read, and names a column that may be the split but is not used.

    Where a table has no column ``file``, the one whose values are names of images is read, or that
    is called so, such as ``image``; where it has none ``label``, the one that is called so, such as
    ``tags`` or ``class``, or the only one that is left. The line says which, and several that may
    be meant are refused.

    ============================ ================================================================
    column                       what it may hold
    ============================ ================================================================
    files                        paths below ``folder``, with ``/`` or backslashes; ids without
                                 extension, such as ``train_7``, if one image is called so
    a label                      text, or whole numbers, which come in their order as classes; many
                                 different numbers, as of a regression, are refused
    numbers, asked for           one number in each column of ``Numbers``
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
        labels: Where the labels are: ``SingleLabel``, ``Tags``, ``SoftLabels`` or ``Numbers``. A
            text is the name of their column, and the whole table decides whether an image may have
            several, by the rule of ``label_sets.split_labels``; without such a column, all others
            are taken for labels if they hold nothing but 0 and 1.
        stratify_by: Columns whose mix every drawn split keeps; the label if not given.
        separator: What stands between columns, or a regular expression; found out if not given.
        column_names: Names of the columns, for a file without a first line of names.
        weight: Column of numbers of at least 0: how many times the loss of an image counts in
            training, over the mean of the training images. Validation and test are not weighted,
            and images to predict need none.
        encoding: Of the file, such as ``cp1252``; UTF-8 if not given, or what the mark at the start
            of the file says.
        class_names: Names of classes that are numbers: a list of them, counted from 0, or a file
            relative to that of the table, such as ``classes.csv``, with a number and a name in each
            line, or a name alone.
        suffix: What is behind every file name that does not end so, such as ``.jpg``; if not given,
            names without extension are looked up in the folder.

    Raises:
        ValueError: If a value is not of its type, ``separator`` is no character or expression that
            ``Reading`` takes, ``encoding`` is none of text, or a list of columns is empty or names
            one twice.

    Example:
        >>> LabelTable(labels=Tags(separator=" ")).labels
        Tags(column='label', separator=' ', columns=None)
    """

    folder: str | None = None
    file_column: str = "file"
    labels: SingleLabel | Tags | SoftLabels | Numbers | str = "label"
    stratify_by: list[str] | None = None
    separator: str | None = None
    column_names: list[str] | None = None
    suffix: str | None = None
    weight: str | None = None
    encoding: str | None = None
    class_names: str | Path | list[str] | None = None

    def __post_init__(self) -> None:
        check_types(self)
        _check_names("stratify_by", self)
        _check_names("column_names", self)
        if self.separator is not None:
            separator_expression(self.separator)
        if self.encoding is not None:
            encoding_name(self.encoding)


def _check_names(option: str, owner: object) -> None:
    """Raise a `ConfigurationError` if an option names no column, or one twice."""
    names = getattr(owner, option)
    if isinstance(names, list) and len(set(names)) != max(len(names), 1):
        raise ConfigurationError(
            f"`{option}` of `{type(owner).__name__}` must be one or more different names, got"
            f" {shown(names)}."
        )
