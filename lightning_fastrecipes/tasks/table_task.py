"""What every task on a table shares: the spec, the network built from it, and its layer groups."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.tables.encoding import EmbeddingRule, embedding_size
from lightning_fastrecipes.functional.tables.spec import TableSpec
from lightning_fastrecipes.functional.tables.target import TableTask
from lightning_fastrecipes.functional.training.layer_groups import NormPolicy, set_frozen
from lightning_fastrecipes.nn.tabular import TableBackbone
from lightning_fastrecipes.protocols import HasTableSpec, LayerGroup, TableInputs
from lightning_fastrecipes.tasks.base import CHECKPOINT_KEY, LayerGroupTask
from lightning_fastrecipes.tasks.building import MetricSpec, plain_values

_EMBEDDINGS = "backbone.embeddings."


class TabularTask(LayerGroupTask, ABC):
    """Train a network on the columns that a ``TableSpec`` describes.

    A task's constructor ends with ``begin``. The network is built when the spec is known: given,
    taken of the trainer's datamodule, or read from a checkpoint, which holds it. Until then there
    are three empty layer groups, so that freezing and rates can be set already.

    Args:
        layers: Widths of the hidden layers, at least 1 each.
        dropout: Probability after each hidden layer, in [0, 1); one for all, or one for each.
        embedding_dropout: Probability after the embeddings, in [0, 1).
        embedding_rule: Width of the categories' vectors; see ``functional.tables.encoding``.
        metrics: Name to metric, class path or plain function; the task's own if ``None``.
        norm_policy: How batch norm behaves; see ``functional.training.layer_groups.NormPolicy``.
        **options: Arguments of ``LayerGroupTask``.
    """

    task_kind: TableTask
    """What the target of the spec must be."""

    def __init__(
        self,
        *,
        layers: Sequence[int],
        dropout: float | Sequence[float],
        embedding_dropout: float,
        embedding_rule: EmbeddingRule,
        metrics: Mapping[str, MetricSpec] | None,
        norm_policy: NormPolicy,
        **options: Any,
    ) -> None:
        super().__init__(norm_policy, metrics={}, metric_defaults={}, **options)
        shares = [dropout] * len(layers) if isinstance(dropout, (int, float)) else list(dropout)
        _check_shape(layers, shares, embedding_dropout)
        embedding_size(1, embedding_rule)
        self.layers = list(layers)
        self.dropout = shares
        self.embedding_dropout = embedding_dropout
        self.embedding_rule = embedding_rule
        self._chosen_metrics = metrics
        self.spec: TableSpec | None = None
        # Nothing to freeze or to train until the columns are known.
        self.backbone = nn.Identity()
        self.head = nn.Identity()

    def begin(self, spec: TableSpec | Mapping[str, Any] | None, extra: Mapping[str, Any]) -> None:
        """Note what a checkpoint must say of the model, and build it if the spec is known.

        Args:
            spec: As for the constructor, at the end of which a task calls this.
            extra: Arguments of the task's own, plain values.
        """
        self._extra = plain_values(extra)
        training = {"lr": self.lr, "lr_ratio": self.lr_ratio, "weight_decay": self.weight_decay}
        # The spec has a place of its own in a checkpoint.
        shape = {name: value for name, value in self.architecture.items() if name != "spec"}
        self.save_hyperparameters(plain_values({**shape, **training, "optimizer": self.optimizer}))
        if spec is not None:
            self.adopt_spec(spec if isinstance(spec, TableSpec) else TableSpec.from_dict(spec))

    @abstractmethod
    def build_head(self, spec: TableSpec, num_features: int) -> nn.Linear:
        """Build the output layer."""

    @abstractmethod
    def logits(self, probabilities: Tensor) -> Tensor:
        """Return what the model says where ``probabilities`` makes this of it."""

    @abstractmethod
    def default_metrics(self, spec: TableSpec) -> dict[str, MetricSpec]:
        """Return the metrics of those who choose none."""

    def metric_defaults(self, spec: TableSpec) -> dict[str, Any]:
        """Return the arguments for metric classes that take them."""
        return {}

    def adopt_spec(self, spec: TableSpec) -> None:
        """Build the network for these columns, unless it is built; saved in every checkpoint.

        Args:
            spec: How the table becomes numbers.

        Raises:
            ConfigurationError: If the model was built for another table, or for another task.
        """
        if self.spec is not None:
            if spec != self.spec:
                raise ConfigurationError(
                    "The table must be prepared as that of the training, but the model's spec (the"
                    f" first) and the data's (the second) differ:\n{self.spec.difference(spec)}\n"
                    "Prepare the data with the model's `spec`, or train a new model."
                )
            return
        if spec.task != self.task_kind:
            other = "TabularClassifier" if spec.task == "classes" else "TabularRegressor"
            raise ConfigurationError(
                f"`{type(self).__name__}` needs a table whose `task` is '{self.task_kind}', but it"
                f" is '{spec.task}'. Use `{other}`, or another `task` of the data."
            )
        self.spec = spec
        backbone = TableBackbone(
            spec.cardinalities,
            spec.embedding_sizes(self.embedding_rule),
            len(spec.continuous_columns),
            self.layers,
            self.dropout,
            self.embedding_dropout,
        )
        self.backbone = backbone.to(self.device)
        self.head = self.build_head(spec, backbone.num_features).to(self.device)
        chosen = (
            self.default_metrics(spec) if self._chosen_metrics is None else self._chosen_metrics
        )
        self.set_metrics(chosen, self.metric_defaults(spec))
        self.phase_metrics.to(self.device)
        set_frozen(self, self.layer_groups(), self.num_frozen, self.norm_policy)
        self.train(self.training)

    @property
    def architecture(self) -> dict[str, Any]:
        """Plain values that ``from_architecture`` builds the same untrained model from."""
        spec = None if self.spec is None else self.spec.to_dict()
        return {
            "spec": spec,
            "layers": self.layers,
            "dropout": self.dropout,
            "embedding_dropout": self.embedding_dropout,
            "embedding_rule": self.embedding_rule,
            "norm_policy": self.norm_policy,
            **self._extra,
        }

    @classmethod
    def from_architecture(cls, architecture: Mapping[str, Any]) -> Self:
        """Build an untrained model of the same shape from its plain description.

        Args:
            architecture: The attribute ``architecture`` of a model.

        Returns:
            The model, with random weights.
        """
        return cls(**architecture)

    def layer_groups(self) -> list[LayerGroup]:
        """Return the groups: embeddings, trunk (the norm of continuous columns in it), output."""
        names = [name for name, _ in self.named_parameters()]
        embeddings = [name for name in names if name.startswith(_EMBEDDINGS)]
        output = [name for name in names if name.startswith("head.")]
        trunk = [name for name in names if name not in {*embeddings, *output}]
        return [
            LayerGroup("embeddings", tuple(embeddings)),
            LayerGroup("trunk", tuple(trunk)),
            LayerGroup("output", tuple(output)),
        ]

    def embedding_weights(self) -> dict[str, Tensor]:
        """Return the vectors of each categorical column, one row for each index."""
        spec, backbone = self.built()
        tables = (cast(nn.Embedding, table) for table in backbone.embeddings.tables)
        return {
            name: table.weight.detach().cpu()
            for name, table in zip(spec.categorical, tables, strict=True)
        }

    def forward_features(self, inputs: TableInputs) -> Tensor:
        """Turn a batch of rows into features. Shape ``(batch, num_features)``."""
        _, backbone = self.built()
        return cast(Tensor, backbone(inputs))

    def forward_head(self, features: Tensor) -> Tensor:
        """Turn features into float32 numbers, in full precision. Shape ``(batch, num_outputs)``."""
        head = cast(nn.Linear, self.head)
        # Rounded to 8 bits, a forecast of sales would be off by half a per cent.
        with torch.autocast(features.device.type, enabled=False):
            return cast(Tensor, head(features.to(head.weight.dtype))).float()

    def setup(self, stage: str) -> None:
        """Take the spec of the datamodule, or compare it with our own.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.

        Raises:
            ConfigurationError: If nothing says what the columns are, or the datamodule says
                something else than the model.
        """
        super().setup(stage)
        datamodule = getattr(self.trainer, "datamodule", None)
        if isinstance(datamodule, HasTableSpec) and isinstance(datamodule.spec, TableSpec):
            self.adopt_spec(datamodule.spec)
        self.built()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the spec, as plain values."""
        super().on_save_checkpoint(checkpoint)
        spec, _ = self.built()
        checkpoint[CHECKPOINT_KEY] |= {"table_spec": spec.to_dict()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build the network for the checkpoint's table, or refuse that of another one."""
        saved = checkpoint.get(CHECKPOINT_KEY)
        if saved is not None:
            self.adopt_spec(TableSpec.from_dict(saved["table_spec"]))
        super().on_load_checkpoint(checkpoint)

    def built(self) -> tuple[TableSpec, TableBackbone]:
        """Return the spec and the network.

        Returns:
            Both.

        Raises:
            ConfigurationError: If the spec is not known yet.
        """
        if self.spec is None:
            raise ConfigurationError(
                f"`{type(self).__name__}` must know the columns of its table, but has no `spec`."
                " Give `spec`, call `adopt_spec`, load a checkpoint, or use a"
                " `TabularDataModule` as the trainer's datamodule."
            )
        return self.spec, cast(TableBackbone, self.backbone)


def _check_shape(layers: Sequence[int], dropout: Sequence[float], embedding_dropout: float) -> None:
    if any(width < 1 for width in layers):
        raise ValueError(f"`layers` must be widths of at least 1, got {list(layers)}.")
    if len(dropout) != len(layers):
        raise ValueError(
            f"`dropout` must have one probability for each of the {len(layers)} `layers`, got"
            f" {list(dropout)}. Give one number for all, or one for each."
        )
    for argument, shares in (("dropout", dropout), ("embedding_dropout", [embedding_dropout])):
        if not all(0 <= share < 1 for share in shares):
            raise ValueError(f"`{argument}` must lie in [0, 1), got {list(shares)}.")
