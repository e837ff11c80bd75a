"""Commands that look at recipes and run nothing, and the completion of a shell."""

import argparse
import sys
from importlib import import_module

from lightning_fastrecipes.cli.loading import load_recipe_of, say_path
from lightning_fastrecipes.cli.output import check_place, out, print_json
from lightning_fastrecipes.cli.parser import build_parser
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.messages import printable


def ls(options: argparse.Namespace) -> int:
    """List the recipes: what they do, on which data, how well and in how many seconds."""
    from lightning_fastrecipes.recipe.config.catalog import recipe_rows

    rows = recipe_rows()
    if options.json:
        print_json(rows)
        return 0
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        variants = row["variants"]
        more = f" Variants: {', '.join(variants)}." if variants else ""
        out.print(f"{row['name']:<{width}}  {row['description']}{more}")
        facts = {"data": row["data"], "result": row["result"], "seconds": row["seconds"]}
        told = "; ".join(f"{name}: {text}" for name, text in facts.items() if text)
        if told:
            out.print(f"{'':<{width}}  {told}", style="dim")
    return 0


def show(options: argparse.Namespace) -> int:
    """Print a recipe's card and file; on a terminal the card is laid out."""
    from lightning_fastrecipes.recipe.config.catalog import find_recipe
    from lightning_fastrecipes.recipe.config.documents import Place, dump_document, read_document
    from lightning_fastrecipes.recipe.config.overrides import check_names

    path = find_recipe(options.recipe)
    check_names(read_document(path), (), Place(path))
    if out.is_terminal:  # what a pipe gets is the file itself
        say_path(options.recipe, path)
    card = path.with_name("README.md")
    if card.is_file():
        text = card.read_text(encoding="utf-8")
        if out.is_terminal:
            from rich.markdown import Markdown

            out.print(Markdown(printable(text)), soft_wrap=False)
        else:
            out.print(text)
    named = None if options.variant is None else load_recipe_of(options, names_path=False)
    out.print(path.read_text(encoding="utf-8") if named is None else dump_document(named.source))
    return 0


def copy(options: argparse.Namespace) -> int:
    """Copy a recipe's folder, and print the line that runs the copy."""
    from lightning_fastrecipes.recipe.config.catalog import copy_recipe, write_notebook

    check_place(options.folder, "copy", is_folder=True)
    source = None if options.variant is None else load_recipe_of(options, names_path=False).source
    path = copy_recipe(options.recipe, options.folder, source)
    if options.notebook:
        out.print(f"The script as a notebook: {write_notebook(path.parent)}")
    out.print(f"Copied to {path.parent}. Edit {path}, then: fastrecipes run {path}")
    return 0


def completion(options: argparse.Namespace) -> int:
    """Print a script that completes the words of the command in a shell."""
    try:
        shtab = import_module("shtab")
    except ImportError as error:
        raise ConfigurationError(
            "The completion of a shell needs `shtab`:"
            " `pip install 'lightning-fastrecipes[completion]'`."
        ) from error
    parser, _ = build_parser()
    # Not by `out`, which would write out what a terminal acts upon.
    sys.stdout.write(shtab.complete(parser, options.shell) + "\n")
    return 0
