"""A classifier that is built before its data, and takes number and kind of labels from them."""

import logging

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from helpers.trainers import QUIET, quiet_trainer
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightning_fastrecipes as fr
from lightning_fastrecipes import (
    FeatureDataModule,
    ImageArrayDataModule,
    ImageClassifier,
    ImageCSVDataModule,
    LabelTable,
    Tags,
    lr_find,
)
from lightning_fastrecipes.errors import ConfigurationError


def backbone() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU()),
    )


def open_model(**options) -> ImageClassifier:
    return ImageClassifier(backbone(), **({"head": {"hidden": 8}} | options))


def digits() -> ImageArrayDataModule:
    draw = np.random.default_rng(1)
    images, labels = draw.integers(0, 256, (36, 16, 16, 3), dtype=np.uint8), np.arange(36) % 3
    arrays = {
        "x_train": images,
        "y_train": labels,
        "x_test": 255 - images[:6],
        "y_test": labels[:6],
    }
    return ImageArrayDataModule(arrays, split=0.25, image_size=16, batch_size=9)


def trainer(**options) -> pl.Trainer:
    return quiet_trainer(**({"max_epochs": 1} | options))


def test_the_datamodule_says_how_many_classes_there_are(caplog) -> None:
    model = open_model()
    assert model.num_classes is None
    assert [len(group.parameters) > 0 for group in model.layer_groups()] == [True, True, False]
    with caplog.at_level(logging.INFO):
        trainer().fit(model, datamodule=digits())
    assert (model.num_classes, model.classes, model.label_kind) == (3, ["0", "1", "2"], "single")
    (said,) = [record.message for record in caplog.records if "classes" in record.message]
    assert said == (
        "ImageClassifier: 3 classes (0, 1, 2), one label per sample, as ImageArrayDataModule has"
        " them"
    )
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 3)


def test_it_trains_as_one_that_was_told() -> None:
    told = ImageClassifier(backbone(), 3, head={"hidden": 8})
    asked = open_model()
    torch.manual_seed(1)
    told.build_head(3)
    asked.unfreeze()
    torch.manual_seed(1)
    asked.set_classes(["0", "1", "2"])
    for model in (told, asked):
        pl.seed_everything(0, verbose=False)
        trainer(max_epochs=2).fit(model, datamodule=digits())
    for name, value in told.state_dict().items():
        assert torch.equal(value, asked.state_dict()[name]), name


def test_several_labels_are_taken_too(tmp_path) -> None:
    draw = np.random.default_rng(0)
    tags = ["sun sea", "sun", "sea sand", "sand"] * 4
    for number in range(16):
        pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    table = pd.DataFrame({"file": [f"{n}.png" for n in range(16)], "label": tags})
    table.to_csv(tmp_path / "tags.csv", index=False)
    data = ImageCSVDataModule(
        tmp_path / "tags.csv",
        table=LabelTable(labels=Tags(separator=" ")),
        split=0.25,
        image_size=16,
        batch_size=4,
    )
    model = open_model(labels={"threshold": "per_label"})
    trainer().fit(model, datamodule=data)
    assert (model.num_classes, model.label_kind) == (3, "multi")
    assert model.thresholds.shape == (3,)
    assert "val_f2" in model.trainer.callback_metrics


def test_freezing_and_rates_can_be_set_before() -> None:
    model = open_model(lr=[1e-4, 1e-3])
    model.freeze_to(1)
    frozen = model.backbone.model[0][0].weight.clone()
    trainer().fit(model, datamodule=digits())
    assert model.group_lrs() == [0, 1e-4, 1e-3]
    assert torch.equal(frozen, model.backbone.model[0][0].weight)
    assert all(parameter.requires_grad for parameter in model.head.parameters())


def test_a_rate_is_found_and_the_head_stays() -> None:
    model = open_model()
    lr_find(model, digits(), num_steps=20)
    head = model.head
    assert model.num_classes == 3
    trainer().fit(model, datamodule=digits())
    assert model.head is head


def test_features_are_computed_before_the_head_exists() -> None:
    model, images = open_model(), digits()
    model.freeze()
    trainer().fit(model, datamodule=FeatureDataModule(images, model))
    assert model.num_classes == 3


def test_checkpoints_load_without_the_data_and_resume_an_open_model(tmp_path) -> None:
    model, path = open_model(), tmp_path / "a.ckpt"
    first = trainer()
    first.fit(model, datamodule=digits())
    first.save_checkpoint(path)
    loaded = ImageClassifier.load_from_checkpoint(path, backbone=backbone())
    images = torch.zeros(2, 3, 16, 16)
    assert (loaded.num_classes, loaded.classes) == (3, ["0", "1", "2"])
    assert torch.equal(loaded.eval()(images), model.eval()(images))
    again = open_model()
    trainer(max_epochs=2).fit(again, datamodule=digits(), ckpt_path=path)
    assert again.num_classes == 3
    fresh = open_model()
    found = trainer().test(fresh, datamodule=digits(), ckpt_path=path, verbose=False)
    assert found == trainer().test(loaded, datamodule=digits(), verbose=False)


def test_without_classes_nothing_runs() -> None:
    model = open_model()
    images = TensorDataset(torch.zeros(4, 3, 16, 16), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(ConfigurationError, match=r"built without `num_classes`. Give"):
        trainer().fit(model, DataLoader(images, batch_size=2))
    with pytest.raises(ConfigurationError, match="must know its classes"):
        model(torch.zeros(2, 3, 16, 16))


def test_data_with_other_classes_are_refused_afterwards() -> None:
    model = open_model()
    model.set_classes(["a", "b", "c"])
    with pytest.raises(ConfigurationError, match="classes"):
        trainer().fit(model, datamodule=digits())


# What trains where nobody said so


@pytest.mark.parametrize(("pretrained", "num_frozen"), [(True, 2), (False, 0)])
def test_pretrained_weights_start_frozen_and_say_so_once(pretrained, num_frozen, caplog) -> None:
    model = open_model(pretrained=pretrained)
    assert model.num_frozen == num_frozen
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            trainer().fit(model, datamodule=digits())
    said = [record.message for record in caplog.records if "head alone" in record.message]
    assert len(said) == (1 if pretrained else 0)


def test_a_depth_that_was_chosen_is_kept_without_a_word(caplog) -> None:
    for choose, num_frozen in ((ImageClassifier.freeze, 2), (ImageClassifier.unfreeze, 0)):
        model = open_model(pretrained=True)
        choose(model)
        with caplog.at_level(logging.INFO):
            pl.Trainer(**QUIET, max_epochs=1).fit(model, datamodule=digits())
        assert model.num_frozen == num_frozen
    assert "head alone" not in caplog.text


@pytest.mark.parametrize("form", ["checkpoint", "export"])
def test_weights_of_another_run_start_a_model_of_more_classes(tmp_path, form) -> None:
    data = digits()
    first = ImageClassifier("test_resnet.r160_in1k", num_groups=2)
    fitted = trainer()
    fitted.fit(first, datamodule=data)
    path = tmp_path / ("first.ckpt" if form == "checkpoint" else "export/model.safetensors")
    fr.export(first, tmp_path / "export")
    fitted.save_checkpoint(tmp_path / "first.ckpt")
    second = ImageClassifier("test_resnet.r160_in1k", 7, weights=str(path), num_groups=2)
    expected = first.backbone.state_dict()
    for name, value in second.backbone.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert second(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
