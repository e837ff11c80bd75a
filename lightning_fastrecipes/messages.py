"""Parts of messages that many rooms write."""

import difflib
import reprlib
from collections.abc import Iterable, Mapping, Sequence

_MAX_NAMED = 20
_MAX_LENGTH = 4_000
_OF_FASTAI: Mapping[str, Sequence[str]] = {
    "Categorify": ["TableColumns"],
    "CategoryBlock": ["SingleLabel"],
    "ClassificationInterpretation": ["most_confused"],
    "ColReader": ["LabelTable"],
    "ColSplitter": ["ColumnSplit"],
    "ColumnarModelData": ["TabularDataModule"],
    "ConvLearner": ["ImageClassifier"],
    "CrossEntropyLossFlat": ["Loss"],
    "CutMix": ["ImageMixing"],
    "DataBlock": ["ImageCSVDataModule"],
    "FillMissing": ["TableColumns"],
    "FocalLoss": ["Loss"],
    "FocalLossFlat": ["Loss"],
    "ImageBlock": ["ImageFolderDataModule"],
    "ImageClassifierData": ["ImageFolderDataModule"],
    "ImageDataBunch": ["ImageFolderDataModule"],
    "ImageDataLoaders": ["ImageFolderDataModule"],
    "IndexSplitter": ["RowSplit"],
    "Interpretation": ["top_losses"],
    "LabelSmoothingCrossEntropy": ["Loss"],
    "LabelSmoothingCrossEntropyFlat": ["Loss"],
    "Learner": ["ImageClassifier"],
    "MixUp": ["ImageMixing"],
    "MultiCategoryBlock": ["Tags"],
    "PointBlock": ["Numbers"],
    "ProgressCallback": ["EpochTable"],
    "RandomSplitter": ["FractionSplit"],
    "Recorder": ["EpochTable"],
    "RegressionBlock": ["Numbers"],
    "SaveModelCallback": ["KeepBest"],
    "StructuredLearner": ["TabularRegressor"],
    "TTA": ["TestTimeAugmentation"],
    "TabularDataLoaders": ["TabularDataModule"],
    "TabularLearner": ["TabularRegressor"],
    "TabularModel": ["TabularNetwork"],
    "TabularPandas": ["TabularDataModule"],
    "aug_transforms": ["Augmentation"],
    "cnn_learner": ["ImageClassifier"],
    "cont_cat_split": ["TableColumns"],
    "exp_rmspe": ["RMSPE"],
    "fit_flat_cos": ["FlatCosine"],
    "fit_one_cycle": ["OneCycle"],
    "fit_sgdr": ["SGDR"],
    "get_cv_idxs": ["FractionSplit"],
    "load_learner": ["load"],
    "plot_top_losses": ["top_losses"],
    "tabular_config": ["TabularNetwork"],
    "tabular_learner": ["TabularRegressor"],
    "tfms_from_model": ["Augmentation"],
    "transforms_basic": ["Augmentation"],
    "transforms_side_on": ["Augmentation"],
    "transforms_top_down": ["Augmentation"],
    "vision_learner": ["ImageClassifier"],
    "arch": ["backbone"],
    "aug_tfms": ["augmentation"],
    "base_lr": ["lr"],
    "batch_tfms": ["augmentation"],
    "bs": ["batch_size"],
    "cat_names": ["categorical", "columns=TableColumns(target, categorical, continuous)"],
    "cat_vars": ["categorical", "columns=TableColumns(target, categorical, continuous)"],
    "cbs": ["callbacks"],
    "cont_names": ["continuous", "columns=TableColumns(target, categorical, continuous)"],
    "contin_vars": ["continuous", "columns=TableColumns(target, categorical, continuous)"],
    "crit": ["loss", "labels=Labels(loss=...)"],
    "cyc_len": ["cycle_len"],
    "df": ["csv", "source"],
    "emb_drop": ["embedding_dropout", "network=TabularNetwork(embedding_dropout=...)"],
    "emb_szs": ["embedding_rule", "network=TabularNetwork(embedding_rule=...)"],
    "embed_p": ["embedding_dropout", "network=TabularNetwork(embedding_dropout=...)"],
    "end_lr": ["max_lr"],
    "fn_col": ["file_column", "table=LabelTable(file_column=...)"],
    "freeze_epochs": ["head_epochs"],
    "item_tfms": ["image_size"],
    "label_col": ["labels", "table=LabelTable(labels=...)"],
    "label_delim": ["table=LabelTable(labels=Tags(separator=...))"],
    "layers": ["network=TabularNetwork(layers=...)"],
    "lin_ftrs": ["hidden", "head=Head(hidden=...)"],
    "loss_func": ["loss", "labels=Labels(loss=...)"],
    "lr_max": ["lr"],
    "lrs": ["lr"],
    "n_epoch": ["epochs", "max_epochs"],
    "n_out": ["num_classes"],
    "num_it": ["num_steps"],
    "opt_fn": ["optimizer", "optim=Optim(optimizer=...)"],
    "opt_func": ["optimizer", "optim=Optim(optimizer=...)"],
    "path": ["root", "csv", "source"],
    "ps": ["dropout", "head=Head(dropout=...)", "network=TabularNetwork(dropout=...)"],
    "size": ["image_size"],
    "start_lr": ["min_lr"],
    "sz": ["image_size"],
    "tfms": ["augmentation"],
    "train_bn": ["norm_policy"],
    "val_idxs": ["split"],
    "valid_col": ["split"],
    "valid_pct": ["split"],
    "wd": ["weight_decay", "optim=Optim(weight_decay=...)"],
    "wds": ["weight_decay", "optim=Optim(weight_decay=...)"],
    "xtra_fc": ["hidden", "head=Head(hidden=...)"],
    "y_names": ["target", "columns=TableColumns(target, categorical, continuous)"],
}
"""Names and arguments of fast.ai 0.7 and fastai 2, and what stands for them, where it is known."""


