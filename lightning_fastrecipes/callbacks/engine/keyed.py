"""Callbacks of which a trainer may have several of one class."""

from inspect import signature
from typing import Any

from lightning_fastrecipes import _lightning as pl


class KeyedCallback(pl.OwnCallback):
    """A callback whose state stands in checkpoints under a key by its arguments."""

    _key = ""

    @property
    def state_key(self) -> str:
        """The key of its state in a checkpoint, by its arguments: a trainer may have several."""
        return self._key or type(self).__qualname__

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the only state of this class where its arguments, or its key, were others."""
        states, name = checkpoint.get("callbacks", {}), type(self).__qualname__
        alike = [key for key in states if str(key).partition("{")[0] == name]
        if self.state_key not in states and len(alike) == 1:
            states[self.state_key] = states[alike[0]]

    def _set_key(self, **arguments: object) -> None:
        """Set the ``state_key``: the class, and those arguments that differ from their defaults."""
        defaults = signature(type(self)).parameters
        given = {k: v for k, v in arguments.items() if v != defaults[k].default}
        name = type(self).__qualname__
        self._key = f"{name}{given}" if given else name
