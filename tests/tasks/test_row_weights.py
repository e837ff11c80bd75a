"""Rows that count differently: images, features, mixed images, and tables."""

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F  # noqa: N812
from helpers.trainers import quiet_trainer
from PIL import Image

from lightning_fastrecipes import (
    Augmentation,
    FeatureDataModule,
    ImageClassifier,
    ImageCSVDataModule,
    ImageMixing,
    ImageRegressor,
    InitialLossCheck,
    LabelTable,
    Numbers,
    TableColumns,
    TabularClassifier,
    TabularDataModule,
    TabularMultiTarget,
    TabularRegressor,
    Tags,
)
from lightning_fastrecipes.errors import DataError

WEIGHTS = [0.0, 1.0, 2.0, 5.0, 1.0, 3.0, 0.5, 3.5]
SCALED = np.array(WEIGHTS) / 2
LABELS = ["a", "b", "b", "a", "a b", "a", "b", "a"]


class Batches(pl.Callback):
    """Keep the batches of training, and the outputs of the model in eval mode before each step."""

    def __init__(self) -> None:
        self.rows: list = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        pl_module.eval()
        with torch.no_grad():
            logits = pl_module._logits(batch, batch[0])
        self.rows.append((logits, *(part.clone() for part in batch[1:])))


@pytest.fixture
def table(tmp_path) -> pd.DataFrame:
    """Images of one grey each, from dark to bright, and four more to validate."""
    for number in range(12):
        Image.new("RGB", (32, 32), (20 * number,) * 3).save(tmp_path / f"{number}.png")
    return pd.DataFrame({
        "file": [f"{number}.png" for number in range(12)],
        "label": [label[0] for label in LABELS] + ["a", "b"] * 2,
        "quality": WEIGHTS + [9.0] * 4,
        "split": ["train"] * 8 + ["val"] * 4,
    })  # fmt: skip


def images(table, tmp_path, weight="quality", labels="label", **options) -> ImageCSVDataModule:
    described = LabelTable(str(tmp_path), labels=labels, weight=weight)
    options = {"batch_size": 8, "augmentation": "none"} | options
    return ImageCSVDataModule(
        table, table=described, split="split", image_size=32, cache="off", **options
    )


def classifier(**options) -> ImageClassifier:
    torch.manual_seed(0)
    head = {"layout": "linear", "dropout": 0.0}
    return ImageClassifier("test_efficientnet.r160_in1k", head=head, lr=1e-3, **options)


