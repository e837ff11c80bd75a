"""Image classification by transfer learning."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

from torch import Tensor, nn
from typing_extensions import override

from lightning_fastrecipes.functional.training.group_rates import Rates
from lightning_fastrecipes.functional.training.layer_groups import NormPolicy
from lightning_fastrecipes.nn.heads import Layout
from lightning_fastrecipes.nn.label_rules import Labels
from lightning_fastrecipes.tasks.building import MetricSpec, saved_loss
from lightning_fastrecipes.tasks.classification import ClassificationTask
from lightning_fastrecipes.tasks.image_task import Head, ImageTask
from lightning_fastrecipes.tasks.optim import Optim
from lightning_fastrecipes.tasks.saved_arguments import save_arguments


class ImageClassifier(ImageTask, ClassificationTask):
    """Classify images with a pretrained backbone, trained layer group by layer group.

    Takes ``uint8`` images and normalises them on the device as the backbone's weights expect;
    float images are taken as normalised already.

    Args:
        backbone: Name of a timm model; or a module that maps ``(batch, 3, height, width)`` to a
            feature map, tokens or vectors; or ``{"class_path": ..., "init_args": {...}}`` of one,
            which exports and recipes can build again; or ``{"name": ..., "in_channels": ...}`` of a
            timm model for images of another number of channels.
        num_classes: Number of classes, at least 2; if ``None``, that of the trainer's datamodule.
        weights: Path of a ``.safetensors``, ``.pth`` or ``.ckpt`` file, also of another run and of
            other classes, whose head is left out; or ``package:efficientnet-lite0``.
        pretrained: Whether to load timm's weights from the model hub.
        head: ``"course"``, ``"linear"``, or a ``Head`` with its width and dropout.
        num_groups: Number of layer groups, the head included, at least 2.
        norm_policy: Batch norm of the backbone: ``eval`` (stored statistics, also where trained),
            ``eval_if_frozen``, ``calibrated``, ``stats_if_frozen`` or ``train``. ``None`` takes
            ``calibrated`` for pretrained weights and ``eval_if_frozen`` for random ones.
        lr: Learning rate of the head, an array or a range, as for ``Optim``; replaces ``optim.lr``.
        lr_ratio: How many times smaller each earlier group's rate is; replaces ``optim.lr_ratio``.
        optim: Optimizer, rates and weight decay: an ``Optim``.
        metrics: Name to metric, class path or plain function; accuracy if ``None``, and with
            several labels per image also ``f2``, a ``SampleFBeta`` at the best threshold.
        labels: How several labels per image are trained, and what targets are where no
            datamodule says so: a ``Labels``.

    Raises:
        ValueError: If a number is out of range or a model is unknown.
        DataNotFoundError: If weights are not to be had; the message names the alternatives.

    Example:
        >>> model = ImageClassifier("resnet18", num_classes=2, lr=1e-3, lr_ratio=3)
        >>> model.freeze_to(1)
        >>> [group.name for group in model.layer_groups()], model.num_frozen
        (['early', 'late', 'head'], 1)

    Note:
        Images with several labels switch loss (BCE with logits), probabilities (sigmoid), metrics
        and decisions together. The thresholds are tuned after every validation, kept in the buffer
        ``thresholds``, and so in every checkpoint, and used by test, prediction and export.

    References:
        fast.ai course (2018), lessons 1 and 2; Smith, *Cyclical Learning Rates* (2017).
    """

    def __init__(
        self,
        backbone: str | Mapping[str, Any] | nn.Module,
        num_classes: int | None = None,
        *,
        weights: str | None = None,
        pretrained: bool = False,
        head: Layout | Head | Mapping[str, Any] = "course",
        num_groups: int = 3,
        norm_policy: NormPolicy | None = None,
        lr: Rates | None = None,
        lr_ratio: float | None = None,
        optim: Optim | Mapping[str, Any] | None = None,
        metrics: Mapping[str, MetricSpec] | None = None,
        labels: Labels | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            backbone,
            weights=weights,
            pretrained=pretrained,
            head=head,
            num_groups=num_groups,
            norm_policy=norm_policy,
            metrics=metrics,
            labels=labels,
            optim=optim,
            lr=lr,
            lr_ratio=lr_ratio,
        )
        self.architecture["num_classes"] = None
        self.finish(labels=asdict(self.labels) | {"loss": saved_loss(self.labels.loss)})
        if num_classes is not None:
            self.set_num_classes(num_classes)

    @override
    def build_head(self, num_classes: int) -> None:
        self.set_head(num_classes)
        self.architecture["num_classes"] = num_classes
        save_arguments(self, {"num_classes": num_classes})

    @override
    def forward_head(self, features: Tensor) -> Tensor:
        self.require_classes()
        return cast(Tensor, self.head(self.as_weights(features))).float()
