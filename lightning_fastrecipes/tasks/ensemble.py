"""Several trained models that predict as one."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import move_data_to_device
from lightning_fastrecipes.batches import inputs_of
from lightning_fastrecipes.errors import ConfigurationError, DataError, DataNotFoundError
from lightning_fastrecipes.functional.images.resizing import nearest_multiple
from lightning_fastrecipes.functional.labels.classes import columns_by_name
from lightning_fastrecipes.functional.labels.merging import (
    Merge,
    merge_predictions,
    stack_predictions,
)
from lightning_fastrecipes.functional.tables.spec import TableSpec
from lightning_fastrecipes.functional.tables.target import SpecTask
from lightning_fastrecipes.nn.label_rules import LabelRules, Labels, SingleLabel, label_rules
from lightning_fastrecipes.nn.probing import taken_sizes
from lightning_fastrecipes.nn.weights import read_checkpoint
from lightning_fastrecipes.protocols import ClassKind, HasInputSpec
from lightning_fastrecipes.tasks.base import CHECKPOINT_KEY
from lightning_fastrecipes.tasks.image import ImageClassifier
from lightning_fastrecipes.tasks.multi_target import TabularMultiTarget
from lightning_fastrecipes.tasks.numbers import PredictsNumbers
from lightning_fastrecipes.tasks.tabular import TabularClassifier, TabularRegressor

_TABLE_TASKS: dict[SpecTask, type[pl.LightningModule]] = {
    "regression": TabularRegressor,
    "classes": TabularClassifier,
    "several": TabularMultiTarget,
}
Member = nn.Module | str | Path | Callable[[], nn.Module]
"""A model, a Lightning checkpoint of one, or a function that loads one."""


class Ensemble(pl.LightningModule):
    """Predict with several models of the same classes or number: snapshots, seeds, other backbones.

    ``forward`` and ``Trainer.predict`` hold all members in memory; ``predict`` runs one member
    after the other over all batches and holds one at a time. Members are not trained any further.
    Classes are matched by name, so that members may have them in different orders. Each member
    normalises ``uint8`` images by itself; all get them resized and cropped as the datamodule does,
    or else as the first member expects. Numbers are averaged in the units of the data.

    Args:
        members: At least one model, checkpoint path, or function that loads a model.
        merge: Mean of the members' probabilities, or of their logits; of numbers the mean.
        task: The class that checkpoints are loaded as; for checkpoints of tables the one that their
            target needs, else ``ImageClassifier``, if not given.

    Raises:
        ValueError: If there is no member, or no such merge.
        DataNotFoundError: If a checkpoint is missing.

    Example:
        >>> ensemble = Ensemble([nn.Identity(), nn.Softmax(dim=1)])
        >>> ensemble(torch.tensor([[2.0, 0.0]])).softmax(dim=1)
        tensor([[0.7812, 0.2188]])

    References:
        Huang et al., *Snapshot Ensembles: Train 1, get M for free* (2017); fast.ai course of 2018,
        lesson 2.
    """

    def __init__(
        self,
        members: Sequence[Member],
        merge: Merge = "probabilities",
        task: type[pl.LightningModule] | None = None,
    ) -> None:
        super().__init__()
        if not members:
            raise ValueError("`members` must hold at least one model, got none.")
        merge_predictions([torch.ones(1, 1)], merge)
        self.merge = merge
        self.task = task
        for member in members:
            if isinstance(member, (str, Path)) and not Path(member).is_file():
                raise DataNotFoundError(f"There is no checkpoint {member}. Name one that is there.")
        self._members = tuple(members)
        self.models: nn.ModuleList | None = None
        self.classes: list[str] | None = None
        self.label_kind: ClassKind | None = None
        self._names: list[str] | None = None
        # What turns logits into predictions and back: label rules, or a task for numbers.
        self._output: LabelRules | PredictsNumbers | None = None

    def __len__(self) -> int:
        return len(self._members)

    @override
    def forward(self, inputs: Any) -> Tensor:
        """Return logits of the merged predictions; for numbers, in transformed units."""
        merged = self._merged(self._predictions(model, inputs) for model in self._all_members())
        return self._rules(merged).logits(merged)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return softmax, with several labels sigmoid; or numbers in the units of the data."""
        return self._rules(logits).probabilities(logits)

    def nearest_image_size(self, size: int) -> int:
        """Round an image size to one that every member takes; a ValueError if there is none."""
        models = self._all_members()
        specs = [model.input_spec for model in models if isinstance(model, HasInputSpec)]
        nearest = nearest_multiple(size, math.lcm(*(spec.size_multiple for spec in specs)))
        for model in models:
            if taken_sizes(model, [nearest]) != [nearest]:
                raise ValueError(
                    f"Every member must take images of {nearest} x {nearest} px, but"
                    f" {type(model).__name__} does not. Give another size."
                )
        return nearest

    @override
    def setup(self, stage: str) -> None:
        """Load the members before the strategy moves them to its device."""
        if stage == "fit":
            raise ConfigurationError(
                "An ensemble is not trained. Fit its members, and predict with it."
            )
        pl.refuse_shards(type(self).__name__, self.trainer)
        self._all_members()

    @override
    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self.probabilities(self(inputs_of(batch)))

    def predict(
        self,
        loader: Iterable[Any],
        device: torch.device | str | None = None,
        *,
        members: bool = False,
    ) -> Tensor:
        """Predict all batches with one member in memory at a time.

        Args:
            loader: Batches of inputs, or of inputs and more, in the same order for each member.
            device: Where to compute; a CUDA device if there is one, else the CPU, if ``None``.
            members: Whether to return what each member predicts, in place of the merged prediction.

        Returns:
            Probabilities in the order of the loader, ``(rows, num_classes)``; of numbers
            ``(rows,)``, or ``(rows, outputs)`` of several, in the units of the data. With
            ``members`` a first axis more, one entry per member; classes are in the order of the
            first.

        Raises:
            DataError: If the loader shuffles, yields its batches only once, or yields none.
        """
        _check_order(loader)
        default = "cuda" if torch.cuda.is_available() else "cpu"
        where = torch.device(device or default)
        # No name is bound to a member, so that each is gone before the next one is loaded.
        predictions = (self._predict_all(self._loaded(m), loader, where) for m in self._members)
        return stack_predictions(predictions) if members else self._merged(predictions)

    def _merged(self, predictions: Iterator[Tensor]) -> Tensor:
        first = next(predictions)  # from which on the kind of labels is known
        is_multi_label = self.label_kind == "multi"
        return merge_predictions(
            chain([first], predictions), self.merge, multi_label=is_multi_label
        )

    def _predict_all(self, model: nn.Module, loader: Iterable[Any], device: torch.device) -> Tensor:
        home = next((parameter.device for parameter in model.parameters()), device)
        model.to(device)
        with torch.inference_mode():
            chunks = [
                self._predictions(model, move_data_to_device(inputs_of(b), device)).cpu()
                for b in loader
            ]
        # A model that the user holds must not stay on the device beside the next one.
        model.to(home)
        if not chunks:
            raise DataError("The loader must give at least one batch, but gave none.")
        return torch.cat(chunks)

    @torch.inference_mode(False)
    def _loaded(self, member: Member) -> nn.Module:
        """Load a member outside of inference mode, in which it could not be used afterwards."""
        if isinstance(member, (str, Path)):
            task = self.task or _task_of(member)
            try:
                loaded = task.load_from_checkpoint(member, map_location="cpu", weights_only=True)
            except TypeError as error:
                cure = "Give its class as `task`, or a function that loads the model as the member."
                raise ConfigurationError(
                    f"`{member}` cannot be loaded as {task.__name__}: {error}. {cure}"
                ) from error
            return loaded.eval()
        return (member if isinstance(member, nn.Module) else member()).eval()

    def _all_members(self) -> nn.ModuleList:
        """Load all members, once."""
        if self.models is None:
            self.models = nn.ModuleList(map(self._loaded, self._members)).to(self.device)
            specs = [model.input_spec for model in self.models if isinstance(model, HasInputSpec)]
            # Images stay as they are for members that all normalise them, each in its own way.
            if len(specs) == len(self.models):
                self.input_spec = specs[0]
        return self.models

    def _predictions(self, model: nn.Module, inputs: Any) -> Tensor:
        try:
            logits = cast(Tensor, model(inputs)).float()
        except RuntimeError as error:
            is_raw = isinstance(inputs, Tensor) and inputs.dtype == torch.uint8
            if not is_raw or isinstance(model, HasInputSpec):
                raise
            raise ConfigurationError(
                f"{type(model).__name__} must get normalised images, but the loader gives `uint8`"
                " ones. Give `float_dataloader('test')` of the datamodule, or let a trainer predict"
                " with `datamodule=`."
            ) from error
        if isinstance(model, PredictsNumbers):
            if self.merge != "probabilities":
                raise ConfigurationError(
                    f"`merge` must be 'probabilities' for numbers, which are averaged as they are,"
                    f" got '{self.merge}'. Leave it out."
                )
            names = model.number_names
            self._refuse_others(self.label_kind is not None or self._names not in (None, names))
            self._names, self._output = names, self._output or model
            return model.probabilities(logits)
        self._refuse_others(self._names is not None)
        kind: ClassKind = getattr(model, "label_kind", "single")
        self.label_kind = self.label_kind or kind
        if (kind == "multi") != (self.label_kind == "multi"):
            raise ConfigurationError(
                f"All members must have labels of one kind, but there are '{self.label_kind}' and"
                f" '{kind}'. Leave some out."
            )
        decide = getattr(model, "probabilities", None)
        found: Tensor = decide(logits) if callable(decide) else logits.softmax(dim=1)
        classes = getattr(model, "classes", None)
        if classes is None:
            return found
        self.classes = self.classes or list(classes)
        return found[:, columns_by_name(self.classes, classes)]

    def _refuse_others(self, differ: bool) -> None:
        if differ:
            raise ConfigurationError(
                "All members must predict the same numbers, or all classes, but they differ. Leave"
                " some out."
            )

    def _rules(self, values: Tensor) -> LabelRules | PredictsNumbers:
        if self._output is None and self.label_kind is not None:
            self._output = label_rules(self.label_kind, values.shape[-1], Labels())
        return self._output or SingleLabel(values.shape[-1])


def _task_of(checkpoint: str | Path) -> type[pl.LightningModule]:
    """Return the class whose checkpoint it is, as far as it says so."""
    saved = read_checkpoint(checkpoint, mmap=True).get(CHECKPOINT_KEY)
    if saved is None:
        raise ConfigurationError(
            f"`{checkpoint}` cannot be loaded as ImageClassifier, since it is of no task of this"
            " package. Give its class as `task`, or a function that loads the model as the member."
        )
    spec = saved.get("table_spec") if isinstance(saved, Mapping) else None
    return ImageClassifier if spec is None else _TABLE_TASKS[TableSpec.from_dict(spec).task]


def _check_order(loader: Iterable[Any]) -> None:
    if isinstance(loader, Iterator):
        raise DataError(
            "The batches are gone through once for each member, but an iterator gives them only"
            " once. Give the loader itself, or a list of batches."
        )
    sampler = getattr(loader, "sampler", None)
    if isinstance(loader, DataLoader) and isinstance(sampler, RandomSampler):
        raise DataError(
            "The rows of all members must be those of the same inputs, but the loader shuffles."
            " Give one with `shuffle=False`."
        )
