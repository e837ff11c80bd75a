"""The fast.ai course's way of training, for PyTorch Lightning."""

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from lightning_fastrecipes.dotted import load_object
from lightning_fastrecipes.messages import suggestion
from lightning_fastrecipes.old_names import CLASSES

if TYPE_CHECKING:
    from lightning_fastrecipes.automatic.training import auto
    from lightning_fastrecipes.callbacks.averaging import Averaging
    from lightning_fastrecipes.callbacks.epoch_table import EpochTable
    from lightning_fastrecipes.callbacks.finite_loss_check import FiniteLossCheck
    from lightning_fastrecipes.callbacks.flat_cosine import FlatCosine
    from lightning_fastrecipes.callbacks.image_mixing import ImageMixing
    from lightning_fastrecipes.callbacks.initial_loss_check import InitialLossCheck
    from lightning_fastrecipes.callbacks.keep_best import KeepBest
    from lightning_fastrecipes.callbacks.lr_finder import LRFinder, lr_find
    from lightning_fastrecipes.callbacks.multi_label_switch import MultiLabelSwitch
    from lightning_fastrecipes.callbacks.one_cycle import OneCycle
    from lightning_fastrecipes.callbacks.overfitting_stop import OverfittingStop
    from lightning_fastrecipes.callbacks.progressive_resizing import ProgressiveResizing
    from lightning_fastrecipes.callbacks.rising_loss_check import RisingLossCheck
    from lightning_fastrecipes.callbacks.save_every import SaveEvery
    from lightning_fastrecipes.callbacks.sgdr import SGDR
    from lightning_fastrecipes.callbacks.snapshots import CycleSnapshots
    from lightning_fastrecipes.callbacks.step_schedule import StepSchedule
    from lightning_fastrecipes.callbacks.test_time_augmentation import TestTimeAugmentation
    from lightning_fastrecipes.callbacks.train_metrics import TrainMetrics
    from lightning_fastrecipes.callbacks.triangular import Triangular
    from lightning_fastrecipes.callbacks.validation_guard import ValidationGuard
    from lightning_fastrecipes.data.common.row_splits import FoldSplit, RowSplit
    from lightning_fastrecipes.data.common.split_choice import (
        ColumnSplit,
        DateSplit,
        FractionSplit,
        GroupSplit,
    )
    from lightning_fastrecipes.data.images.datamodules import (
        ImageArrayDataModule,
        ImageCSVDataModule,
        ImageFolderDataModule,
    )
    from lightning_fastrecipes.data.images.features import FeatureDataModule
    from lightning_fastrecipes.data.images.folder_layout import FolderLayout
    from lightning_fastrecipes.data.images.geometry import Geometry
    from lightning_fastrecipes.data.images.label_table import (
        LabelTable,
        Numbers,
        SingleLabel,
        SoftLabels,
        Tags,
    )
    from lightning_fastrecipes.data.images.options import Augmentation
    from lightning_fastrecipes.data.images.showing import show_transforms
    from lightning_fastrecipes.data.tables.columns import TableColumns
    from lightning_fastrecipes.data.tables.datamodule import TabularDataModule
    from lightning_fastrecipes.data.tables.reading import Reading
    from lightning_fastrecipes.data.tables.splits import TableSplit
    from lightning_fastrecipes.functional.images.conv_arithmetic import conv_arithmetic
    from lightning_fastrecipes.functional.labels.interpretation import (
        confusion,
        most_confused,
        top_losses,
    )
    from lightning_fastrecipes.functional.tables.dates import add_datepart
    from lightning_fastrecipes.functional.tables.elapsed import add_elapsed
    from lightning_fastrecipes.functional.tables.importance import permutation_importance
    from lightning_fastrecipes.functional.tables.spec import TableSpec
    from lightning_fastrecipes.nn.backbone_table import backbones
    from lightning_fastrecipes.nn.label_rules import Labels
    from lightning_fastrecipes.nn.losses import Loss
    from lightning_fastrecipes.nn.rmspe import RMSPE
    from lightning_fastrecipes.nn.sample_fbeta import SampleFBeta
    from lightning_fastrecipes.nn.small import SmallCNN, SmallMLP
    from lightning_fastrecipes.nn.summary import summary
    from lightning_fastrecipes.recipe.fine_tuning import FineTuned, TrainedStage, fine_tune
    from lightning_fastrecipes.recipe.predictor import Prediction, Predictor, export, load
    from lightning_fastrecipes.reporting.reports import report
    from lightning_fastrecipes.tasks.ensemble import Ensemble
    from lightning_fastrecipes.tasks.image import ImageClassifier
    from lightning_fastrecipes.tasks.image_regressor import ImageRegressor
    from lightning_fastrecipes.tasks.image_task import Head
    from lightning_fastrecipes.tasks.multi_target import TabularMultiTarget
    from lightning_fastrecipes.tasks.optim import Optim
    from lightning_fastrecipes.tasks.table_task import TabularNetwork
    from lightning_fastrecipes.tasks.tabular import TabularClassifier, TabularRegressor

