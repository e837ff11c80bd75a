"""Load the checkpoint of a task, which may come from a stranger."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from lightning_fastrecipes._lightning import CLASS_PATH, LightningModule
from lightning_fastrecipes.errors import ConfigurationError, DataError, DataNotFoundError
from lightning_fastrecipes.messages import bounded, shown
from lightning_fastrecipes.nn.sized_building import bounded_by
from lightning_fastrecipes.nn.weights import read_checkpoint
from lightning_fastrecipes.old_names import translate_hparams
from lightning_fastrecipes.plain import anything, modest, named
from lightning_fastrecipes.trust import Trust, check_architecture

_SIZES = {"backbone", "head", "num_groups", "network", "layers", "num_classes"}
_LARGEST_SIZE = 1_000_000
_RAISED = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError)


@contextmanager
def safe_loading(
    name: str, checkpoint: Any, args: Sequence[Any], given: Mapping[str, Any], trust: Trust
) -> Iterator[dict[str, Any]]:
    """Yield arguments to load a checkpoint with: those in it, checked, and those ``given`` by name.

    ``name`` is that of the task's class. Within, networks are bounded by the weights in the file,
    unless modules are trusted, and what fails is raised as a `DataError` with its cause.
    """
    arguments, state = _trusted_arguments(name, checkpoint, args, given, trust)
    try:
        with nullcontext() if trust else bounded_by(state):
            yield arguments
    except (ConfigurationError, DataError, DataNotFoundError):
        raise
    except (
        TypeError,
        ValueError,
        LookupError,
        ArithmeticError,
        AttributeError,
        RuntimeError,
    ) as error:
        said = bounded(" ".join(str(error).split()), 500)
        raise DataError(
            f"The checkpoint {shown(str(checkpoint))} does not fit `{name}`: {said}. Load it with"
            " the class, and the arguments, that it was written with. A model of other classes"
            " takes its backbone by `weights`."
        ) from error


def _trusted_arguments(
    name: str, checkpoint: Any, args: Sequence[Any], given: Mapping[str, Any], trust: Trust
) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return the arguments of a task in a checkpoint, checked, and those that are given by name.

    Beside them the state dict is returned. Nothing is unpickled unless ``weights_only=False`` is
    given.
    """
    if "hparams_file" in given or len(args) > 1:
        raise ConfigurationError("`hparams_file` must be left out. Give its values by name.")
    safe = given.get("weights_only") is not False
    is_open = hasattr(checkpoint, "seek")
    saved = (
        read_checkpoint(checkpoint, mmap=not is_open)
        if safe
        else torch.load(checkpoint, "cpu", weights_only=False, mmap=not is_open)
    )
    if is_open:
        checkpoint.seek(0)
    hparams: dict[str, Any] = {}
    # Lightning reads the keys of its earlier versions as well, and drops what no constructor takes.
    for key in ("hparams", "module_arguments", LightningModule.CHECKPOINT_HYPER_PARAMS_KEY):
        named(anything)(saved.get(key) or {}, key)
        hparams |= saved.get(key) or {}
    _check_class(name, hparams.pop(CLASS_PATH, name), trust)
    today = check_architecture(translate_hparams(name, hparams), trust)
    for key in _SIZES & set(today):
        # A network may count up to a number before it has any part that could be counted.
        modest(_LARGEST_SIZE)(today[key], key)
    return {**today, **given, "weights_only": safe}, saved.get("state_dict") or {}


def _check_class(name: str, named_class: Any, trust: Trust) -> None:
    """Refuse another class than that which loads, unless it is trusted."""
    if not isinstance(named_class, str) or named_class.rpartition(".")[2] != name:
        check_architecture({CLASS_PATH: named_class}, trust)
