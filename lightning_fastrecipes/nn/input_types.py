"""Numbers of a user's own loader, in the type that a model computes in."""

from typing import Any

import torch
from torch import Tensor

from lightning_fastrecipes._lightning import rank_zero_info
from lightning_fastrecipes.errors import ConfigurationError


def as_floats(model: Any, values: Tensor, dtype: torch.dtype, wanted: str) -> Tensor:
    """Return float inputs in the type of the weights; NumPy makes ``float64``, which they are not.

    Args:
        model: The module that computes, which says once that inputs are rounded.
        values: What came.
        dtype: Of the weights.
        wanted: What must be, the first words of the error.

    Returns:
        The inputs; those of 16 bits as they are where autocast takes them.

    Raises:
        ConfigurationError: If they are not floats.
    """
    if values.dtype == dtype:
        return values
    if not values.is_floating_point():
        raise ConfigurationError(f"{wanted}, but the loader gives {values.dtype}.")
    is_double = values.dtype == torch.float64
    if not is_double and torch.is_autocast_enabled(values.device.type):
        return values
    if is_double and not torch.compiler.is_compiling() and not hasattr(model, "_has_told_type"):
        model._has_told_type = True
        rank_zero_info(
            f"The loader gives {values.dtype}; the model computes with {dtype}, as its weights are."
        )
    return values.to(dtype)
