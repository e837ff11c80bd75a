"""Image classification by transfer learning."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_fastrecipes import plain
from lightning_fastrecipes._lightning import rank_zero_info
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.training.group_rates import Rates
from lightning_fastrecipes.functional.training.layer_groups import NormPolicy
from lightning_fastrecipes.nn.backbones import Backbone, create_backbone
from lightning_fastrecipes.nn.heads import Layout, create_head
from lightning_fastrecipes.nn.label_rules import Labels
from lightning_fastrecipes.protocols import (
    HasImageSize,
    HasNormalisation,
    InputSpec,
    LayerGroup,
    resized_image,
)
from lightning_fastrecipes.tasks.base import CHECKPOINT_KEY
from lightning_fastrecipes.tasks.building import MetricSpec, build_network, plain_values
from lightning_fastrecipes.tasks.classification import ClassificationTask
from lightning_fastrecipes.tasks.optim import Optim


@dataclass(frozen=True)
class Head:
    """Layers after the backbone.

    Args:
        layout: ``course`` (batch norm, dropout, linear, ReLU, batch norm, dropout, linear) or
            ``linear``.
        hidden: Width of the hidden layer of ``course``, at least 1.
        dropout: Probability before the last layer, in [0, 1); the first of ``course`` is half.
    """

    layout: Layout = "course"
    hidden: int = 512
    dropout: float = 0.5


class ImageClassifier(ClassificationTask):
    """Classify images with a pretrained backbone, trained layer group by layer group.

    Takes ``uint8`` images and normalises them on the device as the backbone's weights expect;
    float images are taken as normalised already.

    Args:
        backbone: Name of a timm model; or a module that maps ``(batch, 3, height, width)`` to a
            feature map, tokens or vectors; or ``{"class_path": ..., "init_args": {...}}`` of one,
            which exports and recipes can build again.
        num_classes: Number of classes, at least 2; if ``None``, that of the trainer's datamodule.
        weights: Path of a ``.safetensors`` or ``.pth`` file, or ``package:efficientnet-lite0``.
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

    backbone: Backbone
    pixel_mean: Tensor
    pixel_std: Tensor

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
        if num_groups < 2:
            raise ValueError(
                f"`num_groups` must be at least 2 (a backbone and a head), got {num_groups}."
            )
        network = build_network(backbone) if isinstance(backbone, Mapping) else backbone
        built = create_backbone(network, pretrained=pretrained, weights=weights)
        if norm_policy is None:
            norm_policy = "calibrated" if built.pretrained else "eval_if_frozen"
        if not isinstance(head, Head):
            head = Head(**head) if isinstance(head, Mapping) else Head(head)
        super().__init__(
            metrics=metrics,
            labels=labels,
            norm_policy=norm_policy,
            optim=optim,
            lr=lr,
            lr_ratio=lr_ratio,
        )
        self.backbone = built
        self.head = nn.Identity()  # until the number of classes is known
        self.input_spec: InputSpec = built.input_spec
        self.num_groups = num_groups
        self._head_options = head
        self._backbone_groups = built.layer_groups(num_groups - 1)
        self._register_normalisation()
        # Plain values alone, so that a checkpoint loads with `weights_only`. `weights` is left out:
        # they come from the checkpoint then.
        self.architecture: dict[str, Any] = {
            "backbone": plain_values(backbone) if isinstance(backbone, Mapping) else built.name,
            "num_classes": None,
            "head": asdict(head),
            "num_groups": num_groups,
            "norm_policy": norm_policy,
        }
        training = {"optim": asdict(self.optim), "labels": asdict(self.labels)}
        hparams = plain_values(self.architecture | training)
        if isinstance(backbone, nn.Module):
            del hparams["backbone"]
        self.save_hyperparameters(hparams)
        self._is_frozen_unasked = built.pretrained
        self._set_num_frozen(num_groups - 1 if built.pretrained else 0)
        if num_classes is not None:
            self.set_num_classes(num_classes)

    @override
    def build_head(self, num_classes: int) -> None:
        options, num_features = self._head_options, self.backbone.num_features
        self.head = create_head(
            options.layout,
            num_features,
            num_classes,
            hidden=options.hidden,
            dropout=options.dropout,
        ).to(self.device)
        self.architecture["num_classes"] = num_classes
        self.save_hyperparameters({"num_classes": num_classes})
        self._set_num_frozen(self.num_frozen)

    @override
    def freeze_to(self, n: int) -> None:
        super().freeze_to(n)
        self._is_frozen_unasked = False

    @override
    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self._is_frozen_unasked:
            self._is_frozen_unasked = False
            rank_zero_info(
                f"{type(self).__name__}: the head alone is trained, since the backbone's weights"
                " are pretrained. Call `unfreeze()` before a fit to train all layers, with"
                " `lr_ratio` or smaller rates for the earlier ones."
            )

    @override
    def setup(self, stage: str) -> None:
        super().setup(stage)
        datamodule = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and isinstance(datamodule, HasNormalisation):
            self.set_input_spec(datamodule.normalised_spec(self.input_spec))
        if not isinstance(datamodule, HasImageSize):
            return
        sizes = {datamodule.eval_image_size or datamodule.image_size}
        if stage == "fit":
            sizes.add(datamodule.image_size)
        for size in sorted(sizes):
            try:
                self.backbone.check_image_size(size)
            except ValueError as error:
                raise ConfigurationError(
                    f"The backbone must take the images of {type(datamodule).__name__}, but"
                    f" does not: {error}"
                ) from error

    @override
    def layer_groups(self) -> list[LayerGroup]:
        return _joined_groups(self._backbone_groups, self.head)

    @override
    def no_weight_decay(self) -> set[str]:
        return {f"backbone.{name}" for name in self.backbone.no_weight_decay()}

    @override
    def forward_features(self, images: Tensor) -> Tensor:
        """Compute pooled features of ``uint8`` images, or of float images that are normalised."""
        if images.dtype == torch.uint8:
            mean = (
                resized_image(self.pixel_mean, images) if self.has_mean_image else self.pixel_mean
            )
            images = (images.float() - mean).div_(self.pixel_std)
        return cast(Tensor, self.backbone(images))

    @override
    def forward_head(self, features: Tensor) -> Tensor:
        self.require_classes()
        return cast(Tensor, self.head(features)).float()

    def nearest_image_size(self, size: int) -> int:
        """Round an image size to one that the backbone takes; a ValueError if it takes none."""
        return self.backbone.nearest_image_size(size)

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY] |= {"input_spec": self.input_spec.plain_values()}

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        saved = checkpoint.get(CHECKPOINT_KEY)
        if saved is None:
            return
        plain.keys({"input_spec": plain.built(InputSpec)})(saved, CHECKPOINT_KEY)
        self.set_input_spec(InputSpec.from_plain(saved["input_spec"]))

    def set_input_spec(self, spec: InputSpec) -> None:
        """Normalise as ``spec`` says, for weights whose file does not state what they expect."""
        self.input_spec = spec
        self._register_normalisation()

    @property
    def has_mean_image(self) -> bool:
        """Whether a mean image is subtracted, which is then in the state dict."""
        return self.input_spec.mean_image is not None

    def _register_normalisation(self) -> None:
        """Keep mean and deviation in units of ``uint8`` pixels."""
        spec, current = self.input_spec, getattr(self, "pixel_mean", None)
        device = current.device if isinstance(current, Tensor) else None
        like = torch.empty(()) if spec.mean_image is None else spec.mean_image
        mean, std = spec.centre_and_scale(like)
        self.register_buffer(
            "pixel_mean", (255 * mean)[None].to(device), persistent=self.has_mean_image
        )
        self.register_buffer("pixel_std", (255 * std)[None].to(device), persistent=False)


def _joined_groups(backbone_groups: Sequence[LayerGroup], head: nn.Module) -> list[LayerGroup]:
    groups = [
        LayerGroup(group.name, tuple(f"backbone.{name}" for name in group.parameters))
        for group in backbone_groups
    ]
    names = tuple(f"head.{name}" for name, _ in head.named_parameters())
    return [*groups, LayerGroup("head", names)]
