"""What every task on a table shares: the spec, the network built from it, and its layer groups."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError, MeanSquaredError
from typing_extensions import override

from lightning_fastrecipes import plain
from lightning_fastrecipes._lightning import given_class_path, rank_zero_warn
from lightning_fastrecipes.batches import TableInputs
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.functional.tables.encoding import EmbeddingRule, embedding_size
from lightning_fastrecipes.functional.tables.inputs import as_frame
from lightning_fastrecipes.functional.tables.predictions import far_predictions, predicted_columns
from lightning_fastrecipes.functional.tables.spec import TableSpec
from lightning_fastrecipes.functional.tables.target import SpecTask, TargetColumn
from lightning_fastrecipes.functional.training.layer_groups import NormPolicy
from lightning_fastrecipes.nn.rmspe import RMSPE
from lightning_fastrecipes.nn.tabular import TableBackbone
from lightning_fastrecipes.protocols import HasTableSpec, LayerGroup
from lightning_fastrecipes.tasks.base import CHECKPOINT_KEY, LayerGroupTask
from lightning_fastrecipes.tasks.building import MetricSpec, check_metric_names, plain_values
from lightning_fastrecipes.tasks.few_steps import warn_of_few_steps
from lightning_fastrecipes.tasks.metric_checks import check_metrics
from lightning_fastrecipes.tasks.saved_arguments import save_arguments
from lightning_fastrecipes.typed import from_mapping

_CLASSES: dict[SpecTask, str] = {
    "regression": "TabularRegressor",
    "classes": "TabularClassifier",
    "several": "TabularMultiTarget",
}


@dataclass(frozen=True)
class TabularNetwork:
    """The network of a task on a table: embeddings, then hidden layers.

    Args:
        layers: Widths of the hidden layers, at least 1 each; ``None`` for those of the task:
            1000 and 500 for a regression, 200 and 100 for a classification.
        dropout: Probability after each hidden layer, in [0, 1); one for all, or one for each;
            ``None`` for that of the task: 0.001 and 0.01, the last one for all further layers, or
            0.01.
        embedding_dropout: Probability after the embeddings, in [0, 1).
        embedding_rule: Width of the categories' vectors, ``course`` or ``fastai``; see
            ``functional.tables.encoding``.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> TabularNetwork(layers=[200, 100], dropout=0.1).embedding_dropout
        0.04
    """

    layers: Sequence[int] | None = None
    dropout: float | Sequence[float] | None = None
    embedding_dropout: float = 0.04
    embedding_rule: EmbeddingRule = "course"

    def __post_init__(self) -> None:
        if any(width < 1 for width in self.layers or ()):
            raise ValueError(
                f"`layers` must be widths of at least 1, got {list(self.layers or ())}."
            )
        shares = [self.dropout] if isinstance(self.dropout, (int, float)) else self.dropout or ()
        for argument, values in (
            ("dropout", list(shares)),
            ("embedding_dropout", [self.embedding_dropout]),
        ):
            if not all(0 <= value < 1 for value in values):
                raise ValueError(f"`{argument}` must lie in [0, 1), got {values}.")
        embedding_size(1, self.embedding_rule)

    def or_default(self, default: "TabularNetwork") -> "TabularNetwork":
        """Fill in layers and dropout of the task, and write out one dropout for each layer."""
        layers = default.layers if self.layers is None else self.layers
        dropout = default.dropout if self.dropout is None else self.dropout
        layers = list(layers or ())
        if self.dropout is None and isinstance(dropout, Sequence):
            dropout = [*dropout, *[dropout[-1]] * len(layers)][: len(layers)]
        shares = [dropout] * len(layers) if isinstance(dropout, (int, float)) else dropout or ()
        if len(shares) != len(layers):
            raise ValueError(
                f"`dropout` must have one probability for each of the {len(layers)} `layers`, got"
                f" {list(shares)}. Give one number for all, or one for each."
            )
        return replace(self, layers=layers, dropout=list(shares))


class TabularTask(LayerGroupTask, ABC):
    """Train a network on the columns that a ``TableSpec`` describes.

    The constructor of a task ends with ``finish``. The network is built when the spec is known:
    given, taken from the trainer's datamodule, or read from a checkpoint, which holds it. Until
    then there are three empty layer groups, so that freezing and rates can be set already. Metrics
    are those of ``default_metrics`` if ``None``; ``options`` are arguments of ``LayerGroupTask``.
    """

    task_kind: SpecTask
    """What the target of the spec must be."""

    default_network: TabularNetwork

    def __init__(
        self,
        *,
        network: TabularNetwork | Mapping[str, Any] | None,
        metrics: Mapping[str, MetricSpec] | None,
        norm_policy: NormPolicy,
        **options: Any,
    ) -> None:
        super().__init__(norm_policy, metrics={}, metric_defaults={}, **options)
        if not isinstance(network, TabularNetwork):
            network = from_mapping(TabularNetwork, network or {}, "network")
        self.network = network.or_default(self.default_network)
        self._chosen_metrics = check_metric_names(metrics)
        self.spec: TableSpec | None = None
        # Nothing to freeze or to train until the columns are known.
        self.backbone = nn.Identity()
        self.head = nn.Identity()

    def finish(self, spec: TableSpec | Mapping[str, Any] | None, **arguments: Any) -> None:
        """Save the arguments of a constructor for checkpoints, and build the model if it can be.

        ``arguments`` are plain values of arguments that other tasks do not have.
        """
        self._own_arguments = plain_values(arguments)
        # The spec has a place of its own in a checkpoint.
        shape = {name: value for name, value in self.architecture.items() if name != "spec"}
        hparams = plain_values(shape | {"optim": asdict(self.optim)})
        save_arguments(self, hparams | given_class_path())
        if spec is not None:
            self.set_spec(spec if isinstance(spec, TableSpec) else TableSpec.from_dict(spec))

    @abstractmethod
    def build_head(self, spec: TableSpec, num_features: int) -> nn.Linear:
        """Build the output layer."""

    def choose_metrics(self, spec: TableSpec, chosen: Mapping[str, Any] | None) -> None:
        """Set the metrics that were chosen, or those for users who choose none."""
        metrics = self.default_metrics(spec) if chosen is None else chosen
        self.set_metrics(metrics, self.metric_defaults(spec))
        check_metrics(self)

    def default_metrics(self, spec: TableSpec) -> dict[str, MetricSpec]:
        """Return the metrics for those who choose none."""
        return {}

    def metric_defaults(self, spec: TableSpec) -> dict[str, Any]:
        """Return the arguments for metric classes that take them."""
        return {}

    def set_spec(self, spec: TableSpec) -> None:
        """Build the network for these columns, unless it is built; saved in every checkpoint.

        Raises ConfigurationError if the model was built for another table, or for another task.
        """
        if self.spec is not None:
            difference = self.spec.difference(spec)
            if difference:
                raise ConfigurationError(
                    "The table must be prepared as that of the training, but the model's spec (the"
                    f" first) and the data's (the second) differ:\n{difference}\n"
                    "Prepare the data with the model's `spec`, or train a new model."
                )
            return
        self.check_task(spec.task)
        self.spec = spec
        backbone = TableBackbone(
            spec.cardinalities,
            spec.embedding_sizes(self.network.embedding_rule),
            len(spec.continuous_columns),
            cast(Sequence[int], self.network.layers),
            cast(Sequence[float], self.network.dropout),
            self.network.embedding_dropout,
        )
        self.backbone = backbone.to(self.part_device())
        self.head = self.build_head(spec, backbone.num_features).to(self.part_device())
        self.choose_metrics(spec, self._chosen_metrics)
        self.phase_metrics.to(self.part_device())
        self._set_num_frozen(self.num_frozen)

    @classmethod
    def check_task(cls, task: SpecTask) -> None:
        """Raise ConfigurationError unless the target of a table is what the class predicts."""
        if task == cls.task_kind:
            return
        one, many = "whose `task` is {!r}", "with {} targets"
        wanted = (many if cls.task_kind == "several" else one).format(cls.task_kind)
        came = (many if task == "several" else one).format(task)
        raise ConfigurationError(
            f"`{cls.__name__}` needs a table {wanted}, but this is one {came}. Use"
            f" `{_CLASSES[task]}`, or other `columns` of the data."
        )

    def require_spec(self) -> TableSpec:
        """Return the spec, or raise a ConfigurationError if it is not known yet."""
        if self.spec is None:
            raise ConfigurationError(
                f"`{type(self).__name__}` must know the columns of its table, but has no `spec`."
                " Give `spec`, call `set_spec`, load a checkpoint, or use a"
                " `TabularDataModule` as the trainer's datamodule."
            )
        return self.spec

    @property
    def architecture(self) -> dict[str, Any]:
        """Plain values from which ``from_architecture`` builds the same untrained model."""
        return {
            "spec": None if self.spec is None else self.spec.to_dict(),
            "network": asdict(self.network),
            "norm_policy": self.norm_policy,
            **self._own_arguments,
        }

    @override
    def layer_groups(self) -> list[LayerGroup]:
        """Return the groups: embeddings, trunk (the norm of continuous columns in it), output."""
        names = [name for name, _ in self.named_parameters()]
        embeddings = [name for name in names if name.startswith("backbone.embeddings.")]
        output = [name for name in names if name.startswith("head.")]
        trunk = [name for name in names if name not in {*embeddings, *output}]
        return [
            LayerGroup("embeddings", tuple(embeddings)),
            LayerGroup("trunk", tuple(trunk)),
            LayerGroup("output", tuple(output)),
        ]

    def embedding_weights(self) -> dict[str, Tensor]:
        """Return the vectors of each categorical column, one row for each index."""
        spec = self.require_spec()
        tables = cast(TableBackbone, self.backbone).embeddings.tables
        return {
            name: cast(nn.Embedding, table).weight.detach().cpu()
            for name, table in zip(spec.categorical, tables, strict=True)
        }

    def predict(self, rows: Any, batch_size: int = 4096) -> pd.DataFrame:
        """Predict rows that are prepared as those of the training were after its steps.

        Args:
            rows: A data frame, a mapping of columns or of one row's values, or what else
                ``TabularDataModule`` takes in memory; other columns are not looked at.
            batch_size: Rows computed at a time, at least 1.

        Returns:
            A table with the index of the rows and the column ``prediction``, in the table's own
            units, and for classes one column of probabilities each.

        Raises:
            ConfigurationError: If the spec is not known yet.
            DataError: If there are no rows, or they are not like those of the training.
        """
        spec = self.require_spec()
        frame = as_frame(rows)
        was_training, parts = self.training, []
        self.eval()
        try:
            for start in range(0, len(frame), batch_size):
                encoded = spec.encode(frame.iloc[start : start + batch_size], has_target=False)
                arrays = (encoded.codes, encoded.continuous)
                inputs = TableInputs(*(torch.from_numpy(part).to(self.device) for part in arrays))
                with torch.inference_mode():
                    parts.append(self.probabilities(self(inputs)).cpu())
        finally:
            self.train(was_training)
        if not parts:
            raise DataError("The table must have rows to predict, but has none.")
        found = predicted_columns(spec, torch.cat(parts)).set_index(frame.index)
        for sentence in far_predictions(spec, found):
            rank_zero_warn(sentence)
        return found

    @override
    def forward_features(self, inputs: TableInputs) -> Tensor:
        self.require_spec()
        if not isinstance(inputs, tuple):
            raise ConfigurationError(
                f"`{type(self).__name__}` computes with `TableInputs`, codes and numbers, but got"
                f" {type(inputs).__name__}. Predict rows as they are by `predict(rows)`."
            )
        return cast(Tensor, self.backbone(inputs))

    @override
    def forward_head(self, features: Tensor) -> Tensor:
        """Compute the outputs in full precision. Shape ``(batch, num_outputs)``, float32."""
        head = cast(nn.Linear, self.head)
        # Rounded to 8 bits, a forecast of sales would be off by half a per cent.
        with torch.autocast(features.device.type, enabled=False):
            return cast(Tensor, head(features.to(head.weight.dtype))).float()

    @override
    def setup(self, stage: str) -> None:
        """Take the spec of the datamodule, or compare it with the model's own."""
        super().setup(stage)
        self.adopt_targets(getattr(self.trainer, "datamodule", None))
        self.require_spec()

    @override
    def on_train_epoch_end(self) -> None:
        """Warn in the first epoch of a fit that is over before anything is learned."""
        super().on_train_epoch_end()
        if self.trainer.current_epoch == 0:
            warn_of_few_steps(self.trainer)

    @override
    def adopt_targets(self, datamodule: Any) -> None:
        if isinstance(datamodule, HasTableSpec) and isinstance(datamodule.spec, TableSpec):
            self.set_spec(datamodule.spec)

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY] |= {"table_spec": self.require_spec().to_dict()}

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build the network for the checkpoint's table, or refuse that of another one."""
        saved = checkpoint.get(CHECKPOINT_KEY)
        if saved is not None:
            plain.keys({"table_spec": plain.anything})(saved, CHECKPOINT_KEY)
            stored = TableSpec.from_dict(saved["table_spec"])
            self.set_spec(stored)
            # An earlier version's model predicts, and its optimizer has seen, another unit.
            self.spec = stored
        super().on_load_checkpoint(checkpoint)


def small(head: nn.Linear) -> nn.Linear:
    """Start an output layer from small weights, so that all rows get almost the same output."""
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return head


def number_metrics(column: TargetColumn) -> dict[str, MetricSpec]:
    """Return the metrics of a target that is a number, for users who choose none."""
    metrics: dict[str, MetricSpec] = {
        "mae": MeanAbsoluteError(),
        "rmse": MeanSquaredError(squared=False),
    }
    return metrics | ({"rmspe": RMSPE()} if column.log else {})
