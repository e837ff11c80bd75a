"""How a datamodule's images are to be normalised, measured once if asked to."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from typing import Any

from torch import Tensor

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import rank_zero_info
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.images.normalisation import (
    Normalize,
    given_spec,
    measured_spec,
)
from lightning_fastrecipes.protocols import InputSpec


class Normaliser:
    """Return specs with the mean and deviation that a ``Geometry`` asks for."""

    def __init__(self) -> None:
        self._measured: InputSpec | None = None

    def spec_for(
        self,
        spec: InputSpec,
        normalize: Normalize,
        load: Callable[[], Iterable[Any]],
        trainer: Any,
    ) -> InputSpec:
        """Return what a model expects of an image, with the mean and deviation that are wanted.

        A model whose spec is of training images already keeps it, since its weights expect that.
        The training images, in the batches that ``load`` returns, are read once, and only if they
        must be; of a trial of a few batches the first is.
        """
        if isinstance(normalize, dict):
            return given_spec(spec, normalize)
        if normalize == "weights" or spec.is_measured:
            return spec
        if self._measured is None or self._measured.normalize != normalize:
            is_trial = trainer is not None and pl.is_fast_dev_run(trainer)
            batches: Iterable[Tensor] = (batch[0] for batch in load())
            found = measured_spec(spec, islice(batches, 1 if is_trial else None), normalize)
            mean, std = (
                ", ".join(f"{v:.4f}" for v in values) for values in (found.mean, found.std)
            )
            image = " image, of mean" if found.mean_image is not None else ""
            rank_zero_info(
                f"Normalisation: mean{image} {mean}, deviation {std}, measured on"
                f" {'one batch' if is_trial else 'all'} of the training images."
            )
            self._measured = found
        found = self._measured
        return replace(
            spec,
            mean=found.mean,
            std=found.std,
            mean_image=found.mean_image,
            normalize=found.normalize,
        )

    def check_module(self, module: Any, normalize: Normalize) -> None:
        """Refuse to fit a module that normalises by itself, and cannot be told how."""
        if normalize != "weights" and not hasattr(module, "set_input_spec"):
            raise ConfigurationError(
                f"`normalize` must be 'weights' for {type(module).__name__}, which normalises"
                f" images by its own `input_spec`, got {normalize!r}. Give it a method"
                " `set_input_spec`, or leave `normalize` out."
            )
