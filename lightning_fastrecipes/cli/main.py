"""The ``fastrecipes`` command: list, read, copy, check, explain and run recipes, and predict.

Each command imports what it needs, so that `fastrecipes ls` and `--help` start without torch.
"""

import argparse
import json
import logging
import os
import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from lightning_fastrecipes.cli import automatic, browsing, searching
from lightning_fastrecipes.cli.dead_processes import DeathWatch
from lightning_fastrecipes.cli.interruptions import (
    TerminatedError,
    ended_by_sigterm,
    interruption,
)
from lightning_fastrecipes.cli.loading import load_one_recipe, load_recipe_of
from lightning_fastrecipes.cli.output import check_finished, check_place, err, out, print_json
from lightning_fastrecipes.cli.parser import parse_words
from lightning_fastrecipes.cli.report_commands import (
    clean,
    look,
    report,
    report_on_run,
    said_finished,
)
from lightning_fastrecipes.cli.run_folder import (
    RUN_FOLDER_VARIABLE,
    goes_on,
    only_run_in,
    run_folder,
)
from lightning_fastrecipes.errors import (
    ConfigurationError,
    DataError,
    DataNotFoundError,
    RecipeError,
)

if TYPE_CHECKING:
    from lightning_fastrecipes.recipe.run.runner import Run

