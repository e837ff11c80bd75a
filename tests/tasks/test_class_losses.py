"""Weights of classes, smoothing, the focal loss and losses of one's own, in both classifiers."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F  # noqa: N812
from helpers.trainers import quiet_trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_fastrecipes import (
    ImageArrayDataModule,
    ImageClassifier,
    ImageMixing,
    InitialLossCheck,
    Labels,
    Loss,
    TableColumns,
    TabularClassifier,
    TabularDataModule,
    TestTimeAugmentation,
)
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.recipe.artifacts.export_files import write_export
from lightning_fastrecipes.recipe.images.description import describe_model
from lightning_fastrecipes.recipe.images.export import load_export
from lightning_fastrecipes.recipe.tables.export import describe_table_model, load_table_export

TINY = {"class_path": "lightning_fastrecipes.nn.small.SmallCNN", "init_args": {}}
COUNTS = [9, 3]
BALANCED = [12 / 18, 12 / 6]


def images(**options) -> ImageArrayDataModule:
    """Nine dark images and three bright ones; as many of each to validate."""
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], COUNTS)
    pixels = (generator.integers(0, 120, (12, 28, 28)) + 100 * labels[:, None, None]).astype(
        "uint8"
    )
    arrays = {
        "x_train": pixels,
        "y_train": labels,
        "x_val": 255 - pixels[::2],
        "y_val": labels[::2],
    }
    return ImageArrayDataModule(
        arrays, image_size=28, **{"batch_size": 4, "augmentation": "none"} | options
    )


def classifier(loss=None, **options) -> ImageClassifier:
    torch.manual_seed(0)
    labels = {"loss": loss} | options.pop("labels", {})
    return ImageClassifier(
        TINY,
        labels=labels,
        head={"layout": "linear", "dropout": 0.0},
        num_groups=2,
        lr=1e-2,
        **options,
    )


def table() -> TabularDataModule:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"x": generator.normal(size=12), "y": np.repeat(["no", "yes"], COUNTS), "s": "train"}
    )
    frame = pd.concat([frame, frame.assign(s="val")[::2]], ignore_index=True)
    columns = TableColumns("y", continuous=["x"], task="classes")
    return TabularDataModule(frame, columns, split="s", batch_size=4, cache="off")


@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        (Loss(class_weight=[1, 3.5]), lambda z, t: F.cross_entropy(z, t, torch.tensor([1, 3.5]))),
        ({"class_weight": {1: 3}}, lambda z, t: F.cross_entropy(z, t, torch.tensor([1.0, 3]))),
        ({"smoothing": 0.2}, lambda z, t: F.cross_entropy(z, t, label_smoothing=0.2)),
        ({"focal_gamma": 2}, lambda z, t: _focal(z, t)),
        ("balanced", lambda z, t: F.cross_entropy(z, t, torch.tensor(BALANCED))),
        ("MultiMarginLoss", F.multi_margin_loss),
        (
            {
                "class_path": "torch.nn.CrossEntropyLoss",
                "init_args": {"weight": [1, 2], "label_smoothing": 0.1},
            },
            lambda z, t: F.cross_entropy(z, t, torch.tensor([1.0, 2]), label_smoothing=0.1),
        ),
        (nn.CrossEntropyLoss(label_smoothing=0.3), nn.CrossEntropyLoss(label_smoothing=0.3)),
        (lambda z, t: F.cross_entropy(2 * z, t), lambda z, t: F.cross_entropy(2 * z, t)),
    ],
)
def test_training_and_validation_have_the_same_loss(tmp_path, loss, formula) -> None:
    model = classifier({"class_weight": "balanced"} if loss == "balanced" else loss)
    data = images(batch_size=12)  # one batch is all rows
    trainer = quiet_trainer(max_epochs=1, num_sanity_val_steps=0)
    before = []

    class Look(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            pl_module.eval()  # no statistics of the batch
            before.append(formula(pl_module(batch[0]), batch[1]).item())

    trainer.callbacks.append(Look())
    trainer.fit(model, data)
    assert trainer.callback_metrics["train_loss"].item() == pytest.approx(before[0], rel=1e-5)
    pixels, targets = next(iter(data.val_dataloader()))
    model.eval()
    wanted = formula(model(pixels), targets).item()
    # torch divides by the weights of the batch, we by those of all rows.
    for size in (6,) if isinstance(loss, dict) and "class_path" in loss else (6, 4, 1):
        data.batch_size = size
        (found,) = quiet_trainer().validate(model, data, verbose=False)
        assert found["val_loss"] == pytest.approx(wanted, rel=1e-5)


def _focal(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    chance = logits.softmax(1).gather(1, targets[:, None])[:, 0]
    return (-((1 - chance) ** 2) * chance.log()).mean()


def test_plain_options_change_nothing() -> None:
    weights = []
    for loss in (None, {}, Loss(), {"smoothing": 0, "focal_gamma": 0}):
        model = classifier(loss)
        quiet_trainer(max_epochs=2).fit(model, images())
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert all(torch.equal(weights[0], other) for other in weights)
    changed = classifier({"smoothing": 0.1})
    quiet_trainer(max_epochs=2).fit(changed, images())
    assert not torch.equal(weights[0], torch.cat([p.flatten() for p in changed.parameters()]))


def test_a_checkpoint_keeps_the_loss_and_balanced_weights(tmp_path) -> None:
    model = classifier({"class_weight": "balanced", "focal_gamma": 1.5})
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(model, images())
    torch.testing.assert_close(model.rules.class_weight, torch.tensor(BALANCED))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = ImageClassifier.load_from_checkpoint(tmp_path / "a.ckpt")
    assert torch.equal(again.rules.class_weight, model.rules.class_weight)
    assert again.labels.loss == {"class_weight": "balanced", "focal_gamma": 1.5}
    (wanted,) = quiet_trainer().validate(model, images(), verbose=False)
    (found,) = quiet_trainer().validate(again, images(), verbose=False)
    assert found == pytest.approx(wanted, rel=1e-6)  # the last digit depends on the CPU
    # As a run that goes on does.
    resumed = classifier({"class_weight": "balanced", "focal_gamma": 1.5})
    quiet_trainer(max_epochs=2).fit(resumed, images(), ckpt_path=tmp_path / "a.ckpt")
    straight = classifier({"class_weight": "balanced", "focal_gamma": 1.5})
    quiet_trainer(max_epochs=2).fit(straight, images())
    for one, other in zip(resumed.parameters(), straight.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_class_path_is_kept_and_a_function_is_missed(tmp_path) -> None:
    spec = {"class_path": "torch.nn.CrossEntropyLoss", "init_args": {"weight": [1.0, 2.0]}}
    for loss, kept in ((spec, spec), ("CrossEntropyLoss", "CrossEntropyLoss"), (_focal, None)):
        model, trainer = classifier(loss), quiet_trainer(max_epochs=1)
        trainer.fit(model, images())
        trainer.save_checkpoint(tmp_path / "a.ckpt")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            again = ImageClassifier.load_from_checkpoint(tmp_path / "a.ckpt")
        assert again.labels.loss == kept
        about = [str(one.message) for one in said if "trained with the loss" in str(one.message)]
        assert bool(about) == (kept is None)
        if kept is None:
            assert "`'_focal'`" in about[0]


@pytest.mark.parametrize("loss", [{"class_weight": "balanced", "smoothing": 0.1}, "NLLLoss", None])
def test_an_export_measures_the_same_loss(tmp_path, loss) -> None:
    model, data = classifier(loss), images()
    quiet_trainer(max_epochs=1).fit(model, data)
    write_export(tmp_path, model, describe_model(model, data))
    noted = json.loads((tmp_path / "model.json").read_text())["architecture"]
    assert ("labels" in noted) == (loss is not None)
    again, _ = load_export(tmp_path)
    (wanted,) = quiet_trainer().validate(model, images(), verbose=False)
    (found,) = quiet_trainer().validate(again, images(), verbose=False)
    assert found == pytest.approx(wanted, rel=1e-6)  # the last digit depends on the CPU


def test_tables_have_the_same_losses(tmp_path) -> None:
    torch.manual_seed(0)
    model = TabularClassifier(loss={"class_weight": "balanced", "smoothing": 0.1}, lr=1e-3)
    data, trainer = table(), quiet_trainer(max_epochs=1)
    trainer.fit(model, data)
    torch.testing.assert_close(model.rules.class_weight, torch.tensor(BALANCED))
    (found,) = quiet_trainer().validate(model, table(), verbose=False)
    model.eval()
    parts = [(model(inputs), targets) for inputs, targets in table_batches(data)]
    logits, targets = (torch.cat(part) for part in zip(*parts, strict=True))
    wanted = F.cross_entropy(logits, targets, torch.tensor(BALANCED), label_smoothing=0.1)
    assert found["val_loss"] == pytest.approx(wanted.item(), rel=1e-5)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = TabularClassifier.load_from_checkpoint(tmp_path / "a.ckpt")
    assert quiet_trainer().validate(again, table(), verbose=False) == [found]
    write_export(tmp_path, model, describe_table_model(model, data))
    exported, _ = load_table_export(tmp_path)
    assert quiet_trainer().validate(exported, table(), verbose=False) == [found]
    by_name = TabularClassifier(loss=Loss(class_weight={"yes": 4.0}))
    by_name.set_spec(data.spec)
    assert by_name.rules.class_weight.tolist() == [1.0, 4.0]


def table_batches(data: TabularDataModule) -> list:
    data.setup()
    return list(data.val_dataloader())


def test_mixed_targets_and_the_first_loss(capsys) -> None:
    model = classifier({"class_weight": [1.0, 5.0], "smoothing": 0.3, "focal_gamma": 2.0})
    check = InitialLossCheck(tolerance=0.4)
    quiet_trainer(check, ImageMixing(), max_epochs=1).fit(model, images())
    found = {result.check: result for result in check.results}
    assert found["loss"].passed, found["loss"]
    # Not the logarithm of 2: focused, it is a quarter of that.
    assert "of even probabilities 0.1" in found["loss"].message
    odd = InitialLossCheck()
    quiet_trainer(odd, max_epochs=1).fit(classifier(lambda z, t: z.mean() * 0), images())
    assert next(r for r in odd.results if r.check == "loss").passed is None


def test_several_labels_are_smoothed_and_focused() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(8, 3, 28, 28, generator=generator)
    targets = (torch.rand(8, 3, generator=generator) < 0.5).float()
    for loss in ({"smoothing": 0.2}, {"focal_gamma": 2.0}, "MultiLabelSoftMarginLoss"):
        model = classifier(loss, labels={"kind": "multi"}, num_classes=3)
        loader = DataLoader(TensorDataset(pixels, targets), batch_size=3)
        (found,) = quiet_trainer().validate(model, loader, verbose=False)
        logits = model.eval()(pixels)
        wanted = {
            "smoothing": lambda z: F.binary_cross_entropy_with_logits(z, 0.8 * targets + 0.1),
            "focal_gamma": lambda z: (
                (targets - z.sigmoid()).abs() ** 2
                * F.binary_cross_entropy_with_logits(z, targets, reduction="none")
            ).mean(),
            "MultiLabelSoftMarginLoss": lambda z: F.multilabel_soft_margin_loss(z, targets),
        }[next(iter(loss)) if isinstance(loss, dict) else loss](logits)
        assert found["val_loss"] == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize(
    "loss", [{"class_weight": [1.0, 4.0], "focal_gamma": 1}, "CrossEntropyLoss"]
)
def test_views_measure_the_same_loss(loss) -> None:
    views = TestTimeAugmentation(n=1, preset="flips", plain_weight=1.0)
    (found,) = quiet_trainer(views).validate(classifier(loss), images(), verbose=False)
    assert found["val_loss_tta"] == pytest.approx(found["val_loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "match"),
    [
        ({"class_weight": [1.0, 2.0, 3.0]}, "one number for each of the 2 classes, got 3"),
        ({"class_weight": {"cat": 2.0}}, "must name classes of the data, '0', '1', but names 'c"),
        ({"class_weight": [1.0, -2.0]}, "must be 'balanced', or a number of at least 0"),
        ({"class_weight": [1.0, float("nan")]}, "must be 'balanced', or a number of at least 0"),
        ({"class_weight": [0, 0]}, "not all of them 0"),
        ({"class_weight": "even"}, "must be 'balanced', or a number of at least 0"),
        ({"focal_gamma": -1}, "`loss.focal_gamma` must be a number of at least 0, got -1"),
        ({"smoothing": 1.0}, r"`loss.smoothing` must lie in \[0, 1\), got 1.0"),
        ({"smothing": 0.1}, "Did you mean `smoothing`"),
        ("CrossEntropy", "Did you mean `CrossEntropyLoss`"),
        ("os.system", "must name a loss of `torch.nn`"),
        (3, r"must be a mapping \(class_weight, smoothing, focal_gamma\), text, a function"),
        ({"class_path": "torch.nn.CrossEntropyLoss", "init_args": {"w": 1}}, "does not take"),
        ({"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 2}},
         "must have nothing to train"),
        (nn.MSELoss(), "MSELoss fails"),
        (nn.CrossEntropyLoss(reduction="none"), r"returns shape \(3,\). Set `reduction='mean'`"),
        (lambda z, t: 3.0, "returns 3.0"),
    ],
)  # fmt: skip
def test_what_fits_nothing_is_refused_before_training(loss, match) -> None:
    with pytest.raises(ConfigurationError, match=match):
        quiet_trainer(max_epochs=1).fit(classifier(loss), images())


def test_several_labels_have_no_weights_of_classes() -> None:
    with pytest.raises(ConfigurationError, match="weighs rows of one label each"):
        classifier({"class_weight": "balanced"}, labels={"kind": "multi"}, num_classes=3)
    labels = Labels("multi", pos_weight="balanced", loss="BCEWithLogitsLoss")
    with pytest.raises(ConfigurationError, match="Give one of them"):
        ImageClassifier(TINY, 3, labels=labels, num_groups=2)
    model = classifier({"class_weight": {"a": 1.0}}, num_classes=2)
    loader = DataLoader(TensorDataset(torch.rand(4, 3, 28, 28), torch.tensor([0, 1, 0, 1])))
    with pytest.raises(ConfigurationError, match="does not know the names of its own"):
        quiet_trainer(max_epochs=1).fit(model, loader)
    model = classifier({"class_weight": "balanced"}, num_classes=2)
    with pytest.raises(ConfigurationError, match="needs a datamodule with `train_targets`"):
        quiet_trainer(max_epochs=1).fit(model, loader)
