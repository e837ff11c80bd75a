"""Each of our callbacks with each of the modules that know nothing of this package."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl

import lightning_fastrecipes as fr
from helpers.public_modules import Public
from helpers.rarer_modules import ALL_MODULES
from lightning_fastrecipes.callbacks.seeded_steps import SeededSteps

CALLBACKS: dict[str, Callable[[type[Public], Path], pl.Callback]] = {
    "SGDR": lambda kind, folder: fr.SGDR(1),
    "OneCycle": lambda kind, folder: fr.OneCycle(),
    "LRFinder": lambda kind, folder: fr.LRFinder(num_steps=20),
    'LRFinder(on="val")': lambda kind, folder: fr.LRFinder(num_steps=20, on="val"),
    "Averaging": lambda kind, folder: fr.Averaging("ema"),
    "CycleSnapshots": lambda kind, folder: fr.CycleSnapshots(folder, cycle_len=1),
    "OverfittingStop": lambda kind, folder: fr.OverfittingStop(9, cycle_len=1),
    "KeepBest": lambda kind, folder: fr.KeepBest(),
    "InitialLossCheck": lambda kind, folder: fr.InitialLossCheck(num_classes=3),
    "EpochTable": lambda kind, folder: fr.EpochTable(),
    "FiniteLossCheck": lambda kind, folder: fr.FiniteLossCheck(),
    "MultiLabelSwitch": lambda kind, folder: fr.MultiLabelSwitch(label_kind="single"),
    "TrainMetrics": lambda kind, folder: fr.TrainMetrics(4, kind.loader()),
    "SaveEvery": lambda kind, folder: fr.SaveEvery(2, folder / "begun.ckpt"),
    "SeededSteps": lambda kind, folder: SeededSteps(1),
    "RisingLossCheck": lambda kind, folder: fr.RisingLossCheck(),
    "ValidationGuard": lambda kind, folder: fr.ValidationGuard(),
    "ImageMixing": lambda kind, folder: fr.ImageMixing(num_classes=3),
    "TestTimeAugmentation": lambda kind, folder: fr.TestTimeAugmentation(
        1, "flips", during_fit=True
    ),
}
LOOKING = {
    "CycleSnapshots", "InitialLossCheck", "EpochTable", "FiniteLossCheck", "MultiLabelSwitch",
    "TrainMetrics", "SaveEvery", "RisingLossCheck", "ValidationGuard", "TestTimeAugmentation",
}  # fmt: skip
"""Those that change nothing of what is trained."""


@dataclass(frozen=True)
class Refusal:
    """What is said, as a pattern; and why and what to do, in the words of the page."""

    said: str
    cure: str


def refused(callbacks: str, modules: str, said: str, cure: str) -> dict[tuple[str, str], Refusal]:
    """Give each of several pairs one refusal; names are parted by blanks."""
    refusal = Refusal(said, cure)
    return {(one, module): refusal for one in callbacks.split() for module in modules.split()}


FINDERS = 'LRFinder LRFinder(on="val")'
REFUSED = {
    **refused(
        f"SGDR OneCycle {FINDERS}", "Gan",
        "needs one optimizer",
        "needs one optimizer",
    ),
    **refused(
        FINDERS, "ByHand",
        "needs one optimizer that Lightning steps by itself",
        "needs an optimizer that Lightning steps by itself: configure a rate",
    ),
    **refused(
        'LRFinder(on="val")', "LogsElsewhere",
        "it logs 'val/loss'. Another name is given by `loss_name`",
        "the loss has another name: `loss_name='val/loss'`",
    ),
    **refused(
        "OverfittingStop KeepBest", "LogsElsewhere",
        r"`monitor` must be a metric that the module logs, but 'val_loss' is none of",
        "the loss has another name: `monitor='val/loss'`",
    ),
    **refused(
        "ImageMixing", "CatsAndDogs SoftmaxInside",
        r"With `ImageMixing`, targets in `training_step` are probabilities",
        "its loss takes no mixed targets, as `cross_entropy` does; said at the first step",
    ),
    **refused(
        "ImageMixing", "Ages Streets Masks",
        r"floats of shape \(4,\)\. Serve|masks or boxes cannot be mixed",
        "mixes classes, and numbers of the shape `(batch, columns)`",
    ),
    **refused(
        "ImageMixing", "NamedBatches",
        "other batches need a list in place of a tuple",
        "puts mixed images into the batch, which a tuple does not take: serve a list",
    ),
    **refused(
        "ImageMixing", "Reviews NextToken MultiTask Boxes SimClr Byol Diffusion Recurrent",
        "needs batches that are lists of images",
        "needs images and one tensor of targets",
    ),
    **refused(
        "TestTimeAugmentation", "Ages AutoEncoder",
        r"cannot know what the outputs of `\w+` are",
        "cannot know what the outputs are: `outputs='numbers'`, or `'maps'`",
    ),
    **refused(
        "TestTimeAugmentation", "Gan",
        "calls `forward` of `Gan` with the images",
        "`forward` takes no images",
    ),
    **refused(
        "TestTimeAugmentation", "Reviews NextToken Boxes SimClr Byol Recurrent",
        "must hold images",
        "needs one tensor of images in a batch",
    ),
    **refused(
        "TestTimeAugmentation", "MultiTask Diffusion",
        "measures batches of images and targets",
        "measures one tensor of targets; `Trainer.predict` needs none",
    ),
}  # fmt: skip
PAGE = Path(__file__).parents[2] / ".github" / "docs" / "other_modules.md"


def page() -> str:
    """Write the page of the documentation from the tables above."""
    notes: dict[str, int] = {}
    rows = []
    for module, kind in ALL_MODULES.items():
        cells = [
            f"`{one}` ({notes.setdefault(refusal.cure, len(notes) + 1)})"
            for one in CALLBACKS
            if (refusal := REFUSED.get((one, module)))
        ]
        about = (kind.__doc__ or "").splitlines()[0].replace("``", "`").rstrip(".")
        rows.append(f"| {about} | {', '.join(cells) or 'nothing'} |")
    lines = [
        "# In other people's modules",
        "",
        "Made from `tests/callbacks/test_public_modules.py`, which fits small modules in the style",
        "of public projects with each of these callbacks:",
        f"{', '.join(f'`{name}`' for name in CALLBACKS)}.",
        "",
        "What a row does not name works. Callbacks that only look leave weights and attributes of",
        "the module as they are without them, bit for bit. What is refused is refused by name.",
        "",
        "| module | refused |",
        "|---|---|",
        *rows,
        "",
        *(f"{number}. {cure[0].upper()}{cure[1:]}." for cure, number in notes.items()),
        "",
        "- Other schedules differ from `SGDR` in their curve alone. A module with a scheduler of",
        "  its own needs `replace_scheduler=True`.",
        "- `ProgressiveResizing` needs a datamodule with `image_size`, `eval_image_size` and",
        "  `batch_size`.",
        "",
    ]
    return "\n".join(lines)
