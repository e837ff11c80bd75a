"""What fast.ai's attributes of learners and data are called here, said where one is asked for."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning_fastrecipes.messages import suggestion

_FIT = "`Trainer(max_epochs=..., callbacks=[{}]).fit(model, datamodule=data)`"
_PREDICT = "`fr.load(model).predict(items)`"
_OF_LEARNERS: Mapping[str, str] = {
    "TTA": "`TestTimeAugmentation()` in a `Trainer`",
    "bn_freeze": "`norm_policy` of the model",
    "dls": "the datamodule",
    "export": "`fr.export(model, folder)`",
    "fine_tune": "`fr.fine_tune(model, data, epochs=...)`",
    "fit": _FIT.format("SGDR(cycle_len=1)"),
    "fit_flat_cos": _FIT.format("FlatCosine()"),
    "fit_one_cycle": _FIT.format("OneCycle()"),
    "fit_sgdr": _FIT.format("SGDR(cycle_len=1, cycle_mult=2)"),
    "get_layer_groups": "`model.layer_groups()`",
    "get_preds": _PREDICT,
    "load": "the class method `load_from_checkpoint(path)`",
    "lr_find": "`fr.lr_find(model, data)`",
    "opt_func": "`optim=Optim(optimizer=...)` of the model",
    "precompute": "`FeatureDataModule(data, model)`",
    "predict": _PREDICT,
    "predict_array": _PREDICT,
    "recorder": "`EpochTable()` in a `Trainer`, and `curves.png` of a run",
    "save": "`trainer.save_checkpoint(path)`",
    "sched": "`fr.lr_find(model, data).plot(path)`, and `SGDR(...).plot(...)`",
    "show_results": "`fr.load(model).show_results(items)`",
    "summary": "`fr.summary(model, batch)`",
    "to_fp16": '`Trainer(precision="16-mixed")`',
    "tta": "`TestTimeAugmentation()` in a `Trainer`",
    "validate": "`Trainer().validate(model, datamodule=data)`",
}
_OF_DATA: Mapping[str, str] = {
    "c": "`len(data.classes)`",
    "dls": "the datamodule itself",
    "dataloaders": "the datamodule itself, for `Trainer.fit(model, datamodule=data)`",
    "one_batch": "`next(iter(data.train_dataloader()))` after `data.setup('fit')`",
    "show": "`data.show_batch()`",
    "test_dl": _PREDICT,
    "train_dl": "`data.train_dataloader()` after `data.setup('fit')`",
    "train_ds": "`data.train_dataloader().dataset` after `data.setup('fit')`",
    "trn_dl": "`data.train_dataloader()` after `data.setup('fit')`",
    "trn_ds": "`data.train_dataloader().dataset` after `data.setup('fit')`",
    "val_dl": "`data.val_dataloader()` after `data.setup('fit')`",
    "val_ds": "`data.val_dataloader().dataset` after `data.setup('fit')`",
    "valid": "`data.val_dataloader()` after `data.setup('fit')`",
    "valid_ds": "`data.val_dataloader().dataset` after `data.setup('fit')`",
    "vocab": "`data.classes`",
}


class _MissingError(AttributeError):
    """Names what was meant once it is read: ``hasattr``, which asks often, reads nothing."""

    def __init__(self, said: str, name: str, owner: object, ours: Mapping[str, str]) -> None:
        super().__init__(said, name=name)  # without `obj`, for which Python adds a word of its own
        self._owner, self._ours = type(owner), ours

    def __str__(self) -> str:
        name = str(self.name)
        if name in self._ours:
            return f"{self.args[0]}. fast.ai's `{name}` is here: {self._ours[name]}."
        meant = suggestion(name, [one for one in dir(self._owner) if not one.startswith("_")])
        return f"{self.args[0]}.{meant}" if meant else str(self.args[0])

    def __reduce__(self) -> tuple[type[AttributeError], tuple[str]]:
        return AttributeError, (str(self),)


# Tracebacks show the name that people know.
_MissingError.__module__, _MissingError.__qualname__ = "builtins", "AttributeError"


class AnswersAsLearner:
    """A module that says, of an attribute that fast.ai's learners have, what it is here.

    Of one that nearly is an attribute it says which. ``hasattr`` stays false, and what a subclass
    calls by one of these names is its own.
    """

    if not TYPE_CHECKING:  # what type checkers know of attributes stays as it is

        def __getattr__(self, name: str) -> Any:
            """Find parameters, buffers and parts as torch does, or raise an error that helps."""
            try:
                return super().__getattr__(name)
            except AttributeError as error:
                if hasattr(type(self), name):  # a property, in which something else is missing
                    raise
                raise _MissingError(str(error), name, self, _OF_LEARNERS) from None


class AnswersAsData:
    """A datamodule that says, of an attribute that fast.ai's data have, what it is here."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Raise an error that helps, or the one that led here."""
            try:
                return object.__getattribute__(self, name)
            except AttributeError as error:
                if hasattr(type(self), name):
                    raise
                raise _MissingError(str(error), name, self, _OF_DATA) from None
