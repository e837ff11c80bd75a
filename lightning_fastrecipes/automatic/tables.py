"""Write a recipe for a table of rows: look at its columns, and decide."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lightning_fastrecipes.automatic.draft import Draft
from lightning_fastrecipes.data.common.split_names import may_be_split
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.decisions import Decision, counted
from lightning_fastrecipes.functional.splits import share_to_validate
from lightning_fastrecipes.functional.tables.date_parsing import parse_dates
from lightning_fastrecipes.functional.tables.inputs import is_in_memory
from lightning_fastrecipes.functional.tables.roles import ColumnRole, find_roles, joint_leak
from lightning_fastrecipes.functional.tables.sizing import TableSizes, table_sizes
from lightning_fastrecipes.functional.tables.target_choice import (
    TargetChoice,
    choose_task,
    guess_target,
)
from lightning_fastrecipes.messages import name_some

_LEAST_ROWS = 20
_YEAR_OF_DAYS = 330
_BIRTH = ("birth", "dob", "born")


def draft_table(frame: pd.DataFrame, source: Any, target: str | None = None) -> Draft:
    """Look at a table that was read from ``source``, and write a recipe that trains on it.

    Raise `DataError` if it has too few rows or columns, or no such target.
    """
    frame = frame.rename(columns=str)
    if len(frame) < _LEAST_ROWS or frame.shape[1] < 2:
        raise DataError(
            f"A table must have {_LEAST_ROWS} rows and two columns at least to be learned, but has"
            f" {len(frame)} rows and {frame.shape[1]} columns. Bring more."
        )
    said = [_size(frame, source)]
    splits = [str(name) for name in frame if may_be_split(frame[name])]
    if target is None:
        target, why = guess_target(frame.drop(columns=splits))
        said.append(Decision("target", f"'{target}', {why}; `--target` names another."))
    roles = find_roles(frame, target, splits[:1])
    choice = choose_task(frame[target])
    said += _of_target(frame[target], choice)
    said += _of_columns(roles)
    steps, categorical, continuous, dates = _of_dates(frame, roles)
    categorical = [role.name for role in roles if role.role == "category"] + categorical
    continuous = [role.name for role in roles if role.role == "number"] + continuous
    if not categorical and not continuous:
        raise DataError(
            f"No column of the table says anything about '{target}':"
            f" {'; '.join(f'{role.name} {role.reason}' for role in roles[:10])}. Name another"
            " `target`, or write a recipe by hand."
        )
    groups = [role.name for role in roles if role.role == "group"]
    if choice.task == "regression":
        said += _of_leak(frame, target, [role.name for role in roles if role.role == "number"])
    num_rows = int(frame[target].notna().sum())
    split, why_split, num_train = _split(num_rows, target, choice, splits, dates, groups, frame)
    sizes = table_sizes(num_train)
    said += [*_of_steps(steps), Decision("split", why_split), *_of_sizes(sizes, num_train)]
    columns: dict[str, Any] = {
        "target": target, "categorical": categorical, "continuous": continuous,
        "task": choice.task,
    }  # fmt: skip
    if choice.log:
        columns["log_target"] = True
    data: dict[str, Any] = {"source": source, "columns": columns}
    if steps:
        data["steps"] = steps
    if num_rows < len(frame):
        data["where"] = f"`{target}` == `{target}`"
    data |= {"split": split, "batch_size": sizes.batch_size}
    return Draft(_document(target, choice, data, sizes), said, choice.has_other_scale)


def _document(
    target: str, choice: TargetChoice, data: dict[str, Any], sizes: TableSizes
) -> dict[str, Any]:
    kind = "Regressor" if choice.task == "regression" else "Classifier"
    network = {"layers": list(sizes.layers), "dropout": sizes.dropout}
    schedule = {"cycle_len": sizes.cycle_len, "cycle_mult": 2}
    return {
        "description": f"{target}, predicted from the other columns of its table.",
        "seed": 0,
        "data": {"class_path": "lightning_fastrecipes.TabularDataModule", "init_args": data},
        "model": {
            "class_path": f"lightning_fastrecipes.Tabular{kind}",
            "init_args": {"network": network, "optim": {"weight_decay": sizes.weight_decay}},
        },
        "stages": {
            "all": {
                "max_epochs": sizes.max_epochs,
                "lr": sizes.lr,
                "until_overfitting": 1,
                "callbacks": [{"class_path": "lightning_fastrecipes.SGDR", "init_args": schedule}],
            }
        },
    }


def _size(frame: pd.DataFrame, source: Any) -> Decision:
    what = "a table in memory" if is_in_memory(source) else "a table"
    try:
        repeated = int(frame.duplicated().sum())
    except TypeError:  # of lists and the like
        repeated = 0
    more = f"; {counted(repeated, 'row repeats', 'rows repeat')} another" if repeated else ""
    return Decision(
        "data", f"{what} of {counted(len(frame), 'row')} and {frame.shape[1]:,} columns{more}."
    )


def _of_target(target: "pd.Series[Any]", choice: TargetChoice) -> list[Decision]:
    said = [Decision("task", f"{choice.task} of '{target.name}', since it has {choice.reason}.")]
    missing = int(target.isna().sum())
    if missing:
        said.append(
            Decision("rows", f"{missing:,} without '{target.name}' are left out by `where`.")
        )
    if choice.task == "regression":
        said.append(Decision("scale", f"'{target.name}' is learned {choice.log_reason}."))
        return said
    num_rows = len(target) - missing
    share = choice.rarest / num_rows
    sentence = f"{choice.num_classes}, the rarest in {choice.rarest:,} of {num_rows:,} rows"
    if share < 0.2 / choice.num_classes:
        sentence += (
            "; the loss is not weighted, which keeps probabilities right:"
            " `model.loss={class_weight: balanced}` finds more of the rare and is wrong more often"
        )
    return [*said, Decision("classes", f"{sentence}.")]


def _of_columns(roles: Sequence[ColumnRole]) -> list[Decision]:
    """Describe what columns are for: numbers in one line, unusual ones in a line of their own."""
    said = []
    numbers = [role.name for role in roles if role.role == "number"]
    if numbers:
        words = name_some(numbers)
        said.append(Decision("numbers", f"{counted(len(numbers), 'column')}: {words}."))
    texts = [f"{role.name} ({role.reason})" for role in roles if role.role == "category"]
    if texts:
        said.append(Decision("categories", f"{counted(len(texts), 'column')}: {', '.join(texts)}."))
    for role in roles:
        if role.role == "left out":
            said.append(Decision(f"column '{role.name}'", f"left out, {role.reason}."))
        elif role.role == "group":
            sentence = f"no feature but {role.reason}, since its name is that of an owner."
            said.append(Decision(f"column '{role.name}'", sentence))
    if any(role.role == "left out" for role in roles):
        keep = "a column is kept by its name under `categorical` or `continuous` of the recipe."
        said.append(Decision("left out", keep))
    return said


def _of_leak(frame: pd.DataFrame, target: str, numbers: Sequence[str]) -> list[Decision]:
    """Warn of numbers that give the target exactly, which is not for a rule to decide."""
    names = joint_leak(frame, target, numbers)
    if not names:
        return []
    sentence = (
        f"{name_some(names)} together give '{target}' exactly; if they are known only when it is,"
        " take them out of `continuous`."
    )
    return [Decision("leak", sentence)]


def _of_dates(
    frame: pd.DataFrame, roles: Sequence[ColumnRole]
) -> tuple[list[dict[str, Any]], list[str], list[str], list[tuple[str, bool]]]:
    """Return steps, categories and numbers that come of dates, and which are without a gap."""
    steps, categorical, continuous, dates = [], [], [], []
    for role in roles:
        if role.role != "date" or role.date_format is None:
            continue
        parsed = parse_dates(frame[role.name], role.date_format).dropna()
        prefix = f"{role.name}_"
        step: dict[str, Any] = {"column": role.name, "prefix": prefix}
        if role.date_format != "ISO8601":
            step["date_format"] = role.date_format
        clock = parsed.dt
        parts = {"Month": clock.month, "Dayofweek": clock.day_of_week}
        if clock.hour.nunique() > 1:
            step["time"] = True
            parts["Hour"] = clock.hour
        categorical += [prefix + name for name, values in parts.items() if values.nunique() > 1]
        days = (parsed.max() - parsed.min()).days
        if days >= _YEAR_OF_DAYS:
            step["cyclical"] = ["Dayofyear"]
            continuous += [f"{prefix}Dayofyear_sin", f"{prefix}Dayofyear_cos"]
        if any(word in role.name.lower() for word in _BIRTH):
            continuous.append(f"{prefix}Year")
        elif len(parsed) == len(frame):
            dates.append((role.name, parsed.nunique() > 2))
        steps.append({"date_parts": step})
    return steps, categorical, continuous, dates


def _of_steps(steps: Sequence[dict[str, Any]]) -> list[Decision]:
    said = []
    for step in steps:
        parts = step["date_parts"]
        written = parts.get("date_format", "ISO8601")
        sentence = (
            f"dates written as {written}; month, day of the week and such become columns, the year"
            " does not, since it never comes again."
        )
        said.append(Decision(f"column '{parts['column']}'", sentence))
    return said


def _split(
    num_rows: int,
    target: str,
    choice: TargetChoice,
    splits: Sequence[str],
    dates: Sequence[tuple[str, bool]],
    groups: Sequence[str],
    frame: pd.DataFrame,
) -> tuple[Any, str, int]:
    """Return the split, why it is so, and how many rows are left to train on."""
    share = share_to_validate(num_rows)
    num_train = num_rows - round(share * num_rows)
    if splits:
        num_train = int(frame[splits[0]].astype(str).str.lower().str.startswith("train").sum())
        return splits[0], f"the column '{splits[0]}' says it for every row.", num_train or num_rows
    usable = [name for name, has_several in dates if has_several]
    if usable:
        why = f"the latest {share:.0%} of the rows by '{usable[0]}' are validated on, as in use"
        return (
            {"column": usable[0], "val_last": share},
            f"{why}; drop the date for a draw.",
            num_train,
        )
    if groups:
        why = (
            f"{share:.0%} of the rows, whole groups of '{groups[0]}', so that nobody who is trained"
            " on is validated on."
        )
        return {"column": groups[0], "val": share}, why, num_train
    if choice.task == "classes" and choice.rarest >= 2:
        why = f"{share:.0%} of {num_rows:,} rows, drawn class by class, are validated on."
        return {"val": share, "stratify": target}, why, num_train
    return {"val": share}, f"{share:.0%} of {num_rows:,} rows, drawn, are validated on.", num_train


def _of_sizes(sizes: TableSizes, num_train: int) -> list[Decision]:
    layers = " and ".join(map(str, sizes.layers))
    return [
        Decision(
            "batch size",
            f"{sizes.batch_size}, which is {counted(sizes.steps_per_epoch, 'step')} for"
            f" {counted(num_train, 'training row')}.",
        ),
        Decision(
            "epochs",
            f"at most {sizes.max_epochs}, which are {sizes.num_steps:,} steps, in cycles of"
            f" {sizes.cycle_len}, {2 * sizes.cycle_len} and {4 * sizes.cycle_len}; it stops at the"
            " first that validates worse.",
        ),
        Decision(
            "network",
            f"hidden layers of {layers}, dropout {sizes.dropout:g}, for {num_train:,} rows.",
        ),
        Decision("rate", f"{sizes.lr:g}, weight decay {sizes.weight_decay:g}; `lr: find` sweeps."),
    ]
