"""Print plans, runs and evaluations on the terminal."""

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from lightning_fastrecipes.callbacks.lr_finder import LRCurve
from lightning_fastrecipes.life_signs import duration
from lightning_fastrecipes.messages import name_some, shown
from lightning_fastrecipes.nn.summary import Summary
from lightning_fastrecipes.recipe.config.schema import Recipe
from lightning_fastrecipes.recipe.loading import modality_of
from lightning_fastrecipes.recipe.run.plan import StagePlan

_MOST_SHOWN = 20


def print_data(console: Console, recipe: Recipe, data: Any, model: Any) -> None:
    """Print where the parts of a continued run begin, and a description of data and model."""
    for number, part in enumerate(recipe.parts, start=2):
        stage, epochs = next(iter(part.items()))
        console.print(f"Part {number} begins after epoch {epochs} of the stage {stage}")
    for line in modality_of(recipe).describe(data, model):
        console.print(line, markup=False, style="yellow" if line.startswith("Skipped") else None)


def print_plan(console: Console, plan: StagePlan) -> None:
    """Print the layer groups, learning rates, steps and data of a stage."""
    rows = plan.table()
    table = Table(*rows.columns, title=plan.title, title_justify="left")
    for row in rows.itertuples(index=False):
        table.add_row(*row)
    console.print(table)


def print_summary(console: Console, title: str, found: Summary) -> None:
    """Print the tables of a model's layer groups and layers, as a stage trains them."""
    policy = f", norm policy {found.norm_policy}" if found.norm_policy else ""
    # Names of layers are long: a line that the terminal breaks is better than a name cut short.
    console.print(f"{title}{policy}\n\n{found}", markup=False, soft_wrap=True)


def print_stage(
    console: Console,
    figures: Mapping[str, Any],
    seconds_left: float | None,
    *,
    was_trained: bool = False,
) -> None:
    """Print time and last metrics of a stage, what is doubtful, and the time left if known.

    ``was_trained`` says that it was finished before, in the run that goes on.
    """
    logged = {name: value for name, value in figures["metrics"].items() if name != "epoch"}
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in logged.items())
    rate = next(name for name in figures if name.endswith("_per_second"))
    epoch = figures.get("kept_epoch")
    kept = "" if epoch is None else f"; the weights are those after epoch {epoch + 1}"
    doubts = ", ".join(re.findall(r"\[(\w+)\]", figures.get("guard", "")))
    kept += f"; `ValidationGuard` doubts these weights: {doubts}" if doubts else ""
    left = "" if seconds_left is None else f"; about {duration(seconds_left)} left of the run"
    console.print(
        f"Stage {figures['name']} {'is finished: it ' if was_trained else ''}took"
        f" {figures['seconds']:.1f} s"
        f" ({figures[rate]:,.0f} {rate.removesuffix('_per_second')}/s): {metrics}{kept}{left}",
        markup=False,
    )


def print_predictions(console: Console, table: pd.DataFrame) -> None:
    """Print the first predictions, or all that is known of a single one."""
    names = list(table.columns)
    last = names.index("prediction") if "prediction" in names else len(names) - 1
    numbers = table.iloc[:, last + 1 :].select_dtypes("number")
    if len(table) == 1:
        console.print("  ".join(_cells(table, last)[0]), markup=False)
        for name, value in numbers.iloc[0].sort_values(ascending=False)[:_MOST_SHOWN].items():
            console.print(f"  {name}: {value:.4g}", markup=False)
        return
    columns = [str(name) for name in names[: last + 1]]
    best = numbers.max(axis=1) if numbers.shape[1] > 1 else None
    listed = Table(*columns, *([] if best is None else ["highest"]))
    for row, cells in enumerate(_cells(table.head(_MOST_SHOWN), last)):
        number = [] if best is None else [f"{best.iloc[row]:.4g}"]
        listed.add_row(*cells, *number)
    console.print(listed)
    if len(table) > _MOST_SHOWN:
        console.print(f"... {len(table):,} predictions in all: `--out FILE.csv` writes them.")


def _cells(table: pd.DataFrame, last: int) -> list[list[str]]:
    """Write the values of each row up to a column, numbers to the digits that 32 bits hold."""
    rows = table.iloc[:, : last + 1].itertuples(index=False)
    return [[f"{v:.7g}" if isinstance(v, float) else str(v) for v in row] for row in rows]


def print_curve(console: Console, curve: LRCurve, stage: str) -> None:
    """Print the rate that each rule of the learning-rate finder picks for each layer group."""
    table = Table("rule", *curve.group_ratios, title=f"Stage {stage}", title_justify="left")
    for rule, lr in curve.picks.items():
        rates = [
            f"{lr * ratio:.2e}" if ratio else "frozen" for ratio in curve.group_ratios.values()
        ]
        table.add_row(rule, *rates)
    console.print(table)


