"""Test-time augmentation: the plain image and several views of it predict together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, cast, get_args

from torch import Tensor
from torchmetrics import Metric

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError, TrainerFn, rank_zero_info
from lightning_fastrecipes.callbacks.engine.keyed import KeyedCallback
from lightning_fastrecipes.callbacks.engine.view_metrics import (
    ViewMetrics,
    batch_images,
    images_and_targets,
    kind_with_targets,
    number_loss,
)
from lightning_fastrecipes.callbacks.engine.view_outputs import Outputs
from lightning_fastrecipes.callbacks.engine.view_prediction import ViewPredictor, losses_by_weight
from lightning_fastrecipes.errors import ConfigurationError, check_choice
from lightning_fastrecipes.functional.images.augment import Preset
from lightning_fastrecipes.functional.images.transform_list import TransformSpec
from lightning_fastrecipes.functional.images.views import DRAWN, ViewPreset, Views
from lightning_fastrecipes.functional.labels.merging import best_weight, weigh, weight_losses
from lightning_fastrecipes.functional.labels.targets import num_repeated_rows
from lightning_fastrecipes.protocols import (
    HasAugmentation,
)

MERGED = "probabilities_tta"
"""Where the merged probabilities are put in what ``validation_step`` and ``test_step`` return."""


class TestTimeAugmentation(KeyedCallback):
    """Predict with the plain image and ``n`` views of it, by the mean of probabilities or numbers.

    In ``Trainer.validate`` and ``Trainer.test``, metrics of the merged predictions are logged
    beside the plain ones: ``val_accuracy_tta`` beside ``val_accuracy``. ``Trainer.predict`` returns
    the merged probabilities. Each file is decoded once. Views of ``training`` are drawn by the
    loader of the datamodule, from the whole image and exactly as training images are, and come with
    the batch as bytes; all others are made on the device from the same batch, one after the other,
    so that memory does not grow with ``n``. What is drawn depends on the
    seed and the pixels of the plain image alone, so that an image is predicted alike alone and
    among others. See ``functional.images.views.Views`` for the presets.

    Thresholds of several labels are tuned in ``validate`` for the merged predictions, apart from
    the plain ones, and used by ``test``; they are in checkpoints, as a learned weight is.

    Works with any module whose ``forward`` takes images. What is averaged follows from the module's
    own method ``probabilities``; else from what ``predict_step`` makes of the plain output, its
    softmax or sigmoid, also within a dictionary or tuple; else from ``outputs``; else from numbers
    and targets that leave no doubt (rows that sum to 1, class indices). Other modules are refused.
    Maps that lie on their images are turned back; views that crop, zoom or rotate are refused for
    them. ``val_loss_tta`` is the loss that the module logs as ``val_loss``; where that is none of
    the usual ones, it is not logged. An ``Ensemble`` predicts every view with every member. Batches
    are images, lists of images and targets, or dictionaries with a ``target``, ``label``, ``mask``
    or ``y``. Put it before callbacks that write predictions.

    Args:
        n: How many views, at least 1; what is usual for the preset if ``None``: 4 of ``training``
            and ``augmentation``.
        preset: ``training`` (draws of the training augmentation, crop included), ``augmentation``
            (such draws within the plain image), ``flips``, ``five_crops`` or ``scales``. Where
            batches come from other loaders, ``training`` becomes ``augmentation``, with a word.
        augmentation: For these two, the preset that is drawn. As the datamodule has it for training
            if neither this nor ``transforms`` is given.
        plain_weight: Weight of the plain prediction in [0, 1]; ``None``: the course's, as much as
            one view up to 4 views; ``learn``: what is best on the validation split. ``validate``
            learns it and measures with the course's, ``test`` and ``predict`` use it.
        seed: Of what is drawn, at least 0.
        transforms: For these two, the list of transforms that is drawn after the preset, as of
            ``Augmentation``.
        during_fit: Whether the validations of a fit are augmented as well.
        metrics: For modules without ``phase_metrics``: name to metric of ``(probabilities,
            targets)``, logged as ``val_NAME_plain`` and ``val_NAME_tta``; if ``None``, those of a
            module with the head protocol, such as ``MultiLabelSwitch`` sets them.
        outputs: What ``forward`` gives: logits of ``classes``, one logit (``binary``), a logit for
            each of several ``labels``, ``probabilities`` already; or ``numbers`` or ``maps``, which
            are averaged as they are. ``None``: as described above.
        part: Which part of a dictionary or tuple that ``forward`` gives, by name or place; the only
            one, or the one that ``predict_step`` returns, if ``None``.

    Attributes:
        views: The views, once a trainer has set them up.
        learned_weight: The weight that ``plain_weight="learn"`` has found, also in checkpoints.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> TestTimeAugmentation(n=4).weight
        0.2

    References:
        fast.ai course (2018), lesson 1; Krizhevsky et al., *ImageNet Classification with Deep
        Convolutional Neural Networks* (2012), for the five crops.
    """

    __test__: ClassVar[bool] = False  # not a test, although pytest takes its name for one

    def __init__(
        self,
        n: int | None = None,
        preset: ViewPreset = "training",
        augmentation: Preset | None = None,
        plain_weight: float | Literal["learn"] | None = None,
        seed: int = 0,
        *,
        transforms: Sequence[TransformSpec] | None = None,
        during_fit: bool = False,
        metrics: Mapping[str, Metric] | None = None,
        outputs: Outputs | None = None,
        part: str | int | None = None,
    ) -> None:
        if outputs is not None:
            check_choice("outputs", outputs, get_args(Outputs))
        if isinstance(plain_weight, str) and plain_weight != "learn":
            raise ConfigurationError(
                f"`plain_weight` must be a number or 'learn', got {plain_weight!r}."
            )
        self.is_learning = plain_weight == "learn"
        weight = None if isinstance(plain_weight, str) else plain_weight
        drawn: Preset = "none" if augmentation is None else augmentation
        self.views = Views(
            preset, n, drawn, plain_weight=weight, seed=seed, transforms=transforms or ()
        )
        self._draws_own = augmentation is not None or transforms is not None
        self._asked = preset
        self.during_fit = during_fit
        self._set_key(n=n, preset=preset, seed=seed)
        self._measured = ViewMetrics(metrics or {})
        self.learned_weight: float | None = None
        self._predictor = ViewPredictor(outputs, part)
        self._losses: Tensor | None = None

    @property
    def weight(self) -> float:
        """Weight of the plain prediction in ``test`` and ``predict``."""
        return self.views.weight if self.learned_weight is None else self.learned_weight

    @property
    def thresholds(self) -> dict[str, Tensor]:
        """What the last validation found best for merged predictions, by the name of a metric."""
        return self._measured.thresholds

    @thresholds.setter
    def thresholds(self, thresholds: Mapping[str, Tensor]) -> None:
        self._measured.thresholds = dict(thresholds)

    def state_dict(self) -> dict[str, Any]:
        """Return what was learned in a validation, the weight and thresholds."""
        found: dict[str, Any] = {"thresholds": self.thresholds} if self.thresholds else {}
        if self.learned_weight is not None:
            found["learned_weight"] = self.learned_weight
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what was learned."""
        self.learned_weight = state_dict.get("learned_weight")
        self.thresholds = state_dict.get("thresholds", {})

    def resolve(self, datamodule: Any) -> Views:
        """Return the views; what ``augmentation`` draws is that of the datamodule's training.

        Raise `ConfigurationError` if training images are not augmented, or if the data do not say
        how, as loaders do not; ``datamodule`` is then ``None``.
        """
        views = self._drawn(datamodule)
        if self._asked in DRAWN and views.preset != self._asked:
            rank_zero_info(
                "`TestTimeAugmentation` draws its views within the images of each batch, since the"
                " data do not say how whole images are read. Give the trainer an image datamodule"
                " of this package, or set `preset='augmentation'`."
            )
        return views

    def _drawn(self, datamodule: Any) -> Views:
        if self._asked not in DRAWN:
            return self.views
        views, has_own = self.views, isinstance(datamodule, HasAugmentation)
        views = replace(views, preset=self._asked if has_own else "augmentation")
        trained = datamodule.augmentation if has_own else None
        if trained is not None:
            views = replace(views, max_zoom=trained.max_zoom, max_angle=trained.max_angle)
        if trained is not None and not self._draws_own:
            views = replace(views, augmentation=trained.preset)
            views = replace(views, transforms=getattr(trained, "transforms", ()))
        # Without a datamodule, the views are those of an earlier one.
        if views.augmentation == "none" and not views.transforms and not self._draws_own:
            raise SetupError(
                "`TestTimeAugmentation` draws views as training images are augmented, but"
                f" {'those are not' if has_own else 'the data do not say how they are'}. Set"
                " `augmentation='side_on'` (photos) or 'top_down' (images from above), or take"
                " the preset `flips`, `five_crops` or `scales`."
            )
        return views

    def loaded_views(self, *, is_fitting: bool) -> Views | None:
        """Return the views that the datamodule has to load, of the preset ``training``."""
        is_idle = is_fitting and not self.during_fit
        return None if is_idle or self.views.preset != "training" else self.views

    def learn(
        self,
        plain: Tensor,
        merged: Tensor,
        targets: Tensor,
        *,
        multi_label: bool = False,
        module: Any = None,
    ) -> None:
        """Learn the weight from predictions collected in a validation, such as an ensemble's.

        ``merged`` are the plain probabilities ``(rows, num_classes)`` merged with the views in
        validation; ``targets`` have one row each. With ``multi_label`` each class is a label by
        itself. Of numbers, the loss is that of the ``module``.
        """
        fixed = self.views.weight
        views, total = (merged - fixed * plain) / (1 - fixed), number_loss(module, targets)
        views = views.clamp(0, 1) if total is None else views
        losses = weight_losses(plain, views, targets, multi_label=multi_label, total_loss=total)
        self.learned_weight = best_weight(losses)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Set the views, before anything runs."""
        super().setup(trainer, pl_module, stage)
        if sum(isinstance(one, TestTimeAugmentation) for one in pl.callbacks_of(trainer)) > 1:
            raise SetupError(
                "One `TestTimeAugmentation` at a time can merge predictions and log `val_loss_tta`,"
                " but the trainer has several. Validate or predict with each of them in turn."
            )
        found = pl.datamodule_of(trainer)
        if stage == "fit" and not self.during_fit:
            self._drawn(getattr(found, "images", found))  # refuses before what it would after
        else:
            self.views = self.resolve(found)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse to predict with a weight that is not learned yet."""
        if self.is_learning and self.learned_weight is None:
            raise SetupError(
                "`plain_weight='learn'` needs a validation to learn from. Call `trainer.validate`"
                " with this callback first, or load a checkpoint that has learned it."
            )

    on_predict_start = on_test_start

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget an earlier run through the data."""
        self._predictor.clear()
        self._measured.clear()
        self._losses = None

    on_test_epoch_start = on_validation_epoch_start
    on_predict_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Predict the views of one batch, and add them to the metrics."""
        if trainer.state.fn == TrainerFn.FITTING and not self.during_fit:
            return
        loaders = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
        loader = loaders[dataloader_idx] if isinstance(loaders, Sequence) else loaders
        images, targets = images_and_targets(batch)
        given = outputs.get("probabilities") if isinstance(outputs, Mapping) else None
        rule = self._predictor.rule(trainer, pl_module, batch, given=given)
        repeated = num_repeated_rows(loader, batch_idx) if trainer.world_size > 1 else 0
        images, targets = images[: len(images) - repeated], targets[: len(targets) - repeated]
        has_own = isinstance(given, Tensor) and rule.activation == "module"
        plain, views = self._predictor.predict(
            trainer,
            pl_module,
            self.views,
            images,
            plain=given if has_own else None,
            loaded=getattr(batch, "views", None),
        )
        kind = kind_with_targets(pl_module, rule, plain, targets)
        if self.is_learning and not trainer.testing and len(images):
            total = number_loss(pl_module, targets)
            losses = losses_by_weight(plain, views, targets, kind, total)
            self._losses = losses if self._losses is None else self._losses + losses
        merged = weigh(plain, views, self.weight if trainer.testing else self.views.weight)
        if isinstance(outputs, dict):
            outputs[MERGED] = merged
        rows, phase = (plain, merged, targets), _phase(trainer)
        self._measured.update(pl_module, phase, dataloader_idx, rows, kind)

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the metrics of the merged predictions, and learn the weight if asked to."""
        for name, value in self._measured.compute(trainer, _phase(trainer)).items():
            pl_module.log(name, value, sync_dist=True, add_dataloader_idx=False)
        if self._losses is not None and not trainer.sanity_checking:
            total = trainer.strategy.reduce(self._losses, reduce_op="sum")
            self.learned_weight = best_weight(cast(Tensor, total))
            pl_module.log("tta_plain_weight", self.learned_weight, sync_dist=True)
        self._measured.clear()
        self._losses = None

    on_test_epoch_end = on_validation_epoch_end

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Replace what ``predict_step`` returned by the merged predictions."""
        images = batch_images(batch)
        rule = self._predictor.rule(trainer, pl_module, batch, given=outputs)
        returned = rule.slot_of(outputs)
        is_own = isinstance(returned, Tensor) and rule.activation == "module"
        plain, views = self._predictor.predict(
            trainer,
            pl_module,
            self.views,
            images,
            plain=returned if is_own else None,
            loaded=getattr(batch, "views", None),
        )
        merged = weigh(plain, views, self.weight)
        if not isinstance(returned, Tensor) or returned.numel() != merged.numel():
            is_tensor = isinstance(returned, Tensor)
            found = tuple(returned.shape) if is_tensor else type(returned).__name__
            raise SetupError(
                f"`predict_step` must return a tensor of shape {tuple(merged.shape)}, one row an"
                f" image, but returned {found}. Return logits or probabilities."
            )
        # In place: what Lightning collects is this very tensor.
        returned.copy_(merged.reshape(returned.shape))


def _phase(trainer: pl.Trainer) -> str:
    return "test" if trainer.testing else "val"
