"""The course's stages in one call: what is trained, on what, with which rates."""

import csv
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers.trainers import QUIET
from pytorch_lightning.loggers import CSVLogger
from torch import nn

import lightning_fastrecipes as fr
from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes import life_signs
from lightning_fastrecipes.errors import ConfigurationError


class Seen(pl.Callback):
    """Which data every fit of the class was on, and which groups it trained."""

    fits: list[tuple[str, list[str]]] = []  # noqa: RUF012 shared by copies on purpose

    def on_train_start(self, trainer, pl_module) -> None:
        trained = pl_module.layer_groups()[pl_module.num_frozen :]
        names = [group.name for group in trained]
        self.fits.append((type(pl.datamodule_of(trainer)).__name__, names))


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    Seen.fits.clear()


def images(squares: Path, **options) -> fr.ImageFolderDataModule:
    split = fr.FractionSplit(0.25, 0.25)
    return fr.ImageFolderDataModule(
        squares, split=split, image_size=32, batch_size=4, num_workers=0, **options
    )


def classifier(*, pretrained: bool = True) -> fr.ImageClassifier:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU()),
    )
    return fr.ImageClassifier(network, 2, pretrained=pretrained, head={"hidden": 8})


def table(num_rows: int = 60) -> fr.TabularDataModule:
    frame = pd.DataFrame({"x": [i % 7 for i in range(num_rows)], "kind": list("abc") * 20})
    frame["y"] = frame["x"] * 2.0 + 1
    columns = fr.TableColumns(target="y", categorical=["kind"], continuous=["x"])
    return fr.TabularDataModule(frame, columns, batch_size=16, cache="off")


def test_the_course_has_three_stages_on_features_augmented_images_and_all_groups(squares) -> None:
    model, data = classifier(), images(squares, augmentation="side_on")
    done = fr.fine_tune(model, data, 1, head_epochs=1, lr=1e-2, callbacks=[Seen()], **QUIET)
    groups = [group.name for group in model.layer_groups()]
    assert Seen.fits == [
        ("FeatureDataModule", ["head"]),
        ("ImageFolderDataModule", ["head"]),
        ("ImageFolderDataModule", groups),
    ]
    assert [stage.name for stage in done.stages] == ["head", "head_augmented", "all"]
    *earlier, last = done.stages[-1].group_lrs.values()
    assert [*earlier, last] == pytest.approx([1e-4, 1e-3, 1e-2])
    assert list(done.stages[0].group_lrs.values()) == pytest.approx([0, 0, 1e-2])
    assert done.metrics == done.stages[-1].metrics
    assert {"train_loss", "val_loss", "val_accuracy"} <= set(done.metrics)
    [tested] = done.trainer.test(model, datamodule=data, verbose=False)
    assert 0 <= tested["test_accuracy"] <= 1


def test_images_as_they_are_have_no_augmented_stage(squares) -> None:
    done = fr.fine_tune(classifier(), images(squares), 1, lr=1e-2, **QUIET)
    assert [(stage.name, stage.epochs) for stage in done.stages] == [("head", 2), ("all", 1)]


def test_it_trains_what_the_same_stages_train_one_by_one(squares, tmp_path, monkeypatch) -> None:
    model, data = classifier(), images(squares)
    torch.manual_seed(1)
    fr.fine_tune(model, data, 3, head_epochs=1, lr=1e-2, **QUIET)
    # Features that are computed draw random numbers, those of the cache do not.
    monkeypatch.setenv("FASTRECIPES_CACHE", str(tmp_path / "cache"))
    other, data = classifier(), images(squares)
    data.prepare_data()
    data.setup("fit")
    torch.manual_seed(1)
    other.freeze()
    other.set_learning_rates(1e-2)
    features = fr.FeatureDataModule(data, other)
    pl.Trainer(**QUIET, max_epochs=1, callbacks=[fr.SGDR()]).fit(other, datamodule=features)
    other.unfreeze()
    other.set_learning_rates(1e-2, lr_ratio=10)
    cycles = fr.SGDR(cycle_len=1, cycle_mult=2)
    pl.Trainer(**QUIET, max_epochs=3, callbacks=[cycles]).fit(other, datamodule=data)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_a_table_trains_everything_at_once_with_the_rate_that_is_found() -> None:
    model = fr.TabularRegressor(network=fr.TabularNetwork(layers=(8,)))
    done = fr.fine_tune(model, table(), 2, **QUIET)
    assert [stage.name for stage in done.stages] == ["all"]
    stage = done.stages[0]
    assert stage.curve is not None
    rate = stage.curve.suggestion or model.optim.lr
    assert list(stage.group_lrs.values()) == pytest.approx([rate] * len(model.layer_groups()))
    assert fr.fine_tune(model, table(), steps=("head", "all"), lr=1e-2, **QUIET).stages[0].name == (
        "head"
    )


def test_a_backbone_without_pretrained_weights_is_not_frozen(squares) -> None:
    model = classifier(pretrained=False)
    done = fr.fine_tune(model, images(squares), 1, lr=1e-2, **QUIET)
    assert [stage.name for stage in done.stages] == ["all"]
    assert set(done.stages[0].group_lrs.values()) == {1e-2}