def print_variants(console: Console, results: Mapping[str, Any]) -> None:
    """Print the metrics and the training time of each variant."""
    rows = results["variants"]
    split = "test" if rows[0]["test"] else "val"
    metrics = list(dict.fromkeys(name for row in rows for name in row[split]))
    table = Table("variant", "models", "minutes", *metrics, title=f"Variants, {split} split")
    for row in rows:
        values = [_shown(row[split][name]) if name in row[split] else "" for name in metrics]
        name = f"{row['name']} (side step)" if row.get("is_side_step") else row["name"]
        table.add_row(name, str(row["num_models"]), f"{row['seconds'] / 60:.1f}", *values)
    console.print(table)


def print_results(console: Console, results: Mapping[str, Any]) -> None:
    """Print the metrics of the evaluation."""
    table = Table("split", "metric", "value", title="Evaluation", title_justify="left")
    for split in ("val", "test"):
        for name, value in results[split].items():
            error = results.get("standard_errors", {}).get(split, {}).get(name)
            table.add_row(split, name, _shown(value) + _with_error(error))
    console.print(table)
    console.print(headline(results), markup=False, style="bold")


def headline(results: Mapping[str, Any]) -> str:
    """Return the result of a run in one line: which split, with views or not, which baseline.

    >>> baselines = {"test": {"samples": 40, "commonest_class": "dog", "accuracy": 0.525}}
    >>> headline({"val": {}, "test": {"loss": 0.1, "accuracy": 0.95}, "baselines": baselines})
    "Test split, 40 samples: accuracy 0.9500; always 'dog', the commonest class, has 0.5250"
    """
    split = "test" if results["test"] else "val"
    metrics, baseline = results[split], results.get("baselines", {}).get(split, {})
    names = [name for name in metrics if name != "loss" and not name.endswith("_tta")]
    usual = ("f2", "accuracy", "rmse") if "f2" in baseline else ("accuracy", "rmse")
    chosen = next((name for name in usual if name in names), None)
    name = chosen or next(iter(names), "loss")
    if name not in metrics:
        return "No split was measured."
    with_views = f"{name}_tta" in metrics
    value = metrics[f"{name}_tta" if with_views else name]
    views = ", with views" if with_views else ""
    samples = f", {baseline['samples']:,} samples" if "samples" in baseline else ""
    which = "Test split" if split == "test" else "Validation split"
    error = results.get("standard_errors", {}).get(split, {})
    if error:
        which = f"Mean of {results['folds']} folds"
    shown_error = _with_error(error.get(f"{name}_tta" if with_views else name))
    line = f"{which}{samples}{views}: {name} {_shown(value)}{shown_error}"
    if "commonest_class" in baseline and name == "accuracy":
        count = baseline.get("equally_common", 1)
        what = "the commonest class" if count == 1 else f"one of {count:,} equally common classes"
        same = f"always {shown(baseline['commonest_class'])}, {what},"
        return f"{line}; {same} has {_shown(baseline['accuracy'])}"
    if "f2" in baseline and name == "f2":
        same = name_some(baseline["commonest_labels"]) or "no label"
        return f"{line}; always {same} has {_shown(baseline['f2'])}"
    if "rmse" in baseline and name == "rmse":
        return f"{line}; always the mean has {_shown(baseline['rmse'])}"
    return line


def _with_error(error: float | None) -> str:
    return "" if error is None else f" +- {_shown(error)}"


def print_backbones(console: Console, table: pd.DataFrame) -> None:
    """Print the table of ``backbones``, with the recommended one marked."""
    # Without lines between columns, which leave no room for words on 80 columns.
    listed = Table(title="Backbones for images", title_justify="left", box=box.SIMPLE_HEAD)
    listed.pad_edge, listed.padding = False, 0
    listed.add_column("backbone", no_wrap=True)
    for name in ("params\n10^6", "mult-adds\n10^9", "ImageNet\n%", "at\npx"):
        listed.add_column(name, justify="right", no_wrap=True)
    if "seconds" in table:
        listed.add_column("seconds\neach", justify="right", no_wrap=True)
    listed.add_column("when")
    for row in table.to_dict("records"):
        name = f"{row['name']} *" if row["offline"] else row["name"]
        cells = [name, f"{row['parameters']:.1f}", f"{row['multiply_adds']:.2f}"]
        cells += [f"{row['accuracy']:.1f}", str(row["image_size"])]
        cells += [f"{row['seconds']:.3f}"] if "seconds" in row else []
        is_best = row["name"] == table.attrs["recommended"]
        listed.add_row(*cells, f"recommended: {row['when']}" if is_best else row["when"])
    console.print(listed)
    if packages := [name for name in table["offline"] if name]:
        console.print(f"* without a model hub by `weights`: {', '.join(packages)}")
    console.print(f"Accuracies as published, of timm's default weights: {table.attrs['source']}")


def _shown(value: float) -> str:
    """Write a metric with four decimals, or four digits where that would hide it.

    >>> _shown(0.97812), _shown(9.567e-09), _shown(1.5e12)
    ('0.9781', '9.567e-09', '1.5e+12')
    """
    is_usual = value == 0 or 1e-3 <= abs(value) < 1e7
    return f"{value:.4f}" if is_usual else f"{value:.4g}"
