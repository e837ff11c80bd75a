"""The argument parser of the ``fastrecipes`` command."""

import argparse
import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning_fastrecipes import __version__
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.messages import shown, suggestion

_SECTIONS = ("data", "model", "trainer", "stages", "evaluation", "variants", "rungs")
_KEYS = (
    "seed", "seeds", "folds", "train_metrics", "save_every", "initial_checks", "validation_guard",
    "report",
)  # fmt: skip
_OVERRIDE = re.compile(rf"--(?:(?:{'|'.join(_SECTIONS)})\.[\w.-]+|{'|'.join(_KEYS)})(?==|$)")
_MEANT = {
    "epochs": "--stages.NAME.max_epochs=N",
    "max_epochs": "--stages.NAME.max_epochs=N",
    "lr": "--stages.NAME.lr=1e-3",
    "bs": "--data.batch_size=N",
    "batch_size": "--data.batch_size=N",
    "image_size": "--data.image_size=N",
    "size": "--data.image_size=N",
    "root": "--data.root=FOLDER",
    "data": "--data.root=FOLDER",
    "backbone": "--model.backbone=NAME",
    "arch": "--model.backbone=NAME",
    "devices": "--trainer.devices=N",
    "gpus": "--trainer.devices=N",
    "precision": "--trainer.precision=16-mixed",
}
"""Short words that people try, and how the keys of recipes are written."""
_COMMANDS = {
    "ls": "List the recipes.",
    "auto": "Train a good model for photos or a table in a stated time, with no number to choose.",
    "new": "Look at photos or a table, and write a recipe that trains on them.",
    "show": "Print a recipe's card and file.",
    "copy": "Copy a recipe's folder, to be edited.",
    "check": "Check every key and type of a recipe.",
    "explain": "Show, before any training, what each stage trains, how fast and on what.",
    "summary": "Print the layers of a recipe's or run's model: shapes, costs, rates, activations.",
    "show-batch": "Draw some training images as a stage augments them.",
    "lr-find": "Sweep the learning rate of one stage, and train nothing.",
    "run": "Run a recipe into a run folder.",
    "search": "Find good values for the ranges in a recipe, most trials stopped early.",
    "predict": "Predict images, or the rows of tables, with a finished run.",
    "completion": "Print a script that completes words in a shell: eval it, or source it.",
    "report": "Write what a finished run has learned to one page, and what to try next.",
    "clean": "Apply what was decided in a report to the labels, in a new table.",
    "look": "Write a page that shows how a network computes.",
    "backbones": "List some good backbones for images: what they cost, and when to choose them.",
}
_DIGITS = 10  # of a count
_AS_JSON = ("ls", "check", "explain", "summary", "predict")
_WITHOUT_TRUST = ("ls", "auto", "new", "look", "backbones", "completion")
_WITHOUT_RECIPE = (*_WITHOUT_TRUST, "predict", "report", "clean")
_TAKE_OVERRIDES = ("check", "explain", "summary", "show-batch", "lr-find", "run", "search")


def parse_words(words: Sequence[str]) -> argparse.Namespace:
    """Parse the words after ``fastrecipes``; ``overrides`` become ``key.path=value``.

    Raise `RecipeError` if an override has no value, the command takes none or a word is unknown,
    and `SystemExit` if the words are no command or ask for help.
    """
    parser, commands = build_parser()
    command = commands.get(words[0]) if words else None
    own = re.findall(r"--[\w-]+", command.format_usage()) if command else []
    rest, overrides = _split_overrides(words, own)
    if not words:
        parser.print_help(sys.stderr)
        raise SystemExit(2)
    options, unknown = parser.parse_known_args(rest)
    if unknown:
        # A value that follows an unknown option may have been taken for something else.
        word = next((word for word in unknown if word.startswith("-")), unknown[0])
        raise RecipeError(_unknown_word(word, options.command, commands[options.command]))
    if overrides and options.command not in _TAKE_OVERRIDES:
        raise RecipeError(f"`{options.command}` takes no overrides, but got `--{overrides[0]}`.")
    options.overrides = overrides
    return options