__version__ = "0.1.0"

__all__ = [
    "RMSPE",
    "SGDR",
    "Augmentation",
    "Averaging",
    "ColumnSplit",
    "CycleSnapshots",
    "DateSplit",
    "Ensemble",
    "EpochTable",
    "FeatureDataModule",
    "FineTuned",
    "FiniteLossCheck",
    "FlatCosine",
    "FoldSplit",
    "FolderLayout",
    "FractionSplit",
    "Geometry",
    "GroupSplit",
    "Head",
    "ImageArrayDataModule",
    "ImageCSVDataModule",
    "ImageClassifier",
    "ImageFolderDataModule",
    "ImageMixing",
    "ImageRegressor",
    "InitialLossCheck",
    "KeepBest",
    "LRFinder",
    "LabelTable",
    "Labels",
    "Loss",
    "MultiLabelSwitch",
    "Numbers",
    "OneCycle",
    "Optim",
    "OverfittingStop",
    "Prediction",
    "Predictor",
    "ProgressiveResizing",
    "Reading",
    "RisingLossCheck",
    "RowSplit",
    "SampleFBeta",
    "SaveEvery",
    "SingleLabel",
    "SmallCNN",
    "SmallMLP",
    "SoftLabels",
    "StepSchedule",
    "TableColumns",
    "TableSpec",
    "TableSplit",
    "TabularClassifier",
    "TabularDataModule",
    "TabularMultiTarget",
    "TabularNetwork",
    "TabularRegressor",
    "Tags",
    "TestTimeAugmentation",
    "TrainMetrics",
    "TrainedStage",
    "Triangular",
    "ValidationGuard",
    "add_datepart",
    "add_elapsed",
    "auto",
    "backbones",
    "confusion",
    "conv_arithmetic",
    "export",
    "fine_tune",
    "load",
    "lr_find",
    "most_confused",
    "permutation_importance",
    "report",
    "show_transforms",
    "summary",
    "top_losses",
]

