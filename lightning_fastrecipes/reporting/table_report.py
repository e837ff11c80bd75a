"""The report of a run of a table."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from lightning_fastrecipes.batches import TableInputs
from lightning_fastrecipes.functional.flat_map import flat_map
from lightning_fastrecipes.functional.intervals import mean_interval
from lightning_fastrecipes.functional.labels.label_errors import label_errors, suspicion
from lightning_fastrecipes.functional.tables.spec import TableSpec
from lightning_fastrecipes.functional.tables.target import TargetColumn
from lightning_fastrecipes.reporting import blocks
from lightning_fastrecipes.reporting.advice import Figures
from lightning_fastrecipes.reporting.blocks import Block, Page
from lightning_fastrecipes.reporting.class_sections import (
    Decided,
    calibration_blocks,
    class_intervals,
    confusion_blocks,
    measure_calibration,
)
from lightning_fastrecipes.reporting.finished_run import (
    FinishedRun,
    numbers_in,
    read_text_table,
)
from lightning_fastrecipes.reporting.number_sections import number_blocks, number_intervals
from lightning_fastrecipes.reporting.overview import results_blocks
from lightning_fastrecipes.reporting.slices import slice_blocks
from lightning_fastrecipes.reporting.table_checks import (
    baseline_metrics,
    drift,
    leaking,
    telling_columns,
)
from lightning_fastrecipes.reporting.table_rows import (
    TargetRows,
    encoded_frame,
    encoded_targets,
    read_target,
    readable_frame,
)

_MOST_WORST = 50
_MOST_CURVES = 6
_NUM_VALUES = 20
_NUM_VARIED = 200
_DRIFTED = 0.2
_SMALLEST = 1e-7
_SEED = 0


def write_table_report(run: FinishedRun, page: Page, figures: Figures) -> None:
    """Put everything that is known of a table on the page."""
    spec: TableSpec = run.model.require_spec()
    frames = {split: encoded_frame(run, spec, split) for split in ("train", *run.predictions)}
    intervals: dict[str, dict[str, Any]] = {split: {} for split in run.predictions}
    baselines: dict[str, dict[str, dict[str, float]]] = {split: {} for split in run.predictions}
    parts: list[tuple[str, str, list[Block | None]]] = []
    for number, column in enumerate(spec.target_columns):
        end = "" if spec.task != "several" else f"_{column.name}"
        found: dict[str, TargetRows] = {
            split: read_target(run, spec, split, column) for split in run.predictions
        }
        for split, rows in found.items():
            measured = _intervals(rows)
            intervals[split] |= {f"{name}{end}": one for name, one in measured.items()}
        others = _baselines(run, spec, column, frames, figures)
        for name, bases in others.items():
            for base, values in bases.items():
                own = baselines[name].setdefault(base, {})
                own |= {f"{metric}{end}": value for metric, value in values.items()}
        name = f"target-{number}"
        parts.append((name, f"Target {column.name}", _target_blocks(column, found, figures)))
        parts.append(
            (
                f"{name}-rows",
                f"Rows of {column.name}",
                _row_blocks(run, spec, column, found, frames),
            )
        )
    figures.take(run, intervals, baselines)
    page.add("results", "Results", results_blocks(run, intervals, baselines))
    if run.missing:
        text = f"The table is not to be had, so that its columns are not looked at: {run.missing}"
        page.add("data", "Data", [blocks.text(text, "warning")])
    for name, title, content in parts:
        page.add(name, title, content)
    page.add("columns", "Columns", _column_blocks(run, spec, frames))
    page.add("drift", "Drift between the splits", _drift_blocks(spec, frames, figures))
    page.add("embeddings", "Embeddings", _embedding_blocks(run))


def _intervals(rows: TargetRows) -> dict[str, Any]:
    if rows.probabilities is None:
        known = np.isfinite(rows.truth)
        return number_intervals(rows.truth[known], rows.predicted[known])
    return class_intervals(_decided(rows))


def _decided(rows: TargetRows) -> Decided:
    assert rows.probabilities is not None
    p = rows.probabilities
    losses = -np.log(np.clip(p[np.arange(len(p)), rows.truth], _SMALLEST, 1))
    return Decided(p, rows.truth, losses)


def _baselines(
    run: FinishedRun,
    spec: TableSpec,
    column: TargetColumn,
    frames: dict[str, pd.DataFrame | None],
    figures: Figures,
) -> dict[str, dict[str, dict[str, float]]]:
    """Return what other models measure, and note columns that say the target."""
    train = frames["train"]
    others = {
        split: (frame, encoded_targets(run, spec, split, column, frame.index))
        for split, frame in frames.items()
        if split != "train" and frame is not None
    }
    if train is None or not others:
        return {}
    targets = encoded_targets(run, spec, "train", column, train.index)
    is_class = column.classes is not None
    frame, truth = next(iter(others.values()))
    telling = telling_columns(train, targets, frame, truth, is_class=is_class)
    figures.leaking_columns += leaking(telling)
    return baseline_metrics(
        train, targets, others, spec, is_class=is_class, log=column.log, seed=_SEED
    )


def _target_blocks(
    column: TargetColumn, found: dict[str, TargetRows], figures: Figures
) -> list[Block | None]:
    if column.classes is None:
        return [
            block
            for split, rows in found.items()
            for block in number_blocks(split, column.name, rows.truth, rows.predicted)
        ]
    decided = {split: _decided(rows) for split, rows in found.items()}
    calibration = measure_calibration(decided)
    figures.calibration_error = list(calibration.errors.values())[-1]
    figures.temperature = calibration.temperature
    return [
        *confusion_blocks(decided, column.classes),
        *calibration_blocks(decided, calibration),
    ]


def _row_blocks(
    run: FinishedRun,
    spec: TableSpec,
    column: TargetColumn,
    found: dict[str, TargetRows],
    frames: dict[str, pd.DataFrame | None],
) -> list[Block | None]:
    """Return the worst rows, errors by column and along the table, and labels that seem wrong."""
    split = list(found)[-1]
    rows, frame = found[split], frames.get(split)
    if column.classes is None:
        errors = np.abs(rows.predicted - rows.truth)
        signed = rows.predicted - rows.truth
    else:
        errors = signed = _decided(rows).losses
    content: list[Block | None] = [_worst(column, rows, errors, f"Worst rows, {split} split")]
    if column.classes is not None:
        content.append(_label_errors(column, rows, split))
    along = pd.Series(signed).groupby(np.arange(len(signed)) * 40 // max(len(signed), 1)).mean()
    what = "predicted - true" if column.classes is None else "loss"
    points = [[place / 40, value] for place, value in enumerate(along.tolist())]
    content.append(
        blocks.plot(
            f"Mean error along the table, {split} split",
            [{"name": what, "points": points}],
            x="place in the split, from its first row to its last", y=what,
        )
    )  # fmt: skip
    if frame is not None:
        readable, own = readable_frame(frame, spec), signed[frame.index.to_numpy()]

        def measure(places: npt.NDArray[np.int64]) -> Any:
            return float(own[places].mean()), mean_interval(own[places])

        content += slice_blocks(readable, measure, f"mean {what}, {split} split", low_is_bad=False)
    return content


def _worst(column: TargetColumn, rows: TargetRows, errors: Any, title: str) -> Block | None:
    order = np.argsort(-np.nan_to_num(errors), kind="stable")[:_MOST_WORST]
    places = rows.places.iloc[order]

    def words(value: Any) -> Any:
        return value if column.classes is None else column.classes[int(value)]

    cells = [
        [*place, words(rows.truth[row]), words(rows.predicted[row]), float(errors[row])]
        for place, row in zip(places.itertuples(index=False), order.tolist(), strict=True)
    ]
    return blocks.table(title, [*map(str, places), "true", "predicted", "error"], cells)


def _label_errors(column: TargetColumn, rows: TargetRows, split: str) -> Block | None:
    p, classes = rows.probabilities, column.classes
    assert p is not None
    assert classes is not None
    doubts = suspicion(p, rows.truth)
    wrong = np.flatnonzero(label_errors(p, rows.truth))
    order = wrong[np.argsort(-doubts[wrong], kind="stable")][:_MOST_WORST]
    cells = [
        [*rows.places.iloc[row], classes[rows.truth[row]], classes[p[row].argmax()], doubts[row]]
        for row in order.tolist()
    ]
    names = [*map(str, rows.places), "given", "seems to be", "lead"]
    note = "Of rows that the model has not been trained on, by confident learning."
    return blocks.table(f"Labels that seem wrong, {split} split", names, cells, note)


def _column_blocks(
    run: FinishedRun, spec: TableSpec, frames: dict[str, pd.DataFrame | None]
) -> list[Block | None]:
    """Return the importance of columns, and how predictions change with the most important."""
    path = run.folder.path / "importance.csv"
    if not path.is_file():
        return []
    table = read_text_table(path)
    names = [str(name) for name in table["column"]]
    grown = numbers_in(table["importance"], path.name).tolist()
    shown = [[name, value] for name, value in zip(names, grown, strict=True)]
    columns = ["column", "growth of the error"]
    note = "How much the error grows when the column is shuffled."
    found = [blocks.table("Importance", columns, shown, note)]
    there = [frame for frame in reversed(list(frames.values())) if frame is not None]
    if not there:
        return found
    rows = there[0].sample(min(_NUM_VARIED, len(there[0])), random_state=_SEED)
    return found + [_partial_dependence(run, spec, rows, name) for name in names[:_MOST_CURVES]]


def _partial_dependence(
    run: FinishedRun, spec: TableSpec, rows: pd.DataFrame, name: str
) -> Block | None:
    """Return the mean prediction as one column takes each of its values, all else as it is."""
    if name not in rows or not len(rows):
        return None
    column = spec.target_column
    labels: list[Any]
    if name in spec.categorical:
        values = rows[name].value_counts().index[:_NUM_VALUES].to_numpy()
        place = spec.categorical.index(name)
        codes = np.zeros((len(values), len(spec.categorical)), dtype=np.int64)
        codes[:, place] = values
        labels = ["(unknown)" if pd.isna(v) else str(v) for v in spec.decode(codes)[name]]
    else:
        values = np.unique(np.quantile(rows[name], np.linspace(0.02, 0.98, _NUM_VALUES)))
        scale = spec.number_columns[spec.continuous.index(name)]
        labels = (values * (scale.std or 1.0) + scale.mean).tolist()
    means = []
    for value in values:
        changed = rows.copy()
        changed[name] = value
        predicted = _predict(run, spec, changed)
        outputs = column.num_outputs
        means.append(float(predicted[:, outputs - 1].mean()))
    what = column.name if column.classes is None else f"probability of {column.classes[-1]}"
    if name in spec.categorical:
        pairs = sorted(zip(labels, means, strict=True), key=lambda pair: -pair[1])
        return blocks.table(f"Predicted by {name}", [name, what], pairs)
    points = list(zip(labels, means, strict=True))
    title = f"Partial dependence on {name}"
    return blocks.plot(title, [{"name": what, "points": points}], x=name, y=what)


def _predict(run: FinishedRun, spec: TableSpec, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
    inputs = TableInputs(
        torch.tensor(rows[spec.categorical].to_numpy(np.int64)),
        torch.tensor(rows[spec.continuous_columns].to_numpy(np.float32)),
    )
    inputs = TableInputs(*(part.to(run.model.device) for part in inputs))
    with torch.inference_mode():
        found = run.model.probabilities(run.model(inputs)).double().cpu().numpy()
    values: npt.NDArray[np.float64] = found.reshape(len(rows), -1)
    return values


def _drift_blocks(
    spec: TableSpec, frames: dict[str, pd.DataFrame | None], figures: Figures
) -> list[Block | None]:
    train = frames["train"]
    others = {s: frame for s, frame in frames.items() if s != "train" and frame is not None}
    if train is None or not others:
        return []
    found = {split: drift(train, frame, spec) for split, frame in others.items()}
    names = list(next(iter(found.values())))
    figures.drift = {
        name: worst
        for name in names
        if (worst := max(one[name] for one in found.values())) > _DRIFTED
    }
    rows = [[name, *(one[name] for one in found.values())] for name in names]
    note = (
        "0 is the same as in training, 1 altogether other: for numbers the distance of Kolmogorov"
        " and Smirnov, for categories the total variation."
    )
    return [blocks.table("Columns", ["column", *found], rows, note)]


def _embedding_blocks(run: FinishedRun) -> list[Block | None]:
    """Return the vectors of each categorical column on a flat map."""
    found: list[Block | None] = []
    for path in sorted((run.folder.path / "embeddings").glob("*.csv"))[:_MOST_CURVES]:
        table = read_text_table(path)
        if len(table) < 3:
            continue
        names = table.iloc[:, 0].tolist()
        vectors = table.iloc[:, 1:].apply(pd.to_numeric, errors="coerce").dropna(axis=1)
        if not vectors.shape[1]:
            continue
        flat = flat_map(vectors.to_numpy(np.float32), _SEED)
        series = [
            {"name": name, "kind": "points", "points": [pair]}
            for name, pair in zip(names[:60], flat.tolist(), strict=False)
        ]
        title = f"Embedding of {path.stem.partition('_')[2]}"
        found.append(blocks.plot(title, series, x="", y="", named=True))
    return found
