"""A recipe that was written for some data, with the decisions behind it."""

import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.functional.decisions import Decision
from lightning_fastrecipes.messages import printable
from lightning_fastrecipes.recipe.config.documents import dump_document
from lightning_fastrecipes.recipe.config.schema import Recipe
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run.checks import check_without_data, refusal_of_data


@dataclass(frozen=True)
class Draft:
    """The document of a recipe, and what was decided, in the order in which it matters.

    ``has_other_scale`` says whether a number to be predicted could as well be learned by its
    logarithm, or without it, ``is_refused`` that a run does not take the data as they are.
    """

    document: dict[str, Any]
    decisions: list[Decision]
    has_other_scale: bool = False
    is_refused: bool = False

    def with_folds(self, count: int) -> Self:
        """Return it with a model for each of several folds; as it is if there are none."""
        return replace(self, document={**self.document, "folds": count}) if count else self

    def with_refusal(self, folder: Path) -> Self:
        """Return it with a first decision that says why a run would refuse its data, if it would.

        The data are read for that as a run reads them, and what is kept of them is kept for it.
        """
        why = refusal_of_data(self.recipe(folder / "recipe.yaml"))
        first = [Decision("refused", f"`fastrecipes run` will not train on these data. {why}")]
        return replace(self, decisions=first * bool(why) + self.decisions, is_refused=bool(why))

    @property
    def text(self) -> str:
        """The recipe as a file: the decisions as comments, then the keys."""
        lines = [
            line
            for decision in self.decisions
            # What YAML takes for the end of a line would end the comment.
            for line in textwrap.wrap(printable(f"# {decision}"), 100, subsequent_indent="#     ")
        ]
        return "\n".join([*lines, dump_document(self.document)])

    def recipe(self, path: Path) -> Recipe:
        """Return the recipe as it is read from a file, whether it is there yet or not.

        Raise `RecipeError` if it would not be taken.
        """
        return load_recipe(path, document=self.document)

    def write(self, folder: Path) -> Path:
        """Check the recipe, write it as ``recipe.yaml`` into a folder, and return its path."""
        path = folder / "recipe.yaml"
        check_without_data(self.recipe(path))
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, self.text)
        return path