OK, FAILED, BAD_USAGE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
_FIGURES = (".png", ".jpg", ".pdf", ".svg")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after ``fastrecipes``; the process's own if ``None``.

    Returns:
        0 if all went well, 1 if the work failed, 2 if the command or the recipe is wrong; 130 if it
        was interrupted (SIGINT), 143 if it was terminated (SIGTERM).
    """
    try:
        options = parse_words(sys.argv[1:] if arguments is None else arguments)
        return _COMMANDS[options.command](options)
    except SystemExit as error:  # argparse, and Lightning when interrupted
        return error.code if isinstance(error.code, int) else FAILED
    except (RecipeError, DataError, DataNotFoundError, ConfigurationError) as error:
        err.print(f"fastrecipes: {error}", style="red")
        return BAD_USAGE if isinstance(error, RecipeError) else FAILED
    except OSError as error:  # a disk that is full, a folder that was taken away
        place = f": {error.filename}" if error.filename else ""
        err.print(f"fastrecipes: {error.strerror or error}{place}", style="red")
        return FAILED
    except KeyboardInterrupt:
        err.print("fastrecipes: interrupted", style="red")
        return INTERRUPTED


def _say(text: object) -> None:
    out.print(text)


def _check(options: argparse.Namespace) -> int:
    recipe = load_recipe_of(options)
    from lightning_fastrecipes.recipe.artifacts.logs import keep_quiet
    from lightning_fastrecipes.recipe.run.checks import check_without_data

    keep_quiet(err)
    check_without_data(recipe)
    if options.json:
        stages = [stage.name for stage in recipe.stages]
        print_json({"recipe": recipe.path, "stages": stages, "variants": list(recipe.variants)})
        return OK
    variants = f"{len(recipe.variants)} variants of " if recipe.variants else ""
    unread = "the data were not read: `fastrecipes explain` reads them"
    out.print(f"{recipe.path}: fine ({variants}{len(recipe.stages)} stages); {unread}")
    return OK


def _explain(options: argparse.Namespace) -> int:
    recipe = load_recipe_of(options)
    from lightning_fastrecipes.life_signs import duration
    from lightning_fastrecipes.recipe.artifacts.logs import keep_quiet
    from lightning_fastrecipes.recipe.run import explaining, plan, terminal

    keep_quiet(err)
    console = Console(quiet=True) if options.json else out
    console.print(f"{recipe.name}: {recipe.description}")
    if recipe.variants and not recipe.series:
        console.print(f"Variants (`--variant NAME`): {', '.join(recipe.variants)}")
    told = []
    for name, planned in recipe.variants.items() if recipe.series else [(None, recipe)]:
        data, model = plan.build_parts(planned)
        stages = plan.plan_stages(planned, data, model)
        values = explaining.as_values(planned, data, model, stages)
        if name is not None:
            console.print(f"Variant {name}, models: {planned.num_models}")
        terminal.print_data(console, planned, data, model)
        whole = 0.0
        for place, stage in enumerate(stages):
            terminal.print_plan(console, stage)
            if options.time:
                seconds = explaining.stage_seconds(planned, data, model, place)
                values["stages"][place]["seconds"] = round(seconds, 1)
                whole += seconds
                console.print(f"about {duration(seconds)} on this machine, measured on two steps")
        console.print(values["evaluation"])
        if options.time:
            seconds = explaining.evaluation_seconds(planned, data, model)
            values["evaluation_seconds"] = round(seconds, 1)
            run = duration(planned.num_models * whole + seconds)
            console.print(f"about {duration(seconds)}; the whole run about {run}, without decoding")
        told.append(values)
    if options.json:
        print_json(told if recipe.series else told[0])
    return OK


def _summary(options: argparse.Namespace) -> int:
    recipe = load_one_recipe(options)
    from lightning_fastrecipes.recipe.artifacts.logs import keep_quiet
    from lightning_fastrecipes.recipe.run import plan, terminal

    keep_quiet(err)
    title, found = plan.summarise_stage(recipe, options.stage)
    if options.json:
        print_json({"model": title} | found.plain_values())
    else:
        terminal.print_summary(out, title, found)
    return OK


def _show_batch(options: argparse.Namespace) -> int:
    if options.out.name and not options.out.suffix and not os.path.exists(options.out):
        options.out = options.out.with_suffix(".png")
    check_place(options.out)
    if options.out.suffix.lower() not in _FIGURES:
        raise RecipeError(f"`--out` must end in {', '.join(_FIGURES)}, got {options.out}.")
    recipe = load_one_recipe(options)
    from lightning_fastrecipes.recipe.run.show_batch import show_batch, transforms_path

    beside = transforms_path(options.out)
    beside.unlink(missing_ok=True)
    stage = show_batch(recipe, options.stage, options.out)
    alone = f", each transform alone in {beside}" if beside.exists() else ""
    _say(f"Images of the stage {stage} in {options.out}{alone}")
    return OK


def _lr_find(options: argparse.Namespace) -> int:
    recipe = load_one_recipe(options)
    if options.stage is None:
        names = [stage.name for stage in recipe.stages]
        if len(names) > 1:
            raise RecipeError(f"Name the stage: `--stage={names[-1]}`. Stages: {', '.join(names)}.")
        options.stage = names[0]
    from lightning_fastrecipes.recipe.artifacts.environment import keep_freed_memory
    from lightning_fastrecipes.recipe.artifacts.logs import keep_quiet
    from lightning_fastrecipes.recipe.run.lr_search import find_stage_lr, write_curve
    from lightning_fastrecipes.recipe.run.terminal import print_curve

    folder = options.out or Path("runs") / f"{recipe.name}-lr-find"
    check_place(folder, is_folder=True)
    keep_freed_memory()
    keep_quiet(err)
    ends = options.min_lr, options.max_lr
    curve = find_stage_lr(recipe, options.stage, options.run, ends=ends)
    write_curve(curve, folder, options.stage)
    plot = folder / f"lr_finder_{options.stage}.png"
    if curve.suggestion is None:
        refusal = re.sub("`(min|max)_lr`", r"`--\1-lr`", curve.refusal or "")
        swept = f"It was swept from {curve.lrs[0]:.0e} to {curve.lrs[-1]:.0e}."
        err.print(f"fastrecipes: no suggestion: {refusal} {swept} See {plot}", style="red")
        return FAILED
    print_curve(out, curve, options.stage)
    found = f"Suggested lr: {curve.suggestion:.2e} ({curve.read_by}); {curve.describe_agreement()}"
    out.print(f"{found}; curve in {plot}")
    return OK


def _run(options: argparse.Namespace) -> int:
    folder = run_folder(options)
    # Lightning starts further processes with this command line; they must find the same folder.
    os.environ[RUN_FOLDER_VARIABLE] = str(folder)
    try:
        with ended_by_sigterm():
            return _run_into(folder, options)
    except TerminatedError:
        err.print("fastrecipes: terminated", style="red")
        return TERMINATED
    finally:
        os.environ.pop(RUN_FOLDER_VARIABLE)


def _train(run: "Run", console: Console) -> dict[str, Any]:
    from lightning_fastrecipes.recipe.run import terminal

    fold = f", {run.folder.path.name}" if run.recipe.is_fold else ""
    console.print(f"{run.recipe.name}{fold}: {run.recipe.description}")
    plans = run.prepare()
    terminal.print_data(console, run.recipe, run.data, run.model)
    for index, plan in enumerate(plans):
        if not (was_trained := run.is_trained(index)):
            terminal.print_plan(console, plan)
        figures = run.run_stage(index)
        terminal.print_stage(console, figures, run.time_left.seconds(), was_trained=was_trained)
    terminal.print_results(console, results := run.finish())
    return results


def _run_into(folder: Path, options: argparse.Namespace) -> int:
    options.recipe = options.recipe or str(folder / "recipe.yaml")
    recipe = load_recipe_of(options)
    from lightning_fastrecipes.recipe.artifacts import environment
    from lightning_fastrecipes.recipe.artifacts.deaths import named_death
    from lightning_fastrecipes.recipe.artifacts.history import last_epoch
    from lightning_fastrecipes.recipe.artifacts.logs import log_to
    from lightning_fastrecipes.recipe.run import terminal
    from lightning_fastrecipes.recipe.run.runner import Run, RunOptions
    from lightning_fastrecipes.recipe.run.series import Series

    if options.resume is not None and said_finished(recipe, folder, options.trust):
        return OK
    environment.keep_freed_memory()
    first = environment.is_first_process()
    kept = only_run_in(folder) if first else nullcontext()
    console = out if first else Console(quiet=True)
    more = f"Go on with: fastrecipes run --resume {folder}"

    def train(run: Run) -> dict[str, Any]:
        begun.append(run)
        watch.add(run)
        return _train(run, console)

    how = RunOptions(
        resume=goes_on(options) is not None, fast_dev_run=options.fast_dev_run, show_progress=first
    )
    begun: list[Run] = []
    watch = DeathWatch(folder)
    with kept:
        if first:
            log_to(folder / "log.txt", err)
        try:
            with watch:
                if recipe.has_many_runs:
                    series = Series(recipe, folder, **how)
                    series.check()
                    results = series.run_all(train)
                    show = terminal.print_variants if recipe.series else terminal.print_results
                    show(console, results)
                else:
                    train(Run(recipe, folder, **how))
        except Exception as error:
            logging.getLogger(__name__).exception("The run failed")
            if (found := named_death(error)) is not None:
                raise DataError(f"{found} {more}") from error
            raise
        except (KeyboardInterrupt, SystemExit) as error:
            if (ended := interruption(error)) is None:
                raise
            if first:
                place = last_epoch(begun[-1].folder) if begun else "before training"
                err.print(f"fastrecipes: {ended[0]} {place}. {more}", style="red")
            return ended[1]
    # Not after an error: leaving waits for exchanges that the others may never take part in.
    environment.leave_process_group()
    console.print(f"Written to {folder}")
    if first and not options.fast_dev_run:
        report_on_run(recipe, folder, options.trust)
    return OK


def _predict(options: argparse.Namespace) -> int:
    folders = [options.run_folder, *(options.with_runs or [])]
    for folder in folders:
        check_finished(folder)
    from lightning_fastrecipes.recipe.artifacts.environment import keep_freed_memory
    from lightning_fastrecipes.recipe.artifacts.logs import keep_quiet
    from lightning_fastrecipes.recipe.loading import modality_of_export
    from lightning_fastrecipes.recipe.run.terminal import print_predictions

    if options.out is not None:
        check_place(options.out)
    keep_freed_memory()
    keep_quiet(err)
    found = modality_of_export(folders[0]).predict(
        folders,
        options.paths,
        tta=options.tta,
        keep=options.keep,
        agreement=options.agreement,
        calibrated=options.calibrated,
        trust=options.trust,
    )
    if options.json:
        left_out = [{"file": name, "reason": reason} for name, reason in found.bad]
        rows = json.loads(found.table.to_json(orient="records", double_precision=15))
        print_json({"predictions": rows, "notes": list(found.notes), "left_out": left_out})
        return FAILED if found.bad else OK
    if options.out is None:
        if len(found.table):
            print_predictions(out, found.table)
    else:
        found.write(options.out)
        _say(f"{len(found.table)} predictions written to {options.out}")
    for line in found.notes:
        _say(line)
    for name, reason in found.bad:
        err.print(f"fastrecipes: {name}: {reason}; left out", style="red")
    return FAILED if found.bad else OK


def _backbones(options: argparse.Namespace) -> int:
    from lightning_fastrecipes.nn.backbone_table import backbones
    from lightning_fastrecipes.recipe.run.terminal import print_backbones

    print_backbones(out, backbones(options.name, measure=options.measure))
    return OK


_ALL = (_check, _explain, _summary, _show_batch, _lr_find, _run, _predict, _backbones)
_COMMANDS = {command.__name__[1:].replace("_", "-"): command for command in _ALL}
_COMMANDS |= {"report": report, "clean": clean, "look": look}
_COMMANDS |= {"auto": automatic.auto, "new": automatic.new, "search": searching.search}
_COMMANDS |= {"ls": browsing.ls, "show": browsing.show, "copy": browsing.copy}
_COMMANDS["completion"] = browsing.completion
