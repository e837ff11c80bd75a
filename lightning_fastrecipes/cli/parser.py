"""The argument parser of the ``fastrecipes`` command."""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lightning_fastrecipes import __version__
from lightning_fastrecipes.errors import RecipeError

Command = Callable[[argparse.Namespace], int]

_OVERRIDE = re.compile(
    r"--(?:(?:data|model|trainer|stages|evaluation|variants|rungs)\.[\w.-]+"
    r"|seed|seeds|initial_checks)(?==|$)"
)
_RECIPE = "name of a recipe (see `fastrecipes ls`) or path of a recipe.yaml"
_COMMANDS = {
    "ls": "List the recipes.",
    "show": "Print a recipe's card and file.",
    "copy": "Copy a recipe's folder, to be edited.",
    "check": "Check every key and type of a recipe.",
    "explain": "Show, before any training, what each stage trains, how fast and on what.",
    "show-batch": "Draw some training images as a stage augments them.",
    "lr-find": "Sweep the learning rate of one stage, and train nothing.",
    "run": "Run a recipe into a run folder.",
    "predict": "Predict images, or the rows of tables, with a finished run.",
}
_TAKE_OVERRIDES = ("check", "explain", "show-batch", "lr-find", "run")


def build_parser(functions: Mapping[str, Command]) -> argparse.ArgumentParser:
    """Build the parser of all commands.

    Args:
        functions: What each command does with its options, by name.

    Returns:
        A parser whose options have ``function`` and ``takes_overrides``.
    """
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
        command.set_defaults(function=functions[name], takes_overrides=name in _TAKE_OVERRIDES)
        if name not in ("ls", "predict"):
            command.add_argument("recipe", nargs="?" if name == "run" else None, help=_RECIPE)
            command.add_argument(
                "--variant", metavar="NAME", help="take this variant of the recipe"
            )
        found[name] = command
    found["copy"].add_argument("folder", type=Path, help="where the copy goes")
    _add_stage_options(found["show-batch"], found["lr-find"])
    _add_run_options(found["run"])
    _add_predict_options(found["predict"])
    return parser


def _add_stage_options(show_batch: argparse.ArgumentParser, find: argparse.ArgumentParser) -> None:
    show_batch.add_argument("--stage", help="name of the stage (default: the first that augments)")
    show_batch.add_argument("--out", type=Path, default=Path("batch.png"), help="PNG to write")
    find.add_argument("--stage", required=True, help="name of the stage")
    find.add_argument(
        "--run", type=Path, metavar="RUN_DIR", help="start from the stage before in this run"
    )
    find.add_argument("--out", type=Path, help="folder (default: runs/NAME-lr-find)")


def _add_run_options(run: argparse.ArgumentParser) -> None:
    run.add_argument("--out", type=Path, help="run folder (default: runs/NAME)")
    run.add_argument("--resume", type=Path, metavar="DIR", help="go on with an interrupted run")
    run.add_argument("--fast-dev-run", action="store_true", help="one batch of everything")
    run.add_argument(
        "--tta",
        action="store_true",
        help="evaluate with test-time augmentation: what the recipe says of it, or 4 views of the"
        " training augmentation; --evaluation.tta.preset=flips for others",
    )


def _add_predict_options(predict: argparse.ArgumentParser) -> None:
    predict.add_argument(
        "run_folder", type=Path, metavar="RUN_DIR", help="folder of a finished run"
    )
    predict.add_argument(
        "--with",
        dest="with_runs",
        type=Path,
        action="append",
        metavar="RUN_DIR",
        help="another run whose predictions are averaged with the first's; may be given again",
    )
    predict.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="files or folders; tables, or a pattern such as 'months/*.csv'",
    )
    predict.add_argument(
        "--tta",
        action=argparse.BooleanOptionalAction,
        help="predict with test-time augmentation, or without (default: as the run was evaluated)",
    )
    predict.add_argument("--out", type=Path, required=True, help="CSV to write")


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take ``--key.path=value`` and ``--key.path value`` out of the words after ``fastrecipes``.

    Returns:
        The other words, and the overrides as ``key.path=value``.

    Raises:
        RecipeError: If an override has no value.
    """
    rest: list[str] = []
    overrides: list[str] = []
    remaining = iter(words)
    for word in remaining:
        if not _OVERRIDE.match(word):
            rest.append(word)
            continue
        if "=" not in word:
            value = next(remaining, None)
            if value is None:
                raise RecipeError(f"`{word}` needs a value: `{word}=...`.")
            word = f"{word}={value}"
        overrides.append(word.removeprefix("--"))
    return rest, overrides


def check_overrides(options: argparse.Namespace) -> None:
    """Refuse overrides of a command that takes none.

    Raises:
        RecipeError: If there are some.
    """
    if options.overrides and not options.takes_overrides:
        raise RecipeError(
            f"`{options.command}` takes no overrides, but got `--{options.overrides[0]}`."
        )