def name_some(names: Sequence[str]) -> str:
    """List names for a message: the first 20, and how many there are.

    Of a long name the ends are shown; what a terminal would act upon, such as an escape, is
    written out.

    >>> name_some(["a.png", "b.png"])
    "'a.png', 'b.png'"
    """
    shown = ", ".join(f"'{_one_line(name)}'" for name in names[:_MAX_NAMED])
    return shown if len(names) <= _MAX_NAMED else f"{shown}, ... ({len(names)} in all)"


_NOT_HERE: Mapping[str, str] = {
    "CollabDataLoaders": "images and tables are",
    "LanguageModelData": "images and tables are",
    "SegmentationDataLoaders": "images are classified, or given numbers",
    "TextDataLoaders": "images and tables are",
    "URLs": "no data are fetched",
    "collab_learner": "images and tables are",
    "language_model_learner": "images and tables are",
    "text_classifier_learner": "images and tables are",
    "unet_learner": "images are classified, or given numbers",
    "untar_data": "no data are fetched",
}


def suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Ask whether a known name was meant, or say nothing if none is close.

    >>> suggestion("bs", ["batch_size", "seed"])
    " fast.ai's `bs` is called `batch_size` here."
    """
    known = list(known)
    for ours in _OF_FASTAI.get(name, ()):
        if ours.partition("=")[0] in known:
            return f" fast.ai's `{name}` is called `{prefix}{ours}` here."
    if name in _NOT_HERE:
        return f" fast.ai's `{name}` is not here: {_NOT_HERE[name]}."
    close = difflib.get_close_matches(name[:_MAX_LENGTH], known, 1)
    return f" Did you mean `{prefix}{close[0]}`?" if close else ""


def shown(value: object) -> str:
    """Show a value of a file or an argument: short, however long or deep it is.

    >>> shown("photos"), shown(list(range(1000)))
    ("'photos'", '[0, 1, 2, 3, 4, 5, ...]')
    """
    return bounded(_short.repr(value), 200)


def bounded(text: str, most: int = _MAX_LENGTH) -> str:
    """Cut the middle out of text of more than ``most`` characters, and say how many there were.

    >>> bounded("a" * 90, 20)
    'aaaaaaaaaa ... (90 characters) ... aaaaaaaaaa'
    """
    if len(text) <= most:
        return text
    return f"{text[: most // 2]} ... ({len(text):,} characters) ... {text[-(most // 2) :]}"


def printable(text: str) -> str:
    r"""Write out what a terminal would act upon, such as an escape; lines stay.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return text if text.isprintable() else "".join(map(_printed, text))


def _printed(sign: str) -> str:
    if sign.isprintable() or sign in "\n\t":
        return sign
    return sign.encode("unicode_escape").decode()


def _one_line(name: str) -> str:
    return printable(bounded(str(name), 400)).replace("\n", "\\n")


def _short_repr() -> reprlib.Repr:
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 120
    return short


_short = _short_repr()