@pytest.mark.parametrize(("epochs", "ends"), [(1, [1]), (3, [1, 3]), (7, [1, 3, 7]), (5, [5])])
def test_training_ends_with_a_cycle(epochs, ends) -> None:
    found = []

    class Cycles(pl.Callback):
        def on_fit_start(self, trainer, pl_module) -> None:
            [schedule] = [c for c in pl.callbacks_of(trainer) if isinstance(c, fr.SGDR)]
            found.extend(schedule.fit_cycle_ends(trainer.max_epochs))

    model = fr.TabularRegressor(network=fr.TabularNetwork(layers=(8,)))
    fr.fine_tune(model, table(), epochs, lr=1e-2, callbacks=[Cycles()], **QUIET)
    assert found == ends


def test_a_schedule_of_ones_own_takes_the_place_of_the_cycles() -> None:
    model = fr.TabularRegressor(network=fr.TabularNetwork(layers=(8,)))
    schedule = fr.OneCycle()
    done = fr.fine_tune(model, table(), 2, lr=1e-2, callbacks=[schedule], **QUIET)
    assert schedule in pl.callbacks_of(done.trainer)
    assert not any(isinstance(one, fr.SGDR) for one in pl.callbacks_of(done.trainer))


def test_everything_is_trained_until_it_over_fits(squares) -> None:
    found = []

    class Stops(pl.Callback):
        def on_fit_start(self, trainer, pl_module) -> None:
            callbacks = pl.callbacks_of(trainer)
            found.append([c.patience for c in callbacks if isinstance(c, fr.OverfittingStop)])

    data, options = images(squares), {"lr": 0.3, "head_epochs": 1, "callbacks": [Stops()]}
    done = fr.fine_tune(classifier(), data, 15, until_overfitting=2, **options, **QUIET)
    assert found == [[], [2]]
    assert done.stages[-1].epochs in (7, 15)
    with pytest.raises(ValueError, match="`patience` must be at least 1"):
        fr.fine_tune(classifier(), data, until_overfitting=0, **options, **QUIET)
    assert len(found) == 2


def test_one_log_whose_steps_go_on(squares, tmp_path) -> None:
    logger = CSVLogger(tmp_path, version="all")
    quiet = QUIET | {"logger": logger, "log_every_n_steps": 1}
    done = fr.fine_tune(classifier(), images(squares), 1, head_epochs=2, lr=1e-2, **quiet)
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    # The first stage ends two epochs after its start, the second one epoch later.
    per_epoch = done.trainer.global_step
    assert steps == sorted(steps)
    assert max(steps) == 3 * per_epoch - 1


def test_every_stage_says_in_one_line_what_it_does(squares, caplog) -> None:
    with caplog.at_level("INFO"):
        fr.fine_tune(classifier(), images(squares), 1, lr=1e-2, **QUIET)
    lines = [record.message for record in caplog.records if record.message.startswith("Stage ")]
    assert lines[0] == (
        "Stage head: 2 epochs on features; learning rates early frozen, late frozen, head 1.00e-02"
    )
    assert lines[1].startswith("Stage all: 1 epoch on batches of the data; learning rates early 1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "`epochs` must be a whole number of at least 1, got 0"),
        ({"head_epochs": 1.5}, "`head_epochs` must be a whole number"),
        ({"steps": "fastai"}, "`steps` must be 'course', got 'fastai'"),
        ({"steps": ("all", "head")}, "in this order"),
        ({"lr": "auto"}, "`lr` must be 'find'"),
        ({"lr": -1.0}, "`lr` must be above 0"),
        ({"lr_ratio": 0.1}, "`lr_ratio` must be at least 1"),
        ({"max_epochs": 3}, "Use `epochs`"),
    ],
)
def test_mistakes_are_named_before_any_training(arguments, message) -> None:
    model = fr.TabularRegressor(network=fr.TabularNetwork(layers=(8,)))
    with pytest.raises((ConfigurationError, ValueError), match=message):
        fr.fine_tune(model, table(), callbacks=[Seen()], **(QUIET | arguments))
    assert Seen.fits == []


def test_the_head_alone_is_trained_by_its_name(squares) -> None:
    done = fr.fine_tune(
        classifier(), images(squares), head_epochs=1, steps="head", lr=1e-2, **QUIET
    )
    assert [(stage.name, stage.epochs) for stage in done.stages] == [("head", 1)]


def test_a_module_without_layer_groups_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"`data` must be a datamodule.* got 'photos'"):
        fr.fine_tune(classifier(), "photos")
    with pytest.raises(ConfigurationError, match="must be a task of this package"):
        fr.fine_tune(pl.LightningModule(), table())


@pytest.mark.parametrize("shows", [True, False])
def test_a_search_says_how_far_it_is_unless_it_is_to_be_silent(shows, monkeypatch, capsys) -> None:
    monkeypatch.setattr(life_signs, "FIRST_LINE", 0.0)
    monkeypatch.setattr(life_signs, "NEXT_LINES", 0.0)
    model = fr.TabularRegressor()
    arguments = {**QUIET, "enable_progress_bar": shows}
    fr.fine_tune(model, table(), 1, steps=("all",), lr="find", **arguments)
    assert ("Trying learning rates: 2 of 200" in capsys.readouterr().err) == shows
