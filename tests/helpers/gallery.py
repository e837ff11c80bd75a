"""Every figure that the package draws, at 2, 10, 45 and 200 classes, to measure and to look at.

``python tests/helpers/gallery.py FOLDER`` draws all of them into a folder.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from lightning_fastrecipes.functional.training.lr_curves import average_losses, suggest_lr
from lightning_fastrecipes.plots.classes import draw_confusion_matrix, draw_cooccurrence
from lightning_fastrecipes.plots.images import draw_batch
from lightning_fastrecipes.plots.rates import draw_lr_curve, draw_schedule
from lightning_fastrecipes.plots.runs import draw_curves, draw_variants
from lightning_fastrecipes.plots.tables import draw_embeddings, draw_importance, draw_predictions

SIZES = (2, 10, 45, 200)

Draw = Callable[[Path | None], Figure | None]

_STRANGE = (
    "Großblütige Königskerze (Verbascum densiflorum)",
    "Ελληνική χελώνα της Μεσογείου",
    "обыкновенный подорожник",
    "向日葵の花と葉の写真",
    "$5 \\bill_{x}^2$",
    "two\nlines\tand a tab",
    "ëïöü",
    "🦊 fox",
    "x" * 120,
    "a_b_c__d",
)


def names(count: int, *, strange: bool) -> list[str]:
    """Return names of classes, ordinary or long and of all alphabets, all different."""
    if not strange:
        return [f"class {place}" for place in range(count)]
    return [f"{_STRANGE[place % 10]} {place // 10 or ''}".strip() for place in range(count)]


def _confusion(count: int, *, strange: bool) -> Draw:
    draws = np.random.default_rng(count)
    cells = draws.poisson(0.3, (count, count)) + np.diag(draws.poisson(90, count))
    cells[0, 1], cells[1, 0] = 51, 49
    said = {"split": "test", "with_views": strange}
    return lambda path: draw_confusion_matrix(
        torch.tensor(cells), names(count, strange=strange), path, **said
    )


def _cooccurrence(count: int, *, strange: bool) -> Draw:
    draws = torch.Generator().manual_seed(count)
    common = torch.linspace(0.6, 0.02, count)[torch.randperm(count, generator=draws)]
    true = (torch.rand(400, count, generator=draws) < common).double()
    found = true * (torch.rand(400, count, generator=draws) < 0.8)
    found[:, 0] = 0.0
    return lambda path: draw_cooccurrence(
        true.T @ true, found.T @ found, names(count, strange=strange), path, split="val"
    )


def _history(num_stages: int, *, strange: bool) -> pd.DataFrame:
    rows, words = [], names(num_stages, strange=strange)
    for stage in range(num_stages):
        for epoch in range(1 + stage % 4):
            share = 1.0 / (1 + len(rows))
            rows.append({
                "stage": words[stage], "epoch": epoch, "train_loss": 2.0 * share,
                "val_loss": 2.2 * share if len(rows) % 3 else np.nan, "val_accuracy": 1.0 - share,
                "train_clean_accuracy": 1.0 - share / 2, "val_rmse": 900.0 * share,
                "lr": 1e-3 * 0.5**epoch, "seconds": 11.0,
            })  # fmt: skip
    return pd.DataFrame(rows)


def _lr_curve(*, noise: float, refusal: str | None) -> Draw:
    lrs = np.logspace(-6, 0, 100)
    losses = 0.05 + 0.65 / (1 + (lrs / 1e-3) ** 1.5) + 40.0 * lrs**2
    losses += np.random.default_rng(0).normal(0.0, noise, 100) * losses
    lrs, losses = lrs.tolist(), losses.tolist()
    averages = average_losses(lrs, losses)
    found = suggest_lr(lrs, losses)
    picks = {} if refusal else found.picks
    return lambda path: draw_lr_curve(
        lrs, losses, averages, picks, path, rule="midway", refusal=refusal
    )


def _batch(words: list[str], num_epochs: int, title: str) -> Draw:
    draws = torch.Generator().manual_seed(0)
    images = [
        [torch.randint(0, 256, (3, 24, 32), generator=draws, dtype=torch.uint8)] * (1 + num_epochs)
        for _ in words
    ]
    return lambda path: draw_batch(images, words, path, title=title)


def _predicted(count: int, *, strange: bool) -> Draw:
    images = [[torch.zeros(3, 24, 24, dtype=torch.uint8)] * 4] * 3
    words = names(count, strange=strange)
    titles = [[f"{words[(row + n) % count]}.jpg\n{words[0][:15]} 97%" for n in range(4)]
              for row in range(3)]  # fmt: skip
    return lambda path: draw_batch(images, [""] * 3, path, titles)


def _embeddings(count: int, *, strange: bool) -> Draw:
    draws = np.random.default_rng(count)
    words = [str(n) for n in range(count)] if not strange else names(count, strange=True)
    parts = []
    for column, width in (("day", 4), ("a very long name of a column", 1), ("shop", 9), ("sex", 2)):
        values = ["(unknown)", *(words if width > 2 else words[:2])]
        vectors = draws.normal(size=(len(values), width)) * np.linspace(3, 0.1, width)
        numbers = {f"e{place}": vectors[:, place] for place in range(width)}
        parts.append(pd.DataFrame({"column": column, "value": values, **numbers}))
    table = pd.concat(parts)
    return lambda path: draw_embeddings(table, path)


def _importance(count: int, *, strange: bool) -> Draw:
    rises = np.linspace(0.2, -0.004, count)
    table = pd.DataFrame(
        {
            "column": names(count, strange=strange),
            "importance": rises,
            "spread": 0.01,
            "plain_error": 0.5778,
        }
    )
    return lambda path: draw_importance(table, path, error="cross entropy of survived", split="val")


def _predictions(*, log: bool) -> Draw:
    draws = np.random.default_rng(0)
    true = draws.lognormal(3.0, 1.0, 5000)
    found = true * draws.lognormal(0.0, 0.3, 5000)
    found[:3] = np.inf
    return lambda path: draw_predictions(
        true, found, "sales of the day", path, split="test", log=log, with_views=log
    )


def _variants(count: int, *, strange: bool, metric: str) -> Draw:
    values = np.linspace(0.9, 1.0, count)
    rows = [
        {"name": name, "seconds": 90.0, "val": {}, "test": {metric: value},
         "is_side_step": place % 4 == 3}
        for place, (name, value) in enumerate(zip(names(count, strange=strange), values,
                                                  strict=True))
    ]  # fmt: skip
    return lambda path: draw_variants(rows, path)


def gallery() -> dict[str, Draw]:
    """Return what draws each figure, by its name."""
    found: dict[str, Draw] = {}
    for count in SIZES:
        for strange in (False, True):
            end = f"{count}_{'strange' if strange else 'plain'}"
            found |= {
                f"confusion_{end}": _confusion(count, strange=strange),
                f"cooccurrence_{end}": _cooccurrence(count, strange=strange),
                f"embeddings_{end}": _embeddings(count, strange=strange),
                f"importance_{end}": _importance(count, strange=strange),
            }
            if count < 200:
                metric = "accuracy" if strange else "rmse"
                found[f"variants_{end}"] = _variants(count, strange=strange, metric=metric)
                history = _history(count, strange=strange)
                found[f"curves_{end}"] = lambda path, h=history: draw_curves(h, path, seconds=3700)
    for count in (1, 3):
        one = _history(count, strange=False)[["stage", "epoch", "train_loss", "val_accuracy", "lr"]]
        found[f"curves_{count}_few"] = lambda path, h=one: draw_curves(h, path)
    words = names(45, strange=True)
    few, many = ["beach, sun", "(no label)", ", ".join(words[:4])], [", ".join(words)] * 2
    plain = "Training images of stage all"
    of = f"{plain}: augmentation side_on"
    groups = [f"backbone_{place}" for place in range(9)]
    epochs = np.linspace(0, 3, 60)
    rates = {name: 1e-3 * 2.0**-place * (1.1 - epochs % 1) for place, name in enumerate(groups)}
    many_rates = {f"block_{place}": 1e-3 * 0.9**place * (1.1 - epochs % 1) for place in range(45)}
    reason = "the loss falls by 0.03 from 0.7, no more than its noise may do. Use more steps, " * 3
    return found | {
        "batch_one_label": _batch(["cat", "Großblütige Königskerze"] * 3, 5, of),
        "batch_tags": _batch(few, 5, of),
        "batch_45_tags": _batch(many, 5, of),
        "batch_numbers": _batch(["age 31.25, weight 80.5", "age 4, weight 17"], 5, of),
        "batch_plain": _batch(["cat", "dog"], 0, f"{plain}: augmentation none, so all the same"),
        "predicted_plain": _predicted(10, strange=False),
        "predicted_strange": _predicted(10, strange=True),
        "lr_clear": _lr_curve(noise=0.02, refusal=None),
        "lr_noisy": _lr_curve(noise=0.3, refusal=None),
        "lr_refused": _lr_curve(noise=0.02, refusal=reason),
        "schedule": lambda path: draw_schedule(
            "SGDR", epochs, rates, ["stem", "a frozen group"], path, lowest=1e-7
        ),
        "schedule_45": lambda path: draw_schedule(
            "SGDR", epochs, many_rates, ["stem"], path, lowest=1e-7
        ),
        "predictions": _predictions(log=False),
        "predictions_log": _predictions(log=True),
    }


if __name__ == "__main__":
    for name, draw in gallery().items():
        draw(Path(sys.argv[1]) / f"{name}.png")