@pytest.mark.parametrize(
    "loss", [None, {"class_weight": {"a": 3.0}, "smoothing": 0.1}, "CrossEntropyLoss"]
)
@pytest.mark.parametrize("way", ["images", "on device", "features"])
def test_images_count_in_training_as_their_table_says(table, tmp_path, loss, way) -> None:
    options = {"on device": {"augmentation": Augmentation("side_on", on_device=True)}}
    data, seen = images(table, tmp_path, **options.get(way, {})), Batches()
    model = classifier(labels={"loss": loss})
    model.freeze_to(-1)
    served = FeatureDataModule(data, model) if way == "features" else data
    trainer = quiet_trainer(seen, InitialLossCheck(), max_epochs=2, num_sanity_val_steps=0)
    trainer.fit(model, served)
    torch.testing.assert_close(data.train_weights, torch.tensor(SCALED).float())
    # Each row has the weight of its image, in any order.
    for _, targets, weights in seen.rows:
        pairs = sorted(zip(targets.tolist(), weights.tolist(), strict=True))
        wanted = sorted(zip([label[0] == "b" for label in LABELS], SCALED, strict=True))
        np.testing.assert_allclose(pairs, wanted, rtol=1e-6)
    logits, targets, weights = seen.rows[-1]
    if loss is None or isinstance(loss, str):
        rows = F.cross_entropy(logits, targets, reduction="none")
        expected = (weights * rows).sum() / 8
    else:
        by_class = torch.tensor([3.0, 1.0])
        rows = F.cross_entropy(logits, targets, by_class, reduction="none", label_smoothing=0.1)
        expected = (weights * rows).sum() / by_class[targets].sum()
    assert trainer.callback_metrics["train_loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    # What is validated does not know of weights.
    (found,) = quiet_trainer().validate(model, data, verbose=False)
    plain = images(table, tmp_path, weight=None)
    assert quiet_trainer().validate(model, plain, verbose=False) == [found]


def test_images_with_numbers_count_too(table, tmp_path) -> None:
    table["label"] = np.random.default_rng(0).normal(size=12)
    for mixing in ([], [ImageMixing()]):
        data, seen = images(table, tmp_path, labels=Numbers(["label"])), Batches()
        torch.manual_seed(0)
        head = {"layout": "linear", "dropout": 0.0}
        model = ImageRegressor("test_efficientnet.r160_in1k", head=head, lr=1e-3)
        trainer = quiet_trainer(*mixing, seen, InitialLossCheck(), max_epochs=1)
        trainer.fit(model, data)
        logits, targets, weights = seen.rows[0]
        losses = [model.loss(logits[r : r + 1], targets[r : r + 1]).item() for r in range(8)]
        expected = float((weights * torch.tensor(losses)).mean())
        assert trainer.callback_metrics["train_loss"].item() == pytest.approx(expected, rel=1e-4)
        assert float(weights.mean()) == pytest.approx(1.0)


def test_batches_without_weights_stay_pairs(table, tmp_path) -> None:
    data = images(table, tmp_path)
    data.setup()
    assert [len(batch) for batch in data.train_dataloader()] == [3]
    assert [len(batch) for batch in data.val_dataloader()] == [2]
    assert [len(batch) for batch in data.eval_dataloader("train")] == [2]
    plain = images(table, tmp_path, weight=None)
    plain.setup()
    assert [len(batch) for batch in plain.train_dataloader()] == [2]


def test_several_labels_count_by_their_rows(table, tmp_path) -> None:
    table["label"] = [*LABELS, *LABELS[2:6]]
    data, seen = images(table, tmp_path, labels=Tags()), Batches()
    trainer = quiet_trainer(seen, max_epochs=1, num_sanity_val_steps=0)
    trainer.fit(classifier(), data)
    logits, targets, weights = seen.rows[0]
    cells = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    expected = (weights[:, None] * cells).mean().item()
    assert trainer.callback_metrics["train_loss"].item() == pytest.approx(expected, rel=1e-5)


def test_a_mixed_row_counts_as_its_two_parts(table, tmp_path) -> None:
    data, seen = images(table, tmp_path), Batches()
    torch.manual_seed(3)
    trainer = quiet_trainer(ImageMixing(), seen, max_epochs=1, num_sanity_val_steps=0)
    trainer.fit(classifier(), data)
    logits, targets, weights = seen.rows[0]
    assert targets.shape == (8, 2)
    # The sum over classes of weights is kept: 6 for a, 2 for b, over their mean.
    total = (targets * weights[:, None]).sum(0)
    is_a = np.array([label[0] == "a" for label in LABELS])
    torch.testing.assert_close(
        total, torch.tensor([SCALED[is_a].sum(), SCALED[~is_a].sum()]).float()
    )
    counted = weights > 0
    torch.testing.assert_close(targets[counted].sum(1), torch.ones(int(counted.sum())))
    rows = F.cross_entropy(logits, targets, reduction="none")
    expected = (weights * rows).mean().item()
    assert trainer.callback_metrics["train_loss"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("wrong", [None, -1.0, float("inf"), "much"])
def test_a_weight_that_is_none_is_refused_by_its_row(table, tmp_path, wrong) -> None:
    table["quality"] = table["quality"].astype(object)
    table.loc[2, "quality"] = wrong
    with pytest.raises(DataError, match=r"as weight in the column 'quality': '2.png \(row 2\)'"):
        images(table, tmp_path).setup()


def test_weights_that_say_nothing_are_refused(table, tmp_path) -> None:
    with pytest.raises(DataError, match="has no column 'qualitty'"):
        images(table, tmp_path, weight="qualitty").setup()
    table.loc[:7, "quality"] = 0.0
    with pytest.raises(DataError, match="weights of all training images are 0"):
        images(table, tmp_path).setup()


def rows_of_table() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    return pd.DataFrame({
        "x": generator.normal(size=12), "y": generator.normal(100, 20, 12), "c": ["n", "m"] * 6,
        "w": WEIGHTS + [None] * 4, "s": ["train"] * 8 + ["val"] * 4,
    })  # fmt: skip


def tabular(frame, target, task, cache="off", **options) -> TabularDataModule:
    columns = TableColumns(target, continuous=["x"], task=task, weight="w")
    return TabularDataModule(frame, columns, split="s", batch_size=8, cache=cache, **options)


@pytest.mark.parametrize("kind", ["regression", "classes", "several"])
def test_rows_of_tables_count_in_training(tmp_path, kind) -> None:
    torch.manual_seed(0)
    target = {"regression": "y", "classes": "c", "several": ["y", "c"]}[kind]
    task = {"y": "regression", "c": "classes"} if kind == "several" else kind
    model = {
        "regression": TabularRegressor, "classes": TabularClassifier, "several": TabularMultiTarget,
    }[kind](lr=1e-3)  # fmt: skip
    for cache in (tmp_path / "cache", tmp_path / "cache"):  # written, then read
        data, seen = tabular(rows_of_table(), target, task, str(cache)), Batches()
        trainer = quiet_trainer(seen, max_epochs=1, num_sanity_val_steps=0)
        trainer.fit(model, data)
        logits, targets, weights = seen.rows[0]
        assert sorted(weights.tolist()) == pytest.approx(sorted(SCALED))
        losses = [
            model.loss(logits[row : row + 1], targets[row : row + 1]).item() for row in range(8)
        ]
        expected = float((weights * torch.tensor(losses)).mean())
        found = trainer.callback_metrics["train_loss"].item()
        assert found == pytest.approx(expected, rel=1e-4)
    assert "'w'" not in str(model.spec.to_dict())
    # Rows to predict have no weight, and evaluations do not look at it.
    predicted = model.predict(rows_of_table()[["x"]])
    assert len(predicted) == 12
    plain = TabularDataModule(
        rows_of_table(), TableColumns(target, continuous=["x"], task=task), split="s", cache="off"
    )
    wanted = quiet_trainer().validate(model, plain, verbose=False)
    data = tabular(rows_of_table(), target, task)
    assert quiet_trainer().validate(model, data, verbose=False) == wanted
    data.setup()
    assert [len(batch) for batch in data.eval_dataloader("train")] == [2]


@pytest.mark.parametrize("wrong", [None, -2.0])
def test_a_row_of_a_table_without_a_weight_is_refused(wrong) -> None:
    frame = rows_of_table()
    frame.loc[3, "w"] = wrong
    with pytest.raises(DataError, match=r"'w' must hold weights, .* but not in row 3\."):
        tabular(frame, "y", "regression").setup()
    frame["w"] = 0
    with pytest.raises(DataError, match="The weights of all training rows, in the column 'w'"):
        tabular(frame, "y", "regression").setup()


def test_a_weight_is_no_feature_and_a_trained_spec_takes_one() -> None:
    for roles in (("y", [], ["x", "w"]), ("w", [], ["x"]), ("y", ["w"], ["x"])):
        with pytest.raises(ValueError, match="neither predicted nor a feature, got 'w'"):
            TableColumns(*roles, weight="w")
    data = tabular(rows_of_table(), "y", "regression")
    data.setup()
    columns = TableColumns("y", continuous=["x"], weight="w")
    further = TabularDataModule(
        rows_of_table(), columns, spec=data.spec, split="s", cache="off", batch_size=8
    )
    further.setup()
    assert [len(batch) for batch in further.train_dataloader()] == [3]
