"""A small network as a spreadsheet, whose formulas compute what the network computes."""

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_fastrecipes.data.common.files import atomic_path
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.nn.layer_runs import is_layer
from lightning_fastrecipes.recipe.artifacts.export_files import member_folders
from lightning_fastrecipes.recipe.images.export import load_export
from lightning_fastrecipes.reporting.looks.served import served_image
from lightning_fastrecipes.reporting.looks.sheets import Block, Cell, Formulas, count_cells
from lightning_fastrecipes.trust import Trust

_MOST_CELLS = 400_000
_IDLE = (nn.Dropout, nn.Dropout2d, nn.Identity)


def trace(run: str | Path, image: str | Path, path: str | Path, *, trust: Trust = ()) -> Path:
    """Write a small network that sees an image as a spreadsheet with live formulas.

    Each layer is a sheet, its weights another; change a pixel or a weight, and every number behind
    it follows. The last sheet has the probabilities beside those of PyTorch.

    Args:
        run: A run folder, or an export. Of several models the first is taken.
        image: The image that the network sees.
        path: The ``.xlsx`` file to write.
        trust: Modules whose networks the export may name, besides those of known packages.

    Returns:
        ``path``.

    Raises:
        ConfigurationError: If ``openpyxl`` is not installed, or the network is too large (400,000
            cells), no row of layers, or has layers that no formula is known for.
        DataError: If the image cannot be read, or the run is not one of image classes.
    """
    pixels = served_image(run, image)
    model, _ = load_export(member_folders(Path(run))[0], trust=trust)
    if not hasattr(model, "num_classes"):
        raise DataError(f"{shown(str(run))} must predict classes of images, but predicts numbers.")
    return write_trace(model.cpu(), pixels, Path(path))


@torch.no_grad()
def write_trace(model: Any, images: Tensor, path: Path) -> Path:
    """Write what a classifier computes for a batch of one image, as :func:`trace` does."""
    try:
        openpyxl = import_module("openpyxl")
    except ImportError as error:
        raise ConfigurationError(
            "A spreadsheet needs `openpyxl`: `pip install 'lightning-fastrecipes[sheets]'`."
        ) from error
    model.eval()
    layers, start = _row_of_layers(model, images)
    book = openpyxl.Workbook()
    book.remove(book.active)

    sheets = dict[str, Any]()

    def put(sheet: str, row: int, column: int, cell: Cell) -> None:
        if sheet not in sheets:
            sheets[sheet] = book.create_sheet(sheet)
        sheets[sheet].cell(row, column, cell)

    formulas = Formulas(put)
    block = formulas.numbers(start[0] if start.ndim == 4 else start[:, :, None], "0 input")
    for number, layer in enumerate(layers, start=1):
        block = formulas.write(layer, block, f"{number} {type(layer).__name__}")
    _decide(put, block, model, model.probabilities(model(images))[0].tolist())
    for sheet in book:
        if "weights" not in sheet.title:
            _shade(openpyxl, sheet)
    with atomic_path(path) as place:
        book.save(place)
    return path


def _row_of_layers(model: nn.Module, images: Tensor) -> tuple[list[nn.Module], Tensor]:
    """Return the layers of a network without branches, and what the first of them takes."""
    seen: list[tuple[str, nn.Module, Tensor, Tensor]] = []
    names = {module: name for name, module in model.named_modules()}

    def note(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        seen.append((names[layer], layer, inputs[0].clone(), output.clone()))

    found = [layer for layer in model.modules() if is_layer(layer)]
    handles = [layer.register_forward_hook(note) for layer in found]
    try:
        last = model(images)
    finally:
        for handle in handles:
            handle.remove()
    used = [one for one in seen if not isinstance(one[1], _IDLE)]
    known, size = Formulas(lambda *_: None), sum(count_cells(one[1], one[3].shape) for one in used)
    for (name, layer, taken, _), (before, *_, given) in zip(used[1:], used, strict=False):
        if not torch.equal(taken.flatten(), given.flatten()):
            raise ConfigurationError(
                f"The network must be a row of layers, but '{name}' ({type(layer).__name__}) does"
                f" not take what '{before}' gives. Trace a `SmallCNN` or `SmallMLP`."
            )
    odd = next((one for one in used if not known.knows(one[1])), None)
    if odd or not used or not torch.allclose(last.flatten(), used[-1][3].flatten()):
        what = f"'{odd[0]}' is a {type(odd[1]).__name__}" if odd else "more than layers computes"
        raise ConfigurationError(
            f"Every layer must be one that a formula is known for, but {what}. Trace a `SmallCNN`"
            " or `SmallMLP`."
        )
    if size > _MOST_CELLS:
        raise ConfigurationError(
            f"The network must fit into {_MOST_CELLS:,} cells, but needs {size:,}. Train one with"
            " fewer channels or a smaller hidden layer."
        )
    return [layer for _, layer, *_ in used], used[0][2]


def _decide(put: Any, block: Block, model: Any, wanted: list[float]) -> None:
    """Write the probabilities as formulas, beside those that PyTorch computes."""
    names = getattr(model, "classes", None) or [str(place) for place in range(len(wanted))]
    count, sheet = block.shape[1], "probabilities"
    logits = [block.cell(0, place, 0) for place in range(count)]
    everything = block.window(0, range(count), range(1))
    for column, title in enumerate(("class", "here", "PyTorch", "difference"), start=1):
        put(sheet, 1, column, title)
    for place, (name, number) in enumerate(zip(names, wanted, strict=True)):
        if count == 1:  # one logit decides between two classes
            here = f"=1/(1+EXP({'-' if place else ''}{logits[0]}))"
        elif model.label_kind == "multi":
            here = f"=1/(1+EXP(-{logits[place]}))"
        else:
            above = f"EXP({everything}-MAX({everything}))"
            here = f"=EXP({logits[place]}-MAX({everything}))/SUMPRODUCT({above})"
        row = place + 2
        # A name is text, whatever it begins with.
        put(sheet, row, 1, f"\u200b{name}" if name[:1] in "=+-@" else name)
        put(sheet, row, 2, here)
        put(sheet, row, 3, number)
        put(sheet, row, 4, f"=B{row}-C{row}")


def _shade(openpyxl: Any, sheet: Any) -> None:
    """Show large numbers dark, in narrow columns, as the pixels that they are."""
    rules, letters = openpyxl.formatting.rule, openpyxl.utils.get_column_letter
    colours = rules.ColorScaleRule(
        start_type="min", start_color="FFFFFF", end_type="max", end_color="4472C4"
    )
    end = f"{letters(sheet.max_column)}{sheet.max_row}"
    sheet.conditional_formatting.add(f"A1:{end}", colours)
    width = 12 if sheet.title == "probabilities" else 6
    for column in range(1, sheet.max_column + 1):
        sheet.column_dimensions[letters(column)].width = width
