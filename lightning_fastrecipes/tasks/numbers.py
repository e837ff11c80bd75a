"""What every task that predicts numbers shares: metrics in the user's units, in 64 bits."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, cast

import torch
from torchmetrics import MetricCollection
from typing_extensions import override

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.labels.numbers import has_doubles
from lightning_fastrecipes.tasks.base import LayerGroupTask
from lightning_fastrecipes.tasks.metric_checks import Example


class PredictsNumbers(LayerGroupTask):
    """Predict numbers in the user's units; ``is_exact`` says whether these are of 64 bits."""

    @property
    def is_exact(self) -> bool:
        """Whether predictions, and so metrics, are computed in 64 bits."""
        return True

    @property
    @abstractmethod
    def number_names(self) -> list[str]:
        """Names of what is predicted, in order."""

    def example(self) -> Example | None:
        """Return made-up predictions and targets that metrics are tried on; ``None`` for none."""
        return None

    @override
    def setup(self, stage: str) -> None:
        """Refuse to round the targets to 16 bits, as Lightning rounds all numbers of a batch."""
        super().setup(stage)
        if stage != "predict" and self.trainer.precision in ("16-true", "bf16-true"):
            raise ConfigurationError(
                "`precision` must leave the targets as they are, but is"
                f" '{self.trainer.precision}', which rounds them to 16 bits. Use 'bf16-mixed'."
            )

    @override
    def on_validation_start(self) -> None:
        """Let the metrics compute as the predictions are: in 64 bits, where these come to be."""
        for collection in self._collections():
            if self.is_exact:
                collection.to("cpu" if not has_doubles(self.device) else self.device)
                collection.set_dtype(torch.float64)

    on_test_start = on_validation_start

    @override
    def teardown(self, stage: str) -> None:
        """Let the metrics be moved to any device again."""
        super().teardown(stage)
        for collection in self._collections():
            if self.is_exact:
                collection.set_dtype(torch.float32)

    def _collections(self) -> list[MetricCollection]:
        metrics: Any = self.phase_metrics
        return list(cast(Mapping[str, MetricCollection], metrics).values())
