"""Models that are built for their data, early enough for callbacks that copy them."""

from contextlib import suppress
from typing import Any

import torch
from torch import nn
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.fastai_members import AnswersAsLearner


class BuiltForData(AnswersAsLearner, pl.LightningModule):
    """A module with a ``head`` that is an ``Identity`` until its data are known."""

    head: nn.Module

    def adopt_targets(self, datamodule: Any) -> None:
        """Take what is predicted from a datamodule, or compare it; subclasses say what it is."""

    def part_device(self) -> torch.device:
        """Return where new parts go: to the weights that are there, or where they would be made.

        In torch 2.6, Lightning's own ``device`` does not know of ``with torch.device("meta")``.
        """
        for tensor in (*self.parameters(), *self.buffers()):
            return tensor.device
        return torch.empty(0).device if self.device.type == "cpu" else self.device

    @override
    def configure_model(self) -> None:
        """Build the model before callbacks that average weights copy it."""
        with suppress(RuntimeError):  # Lightning's, without a trainer
            self.adopt_targets(pl.datamodule_of(self.trainer))

    @override
    def setup(self, stage: str) -> None:
        """Raise a ConfigurationError if a callback has copied the module before it was built."""
        callbacks = pl.callbacks_of(self.trainer)
        has_copied = any(isinstance(one, pl.StochasticWeightAveraging) for one in callbacks)
        if stage == "fit" and has_copied and isinstance(self.head, nn.Identity):
            raise ConfigurationError(
                f"`StochasticWeightAveraging` copies the {type(self).__name__} before it is built"
                " for its data. Give `spec` or `num_classes`, or take `EMAWeightAveraging`."
            )
