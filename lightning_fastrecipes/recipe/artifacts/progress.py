"""What a run was started with and which of its stages are trained, for ``--resume``."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lightning_fastrecipes import plain
from lightning_fastrecipes.data.common.files import write_json
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.old_names import translate_recipe
from lightning_fastrecipes.recipe.artifacts.reading import RUN_CURE, named_errors, read_state
from lightning_fastrecipes.recipe.artifacts.run_folder import BEGUN, RunFolder
from lightning_fastrecipes.recipe.config.documents import read_document

_PLACE = plain.keys({"epoch": plain.whole(0), "global_step": plain.whole(0)})


@dataclass
class Progress:
    """The content of ``progress.json``.

    ``recipe`` is the document that the run was started or continued with; ``stages`` are the
    figures of the trained stages, with ``max_epochs``, what they were trained for, and ``epochs``,
    how many that were. ``seeds_first`` says whether a step is seeded before its callbacks draw:
    runs that earlier versions began draw first, and go on so. ``threads`` is how many PyTorch
    computed on when the run began; earlier versions did not note it.
    """

    recipe: dict[str, Any] | None = None
    stages: list[dict[str, Any]] = field(default_factory=list)
    seeds_first: bool = True
    threads: int | None = None

    def write(self, folder: RunFolder) -> None:
        """Write it into a run folder."""
        write_json(folder.progress, asdict(self))


def read_progress(folder: RunFolder) -> Progress:
    """Read the progress of a run, empty if there is none.

    Earlier versions did not note the recipe, which is then that of ``recipe.yaml``.
    """
    found = folder.read_progress() if folder.progress.is_file() else {}
    document = found.get("recipe")
    if document is not None:
        with named_errors(folder.progress, RUN_CURE):
            document = translate_recipe(document)
    elif folder.recipe.is_file():
        document = read_document(folder.recipe)
    stages = list(found.get("stages", []))
    known = (document or {}).get("stages") or {}
    with named_errors(folder.progress, RUN_CURE):
        plain.named(plain.maybe(plain.named(plain.anything)))(known, "recipe.stages")
    for figures in stages:
        planned = known.get(figures["name"]) or {}
        figures.setdefault("max_epochs", planned.get("max_epochs"))
    seeds_first = bool(found.get("seeds_first", not found))
    return Progress(document, stages, seeds_first, found.get("threads"))


def trained_epochs(path: Path) -> int:
    """Return how many whole epochs the checkpoint of a stage has behind it.

    Raise `RecipeError` if there is none, `DataError` if it cannot be read.
    """
    if not path.is_file():
        stage = path.name.partition(".")[0]
        raise RecipeError(
            f"{path} is missing, the weights and the optimizer of the stage {stage!r}. Start anew"
            " in another folder."
        )
    is_begun = path.name.endswith(BEGUN)
    return int(read_state(path, _PLACE, RUN_CURE)["epoch"]) + (not is_begun)


def latest_checkpoint(folder: RunFolder, stage: str) -> Path:
    """Return from where a stage goes on: the end of an epoch, or the midst of a later one.

    Raise `DataError` if there are both, and one cannot be read.
    """
    ended, begun = folder.checkpoint(stage), folder.begun_epoch(stage)
    if not begun.is_file():
        return ended
    if not ended.is_file():
        return begun
    steps = [read_state(path, _PLACE, RUN_CURE)["global_step"] for path in (ended, begun)]
    return begun if steps[1] > steps[0] else ended