# Resolved on first use, so that importing the package stays light.
_HOMES = {
    "RMSPE": "nn.rmspe",
    "SGDR": "callbacks.sgdr",
    "Augmentation": "data.images.options",
    "Averaging": "callbacks.averaging",
    "ColumnSplit": "data.common.split_choice",
    "CycleSnapshots": "callbacks.snapshots",
    "DateSplit": "data.common.split_choice",
    "Ensemble": "tasks.ensemble",
    "EpochTable": "callbacks.epoch_table",
    "FeatureDataModule": "data.images.features",
    "FineTuned": "recipe.fine_tuning",
    "FiniteLossCheck": "callbacks.finite_loss_check",
    "FlatCosine": "callbacks.flat_cosine",
    "FolderLayout": "data.images.folder_layout",
    "FoldSplit": "data.common.row_splits",
    "FractionSplit": "data.common.split_choice",
    "Geometry": "data.images.geometry",
    "GroupSplit": "data.common.split_choice",
    "Head": "tasks.image_task",
    "ImageArrayDataModule": "data.images.datamodules",
    "ImageCSVDataModule": "data.images.datamodules",
    "ImageClassifier": "tasks.image",
    "ImageFolderDataModule": "data.images.datamodules",
    "ImageRegressor": "tasks.image_regressor",
    "InitialLossCheck": "callbacks.initial_loss_check",
    "KeepBest": "callbacks.keep_best",
    "LRFinder": "callbacks.lr_finder",
    "LabelTable": "data.images.label_table",
    "Labels": "nn.label_rules",
    "Loss": "nn.losses",
    "MultiLabelSwitch": "callbacks.multi_label_switch",
    "Numbers": "data.images.label_table",
    "OneCycle": "callbacks.one_cycle",
    "Optim": "tasks.optim",
    "OverfittingStop": "callbacks.overfitting_stop",
    "ImageMixing": "callbacks.image_mixing",
    "Prediction": "recipe.predictor",
    "Predictor": "recipe.predictor",
    "ProgressiveResizing": "callbacks.progressive_resizing",
    "Reading": "data.tables.reading",
    "RisingLossCheck": "callbacks.rising_loss_check",
    "RowSplit": "data.common.row_splits",
    "SaveEvery": "callbacks.save_every",
    "SampleFBeta": "nn.sample_fbeta",
    "SingleLabel": "data.images.label_table",
    "SmallCNN": "nn.small",
    "SmallMLP": "nn.small",
    "SoftLabels": "data.images.label_table",
    "StepSchedule": "callbacks.step_schedule",
    "Tags": "data.images.label_table",
    "TableColumns": "data.tables.columns",
    "TableSpec": "functional.tables.spec",
    "TableSplit": "data.tables.splits",
    "TabularClassifier": "tasks.tabular",
    "TabularDataModule": "data.tables.datamodule",
    "TabularMultiTarget": "tasks.multi_target",
    "TabularNetwork": "tasks.table_task",
    "TabularRegressor": "tasks.tabular",
    "TestTimeAugmentation": "callbacks.test_time_augmentation",
    "TrainMetrics": "callbacks.train_metrics",
    "TrainedStage": "recipe.fine_tuning",
    "Triangular": "callbacks.triangular",
    "ValidationGuard": "callbacks.validation_guard",
    "add_datepart": "functional.tables.dates",
    "auto": "automatic.training",
    "backbones": "nn.backbone_table",
    "add_elapsed": "functional.tables.elapsed",
    "conv_arithmetic": "functional.images.conv_arithmetic",
    "confusion": "functional.labels.interpretation",
    "export": "recipe.predictor",
    "fine_tune": "recipe.fine_tuning",
    "load": "recipe.predictor",
    "lr_find": "callbacks.lr_finder",
    "most_confused": "functional.labels.interpretation",
    "permutation_importance": "functional.tables.importance",
    "top_losses": "functional.labels.interpretation",
    "report": "reporting.reports",
    "show_transforms": "data.images.showing",
    "summary": "nn.summary",
}


def __getattr__(name: str) -> Any:
    """Import a public class where it lives, the first time it is asked for."""
    today = CLASSES.get(name, name)
    if today not in _HOMES:
        meant = "" if name.startswith("_") else suggestion(name, __all__)
        # `from ... import` drops the words of an AttributeError.
        is_import = sys._getframe(1).f_code.co_name == "_handle_fromlist"
        if meant and is_import and find_spec(f"{__name__}.{name}") is None:
            raise ImportError(f"cannot import name {name!r} from {__name__!r}.{meant}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{meant}")
    value = load_object(f"{__name__}.{_HOMES[today]}.{today}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted([*globals(), *__all__])