def _split_overrides(words: Sequence[str], own: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take ``--key.path=value`` and ``--key.path value`` out of the words, but ``own`` options."""
    rest: list[str] = []
    overrides: list[str] = []
    remaining = iter(words)
    for word in remaining:
        if word.startswith("--") and word.endswith("=--"):  # which argparse makes a list of
            raise RecipeError(f"`{word[:-3]}` needs a value, got '--'.")
        if not _OVERRIDE.match(word) or word.partition("=")[0] in own:
            rest.append(word)
            continue
        if "=" not in word:
            value = next(remaining, None)
            if value is None:
                raise RecipeError(f"`{word}` needs a value: `{word}=...`.")
            word = f"{word}={value}"
        overrides.append(word.removeprefix("--"))
    return rest, overrides


def _unknown_word(word: str, name: str, command: argparse.ArgumentParser) -> str:
    """Return the message for an unknown word of a command, with what may have been meant."""
    see = f"`fastrecipes {name} --help` lists what it takes."
    key, _, rest = word.lstrip("-").partition("=")[0].partition(".")
    if not word.startswith("-"):
        keys = f"`--data.root={word}` of images in folders, or `--data.csv={word}` of a table"
        is_data = name in _TAKE_OVERRIDES and os.path.exists(word)
        hint = f" Data are given by a key: {keys}." if is_data else ""
        return f"`{name}` takes no {shown(word)} here.{hint} {see}"
    meant = ""
    if name in _TAKE_OVERRIDES and rest:
        meant = suggestion(key, _SECTIONS, "--").replace("`?", f".{rest}`?")
        meant = meant or f" Sections of a recipe are {', '.join(_SECTIONS[:5])}."
    elif name in _TAKE_OVERRIDES and key.replace("-", "_") in _MEANT:
        meant = f" In a recipe that is `{_MEANT[key.replace('-', '_')]}`."
    else:
        options = re.findall(r"--([\w-]+)", command.format_usage())
        begun = [option for option in options if option.startswith(key)]
        others = [*options, *_KEYS]
        meant = f" Did you mean `--{begun[0]}`?" if begun else suggestion(key, others, "--")
    return f"`{name}` does not know {shown(word)}.{meant} {see}"


def build_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser of the command, and those of its commands by their names."""
    parser = argparse.ArgumentParser(
        prog="fastrecipes",
        description="Train as the fast.ai course does, with PyTorch Lightning.",
        epilog="Any key of a recipe can be overridden: --data.root=photos --trainer.devices=2"
        " --stages.head.max_epochs=3 --stages.all.callbacks.SGDR.cycle_len=2 --seed=1",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    found: dict[str, argparse.ArgumentParser] = {}
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        _add_recipe(command, name)
        if name in _AS_JSON:
            command.add_argument("--json", action="store_true", help="print JSON, for programs")
        found[name] = command
    _add_data(found["new"], "folder for the recipe (default: recipes/NAME)")
    _add_data(found["auto"], "run folder (default: runs/NAME-auto)")
    minutes = "how long it may take (default: 10)"
    found["auto"].add_argument("--minutes", type=_positive, default=10.0, metavar="N", help=minutes)
    folds = "a model for each of N folds, each validated on rows that it has not seen"
    for name in ("new", "auto"):
        found[name].add_argument("--folds", type=_count, default=0, metavar="N", help=folds)
    found["copy"].add_argument("folder", type=Path, help="where the copy goes")
    found["copy"].add_argument(
        "--notebook", action="store_true", help="write the script as recipe.ipynb as well"
    )
    found["completion"].add_argument("shell", choices=("bash", "zsh", "tcsh"))
    stage = "as this stage has it; of a run, after it (default: the first; of a run the last)"
    found["summary"].add_argument("--stage", help=stage)
    time = "measure two steps of every stage, and say how long each takes on this machine"
    found["explain"].add_argument(
        "--time", action=argparse.BooleanOptionalAction, default=True, help=f"{time} (default: yes)"
    )
    add = found["show-batch"].add_argument
    add("--stage", help="name of the stage (default: the first that augments)")
    add("--out", type=Path, default=Path("batch.png"), help="PNG to write")
    add = found["lr-find"].add_argument
    add("--stage", help="name of the stage (may be left out if there is only one)")
    add("--run", type=Path, metavar="RUN_DIR", help="start from the stage before in this run")
    add("--out", type=Path, help="folder (default: runs/NAME-lr-find)")
    add("--min-lr", type=_positive, metavar="LR", help="first rate (default: the finder's, 1e-7)")
    add("--max-lr", type=_positive, metavar="LR", help="last rate (default: the finder's, 10)")
    _add_run(found["run"])
    _add_search(found["search"])
    add = found["backbones"].add_argument
    add("name", nargs="?", default="", help="part of the names to list")
    add("--measure", action="store_true", help="measure seconds an image on this machine")
    _add_looks(found["look"])
    _add_predict(found["predict"])
    for name in ("report", "clean"):
        place = "folder of a finished run"
        found[name].add_argument("run_folder", type=Path, metavar="RUN_DIR", help=place)
    table = "relabel.csv, as the report has saved it"
    found["clean"].add_argument("--apply", type=Path, required=True, metavar="CSV", help=table)
    return parser, found


def _add_recipe(command: argparse.ArgumentParser, name: str) -> None:
    if name not in _WITHOUT_RECIPE:
        recipe = "name of a recipe (see `fastrecipes ls`) or path of a recipe.yaml"
        command.add_argument(
            "recipe", nargs="?" if name in ("run", "search") else None, help=recipe
        )
        command.add_argument("--variant", metavar="NAME", help="take this variant of the recipe")
    if name not in _WITHOUT_TRUST:
        trust = "a module whose code the files may run, such as `mine`; may be given again"
        command.add_argument("--trust", action="append", default=[], metavar="MODULE", help=trust)


def _add_looks(command: argparse.ArgumentParser) -> None:
    looks = command.add_subparsers(dest="look", required=True, metavar="WHAT")
    text = "Run kernels over an image, pixel by pixel."
    kernels = looks.add_parser("kernels", help=text, description=text, allow_abbrev=False)
    image = "an image, or an .npz of digits (default: mnist.npz here, else a seven)"
    kernels.add_argument("image", nargs="?", type=Path, help=image)
    text = "Fit a line and a curve by gradient descent, step by step."
    looks.add_parser("fit", help=text, description=text, allow_abbrev=False)
    for name, look in looks.choices.items():
        look.add_argument("--out", type=Path, default=Path(f"{name}.html"), help="page to write")
    text = "Walk an image through a trained network, layer by layer."
    layers = looks.add_parser("layers", help=text, description=text, allow_abbrev=False)
    _add_seen(layers)
    place, words = Path("layers.html"), "page to write (default: layers.html)"
    layers.add_argument("--out", type=Path, default=place, help=words)
    many = "training images to look at (default: as many as take some seconds)"
    layers.add_argument("--images", type=_count, metavar="N", help=many)
    text = "Write a small network that sees an image as a spreadsheet with live formulas."
    trace = looks.add_parser("trace", help=text, description=text, allow_abbrev=False)
    _add_seen(trace)
    place, words = Path("trace.xlsx"), "file to write (default: trace.xlsx)"
    trace.add_argument(
        "--out", "--xlsx", type=Path, nargs="?", const=place, default=place, help=words
    )


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {shown(text)}")
    return number


def _count(text: str) -> int:
    if not (text.isdecimal() and len(text) < _DIGITS and int(text)):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {shown(text)}")
    return int(text)


def _add_seen(look: argparse.ArgumentParser) -> None:
    """Add a run and an image that its network sees."""
    look.add_argument("run_folder", type=Path, metavar="RUN_DIR", help="run folder or export")
    look.add_argument("image", type=Path, help="the image that it sees")
    trust = "a module whose code the files may run, such as `mine`; may be given again"
    look.add_argument("--trust", action="append", default=[], metavar="MODULE", help=trust)


def _add_run(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--out", type=Path, help="run folder (default: runs/NAME)")
    add("--resume", type=Path, metavar="DIR", help="go on with an interrupted run, keys unchanged")
    more = "train a finished run further, from its weights and optimizer: with more epochs of its"
    more += " last stage (--stages.NAME.max_epochs=N), added stages, or another evaluation"
    add("--continue", dest="continued", type=Path, metavar="DIR", help=more)
    stage = "with --continue: add a stage, whose keys are --stages.NAME.KEY; may be given again"
    add("--add", action="append", default=[], metavar="NAME", help=stage)
    add("--fast-dev-run", action="store_true", help="one batch of everything")
    tta = "evaluate with test-time augmentation: as the recipe says, or 4 views of the training"
    tta += " augmentation; --evaluation.tta.preset=flips for others"
    add("--tta", action="store_true", help=tta)


def _add_search(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--trials", type=_count, metavar="N", help="how many values are drawn (default: 24)")
    monitor = "validation metric that decides (default: the model's first, such as val_accuracy)"
    add("--monitor", metavar="NAME", help=monitor)
    add("--out", type=Path, metavar="DIR", help="folder (default: runs/NAME-search)")
    resume = "go on with a search, also beside another process that does"
    add("--resume", type=Path, metavar="DIR", help=resume)


def _add_data(command: argparse.ArgumentParser, folder: str) -> None:
    data = "folder with a folder of images for each class, table that names images, or table of"
    command.add_argument("data", metavar="DATA", help=f"{data} rows")
    target = "column to predict (default: by its name, or the last one)"
    command.add_argument("--target", metavar="COLUMN", help=target)
    images = "folder of the images that a table names (default: looked for near the table)"
    command.add_argument("--images", type=Path, metavar="DIR", help=images)
    command.add_argument("--out", type=Path, metavar="DIR", help=folder)


def _add_predict(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("run_folder", type=Path, metavar="RUN_DIR", help="folder of a finished run")
    paths = "files or folders; tables, or a pattern such as 'months/*.csv'"
    add("paths", type=Path, nargs="+", metavar="PATH", help=paths)
    more = "another run whose predictions are averaged with the first's; may be given again"
    add("--with", dest="with_runs", type=Path, action="append", metavar="RUN_DIR", help=more)
    keep = "a column of the tables to put beside the predictions; may be given again"
    add("--keep", action="append", default=[], metavar="COLUMN", help=keep)
    tta = "predict with test-time augmentation, or without (default: as the run was evaluated)"
    add("--tta", action=argparse.BooleanOptionalAction, help=tta)
    share = "add the share of models that decide as all do together; of numbers, their deviation"
    add("--agreement", action="store_true", help=share)
    mended = "probabilities at the temperature that fits the run's validation split"
    add("--calibrated", action="store_true", help=mended)
    add("--out", type=Path, help="CSV to write (default: the first ones on the terminal)")
