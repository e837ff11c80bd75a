"""Numbers from images: units, metrics, checkpoints, and what is refused."""

import copy
import math

import pytest
import pytorch_lightning as pl
import torch
from helpers.number_images import REDNESS, SIZE, arrays_of_numbers, draw_numbers
from helpers.trainers import QUIET, quiet_trainer

import lightning_fastrecipes as fr
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.nn.number_metric import NumberMetric

BACKBONE = "test_resnet.r160_in1k"
AGE = {"name": "age", "mean": 40.0, "std": 12.0}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return draw_numbers(tmp_path_factory.mktemp("numbers") / "images")


def of_table(images, labels=None, **options):
    table = fr.LabelTable(labels=labels or fr.Numbers("red"))
    given = {"image_size": 32, "batch_size": 8, "num_workers": 0, "split": 0.25}
    return fr.ImageCSVDataModule(images / "numbers.csv", table=table, **given | options)


def regressor(**options):
    torch.manual_seed(0)
    head = fr.Head(hidden=8, dropout=0.0)
    return fr.ImageRegressor(BACKBONE, **{"head": head, "lr": 0.01} | options)


def fitted(data, *callbacks, epochs=2, model=None, **options):
    model = regressor() if model is None else model
    trainer = quiet_trainer(*callbacks, max_epochs=epochs, **options)
    trainer.fit(model, datamodule=data)
    return model, trainer


def test_metrics_are_in_the_units_of_the_data_and_the_loss_in_deviations(images):
    data = of_table(images)
    model, trainer = fitted(data, epochs=6)
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert 0.3 < found["val_r2"] < 1
    red = data.number_targets[0]
    assert found["val_rmse"] == pytest.approx(red.std * math.sqrt(found["val_loss"]), rel=1e-4)
    assert found["val_mae"] < found["val_rmse"]
    predictions = torch.cat(trainer.predict(model, data.val_dataloader()))
    assert (predictions.dtype, predictions.ndim) == (torch.float64, 1)
    targets = data.eval_dataset("val").targets
    error = (predictions - targets).abs().mean()
    assert found["val_mae"] == pytest.approx(float(error), rel=1e-6)


def test_training_does_not_depend_on_the_unit(images):
    """As in deviations the numbers are the same, weights and losses are, bit for bit."""
    weights = []
    for scale, offset in ((1.0, 0.0), (2.0**-30, 0.0), (2.0**40, 0.0)):
        arrays = arrays_of_numbers()
        arrays["y_train"] = torch.tensor(arrays["y_train"]).numpy() * scale + offset
        data = fr.ImageArrayDataModule(arrays, labels=fr.Numbers(), image_size=32, batch_size=8)
        model, trainer = fitted(data)
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
        weights.append((model.state_dict(), metrics["val_loss"], metrics["val_mae"] / scale))
    for state, loss, mae in weights[1:]:
        assert (loss, mae) == weights[0][1:]
        for name, value in state.items():
            assert torch.equal(value, weights[0][0][name]), name


def test_several_numbers_have_metrics_by_their_names(images):
    data = of_table(images, fr.Numbers(["red", "blue"], log=["blue"]))
    model, trainer = fitted(data, epochs=1)
    names = {f"val_{m}_{n}" for m in ("mae", "rmse", "r2") for n in ("red", "blue")}
    assert names | {"val_loss"} <= set(trainer.callback_metrics)
    assert float(trainer.callback_metrics["val_mae_blue"]) < 1000 * SIZE
    (batch,) = trainer.predict(model, data.val_dataloader())[:1]
    assert batch.shape == (8, 2)
    assert bool((batch > torch.tensor([REDNESS / 2, 0.0])).all())
    torch.testing.assert_close(model.probabilities(model.logits(batch)), batch)


def test_an_untrained_model_predicts_the_mean(images):
    data = of_table(images)
    data.setup("fit")
    model = regressor().eval()
    model.adopt_targets(data)
    with torch.no_grad():
        found = model.probabilities(model(torch.zeros(2, 3, 32, 32)))
    assert float((found - data.number_targets[0].mean).abs().max()) < data.number_targets[0].std


@pytest.mark.parametrize(
    ("loss", "wanted"),
    [
        ("mse", 0.25),
        ("mae", 0.5),
        ("huber", 0.125),
        ({"class_path": "torch.nn.SmoothL1Loss", "init_args": {"beta": 0.5}}, 0.25),
        (torch.nn.L1Loss(), 0.5),
    ],
)
def test_losses_are_of_deviations(loss, wanted):
    model = regressor(loss=loss, numbers=[AGE])
    assert float(model.loss(torch.tensor([0.5]), torch.tensor([40.0]))) == pytest.approx(wanted)
    if not isinstance(loss, torch.nn.Module):
        assert model.hparams["loss"] == loss


@pytest.mark.parametrize("loss", ["l2", "torch.nn.L1Loss", 3])
def test_unknown_losses_are_refused(loss):
    with pytest.raises(ConfigurationError, match="`loss` must be one of 'mse', 'mae', 'huber'"):
        regressor(loss=loss)


def test_metrics_of_the_users_own():
    metrics = {
        "worst": lambda predictions, targets: (predictions - targets).abs().max(),
        "mse": "torchmetrics.MeanSquaredError",
        "median": NumberMetric("mae"),
    }
    data = fr.ImageArrayDataModule(arrays_of_numbers(), labels=fr.Numbers(), image_size=32)
    _, trainer = fitted(data, model=regressor(metrics=metrics), epochs=1)
    assert {"val_worst", "val_mse", "val_median"} <= set(trainer.callback_metrics)
    assert "val_r2" not in trainer.callback_metrics


def test_a_resumed_fit_ends_with_the_same_weights(images, tmp_path):
    options = {"default_root_dir": tmp_path, "enable_checkpointing": True}
    whole, _ = fitted(of_table(images), epochs=3, **options)
    fitted(of_table(images), epochs=2, **options)[1].save_checkpoint(tmp_path / "half.ckpt")
    torch.manual_seed(1)
    model = regressor()
    trainer = pl.Trainer(**QUIET | options, max_epochs=3)
    trainer.fit(model, datamodule=of_table(images), ckpt_path=tmp_path / "half.ckpt")
    assert model.numbers == whole.numbers
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_a_checkpoint_loads_without_data(images, tmp_path):
    labels = fr.Numbers(["blue", "red"], log=["blue"])
    model, trainer = fitted(of_table(images, labels), epochs=1, model=regressor(loss="huber"))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = fr.ImageRegressor.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert (loaded.numbers, loaded.hparams["loss"]) == (model.numbers, "huber")
    batch = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        theirs, ours = loaded.eval()(batch), model.eval()(batch)
    assert torch.equal(loaded.probabilities(theirs), model.probabilities(ours))


def test_a_resumed_model_keeps_the_units_of_its_weights(images, tmp_path):
    model, trainer = fitted(of_table(images), epochs=1)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    other = regressor(numbers=[{"name": "red", "mean": 1.0, "std": 2.0}])
    other.on_load_checkpoint(torch.load(tmp_path / "a.ckpt", weights_only=True))
    assert other.numbers == model.numbers
    assert other.hparams["numbers"] == model.hparams["numbers"]


def test_a_damaged_checkpoint_is_refused(images, tmp_path):
    _, trainer = fitted(of_table(images), epochs=1)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
    for numbers, said in (
        ([], "must be a list of 1 to"),
        ([{"name": "red", "mean": math.nan}], "`numbers.0..mean` must be a number"),
        ([{"name": "red", "std": -1.0}], "std` must be a number from 0 to"),
        ([{"name": "blue"}], "'red', but are 'blue'"),
    ):
        other = copy.deepcopy(saved)
        other["fastrecipes"]["numbers"] = numbers
        torch.save(other, tmp_path / "b.ckpt")
        with pytest.raises(ConfigurationError, match=said):
            fr.ImageRegressor.load_from_checkpoint(tmp_path / "b.ckpt", weights_only=True)


def test_classes_and_numbers_are_not_taken_for_one_another(images, squares, tmp_path):
    classes = fr.ImageFolderDataModule(squares, image_size=32, batch_size=8, num_workers=0)
    with pytest.raises(ConfigurationError, match="predicts numbers, but ImageFolderDataModule has"):
        fitted(classes)
    classifier = fr.ImageClassifier(BACKBONE)
    with pytest.raises(ConfigurationError, match="learns classes, but ImageCSVDataModule has num"):
        fitted(of_table(images), model=classifier)
    _, of_classes = fitted(classes, model=fr.ImageClassifier(BACKBONE, 2), epochs=1)
    of_classes.save_checkpoint(tmp_path / "classes.ckpt")
    with pytest.raises(ConfigurationError, match="Load it with `ImageClassifier`"):
        fr.ImageRegressor.load_from_checkpoint(tmp_path / "classes.ckpt", weights_only=True)
    _, of_numbers = fitted(of_table(images), epochs=1)
    of_numbers.save_checkpoint(tmp_path / "numbers.ckpt")
    with pytest.raises(ConfigurationError, match="Load it with `ImageRegressor`"):
        fr.ImageClassifier.load_from_checkpoint(tmp_path / "numbers.ckpt", weights_only=True)


def test_other_numbers_are_refused(images):
    model, _ = fitted(of_table(images), epochs=1)
    with pytest.raises(ConfigurationError, match="'red', but are 'blue'"):
        fitted(of_table(images, fr.Numbers("blue")), model=model)
    with pytest.raises(ConfigurationError, match=r"'red', but are 'red \(log\)'"):
        fitted(of_table(images, fr.Numbers("red", log=True)), model=model)


def test_a_loader_of_ones_own_needs_numbers():
    rows = [(torch.rand(3, 32, 32), torch.tensor(30.0 + place)) for place in range(8)]
    loader = torch.utils.data.DataLoader(rows, batch_size=4)
    with pytest.raises(ConfigurationError, match="must know what numbers it predicts"):
        quiet_trainer(max_epochs=1).fit(regressor(), loader)
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(regressor(numbers=[AGE]), loader, loader)
    assert 1 < float(trainer.callback_metrics["val_mae"]) < 30
    two = regressor(numbers=[AGE, {"name": "weight"}])
    with pytest.raises(ConfigurationError, match=r"2 numbers per image, of shape \(4, 2\), but"):
        quiet_trainer(max_epochs=1).fit(two, loader)


def test_precision_that_rounds_targets_is_refused(images):
    with pytest.raises(ConfigurationError, match="rounds them to 16 bits"):
        fitted(of_table(images), precision="bf16-true")
    _, trainer = fitted(of_table(images), epochs=1, precision="bf16-mixed")
    assert math.isfinite(float(trainer.callback_metrics["val_mae"]))


def test_features_rates_and_callbacks(images, tmp_path, recwarn):
    data = of_table(images)
    model = regressor()
    model.freeze()
    check = fr.InitialLossCheck(on_failure="raise")
    fitted(fr.FeatureDataModule(data, model), check, model=model)
    assert [x.passed for x in check.results if x.check in ("labels", "loss")] == [True, True]
    model.unfreeze()
    curve = fr.lr_find(model, data, num_steps=40)
    assert len(curve.losses) > 20
    model.set_learning_rates(1e-3, lr_ratio=3)
    assert [round(rate, 6) for rate in model.group_lrs()] == [0.000111, 0.000333, 0.001]
    callbacks = [
        fr.SGDR(cycle_len=1),
        fr.CycleSnapshots(dirpath=tmp_path / "snapshots"),
        fr.TrainMetrics(16),
        fr.OverfittingStop(),
        fr.ProgressiveResizing({0: 24, 1: 32}),
        fr.ValidationGuard(),
        fr.ImageMixing("mixup"),
    ]
    _, trainer = fitted(
        data, *callbacks, model=model, enable_checkpointing=True, default_root_dir=tmp_path
    )
    assert math.isfinite(float(trainer.callback_metrics["train_clean_mae"]))
    snapshots = sorted((tmp_path / "snapshots").rglob("*.ckpt"))
    ensemble = fr.Ensemble(snapshots, task=fr.ImageRegressor)
    loader = data.val_dataloader()
    each, mean = ensemble.predict(loader, "cpu", members=True), ensemble.predict(loader, "cpu")
    torch.testing.assert_close(each.mean(0), mean)
    assert each.shape == (2, 10)
    mixed = fr.Ensemble([model, fr.ImageClassifier(BACKBONE, 2)])
    with pytest.raises(ConfigurationError, match="the same numbers, or all classes, but they"):
        mixed.predict(loader, "cpu")


def test_targets_that_are_mixed_stay_numbers(images):
    data = of_table(images)
    data.setup("fit")
    batch = [torch.rand(4, 3, 8, 8), torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)]
    before = batch[1].clone()
    model = regressor(numbers=[AGE])
    torch.manual_seed(0)
    fr.ImageMixing("mixup").on_train_batch_start(None, model, batch, 0)
    assert (batch[1].shape, batch[1].dtype) == ((4,), torch.float64)
    share = (batch[1][1] - before[0]) / (before[1] - before[0])
    torch.testing.assert_close(batch[1], share * before + (1 - share) * before.roll(1))
    with pytest.raises(Exception, match="shares classes out by area, which numbers are not"):
        fr.ImageMixing("cutmix").on_train_batch_start(None, model, batch, 0)


def test_a_leak_and_a_target_that_is_no_number_are_seen(images):
    check = fr.InitialLossCheck(on_failure="raise")

    class Loud(fr.ImageRegressor):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) * 100

    with pytest.raises(Exception, match=r"\[loss\] the loss at .* of the mean for all"):
        fitted(of_table(images), check, model=Loud(BACKBONE))
    rows = [(torch.rand(3, 32, 32), torch.tensor(math.nan)) for _ in range(4)]
    loader = torch.utils.data.DataLoader(rows, batch_size=4)
    with pytest.raises(Exception, match=r"\[labels\] targets must be finite numbers"):
        quiet_trainer(check, max_epochs=1).fit(regressor(numbers=[AGE]), loader)


def test_views_predict_their_mean(images):
    data = of_table(images)
    model, _ = fitted(data, epochs=1)
    views = fr.TestTimeAugmentation(preset="flips", plain_weight="learn")
    trainer = quiet_trainer(views)
    trainer.validate(model, data, verbose=False)
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    predictions = torch.cat(trainer.predict(model, data.val_dataloader()))
    assert predictions.dtype == torch.float64
    images_, targets = zip(*[(b[0], b[1]) for b in data.val_dataloader()], strict=True)
    batch, truth = torch.cat(images_), torch.cat(targets)
    model.eval()
    with torch.no_grad():
        plain, flipped = (model.probabilities(model(x)) for x in (batch, batch.flip(3)))
    both = (plain + flipped) / 2
    assert found["val_mae_tta"] == pytest.approx(float((both - truth).abs().mean()), rel=1e-6)
    loss = float(model.loss(model.logits(both), truth))
    assert found["val_loss_tta"] == pytest.approx(loss, rel=1e-4)
    weight = found["tta_plain_weight"]
    torch.testing.assert_close(predictions, torch.lerp(flipped, plain, weight))
    mixed = [torch.lerp(flipped, plain, share / 100) for share in range(101)]
    losses = torch.stack([model.loss(model.logits(one), truth) for one in mixed])
    assert weight == int(losses.argmin()) / 100


def test_a_constant_target_does_not_divide_by_nothing():
    frame = arrays_of_numbers()
    frame["y_train"] = frame["y_train"] * 0 + 5.0
    data = fr.ImageArrayDataModule(frame, labels=fr.Numbers(), image_size=32)
    _, trainer = fitted(data, epochs=1)
    assert math.isfinite(float(trainer.callback_metrics["val_loss"]))


def test_a_device_without_64_bits_gets_images_alone(images, monkeypatch):
    from lightning_fastrecipes.data.images import module

    monkeypatch.setattr(module, "has_doubles", lambda device: device.type != "meta")
    data = of_table(images)
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    moved, targets = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert (moved.device.type, targets.device.type) == ("meta", "cpu")


def test_a_switch_to_several_labels_is_refused(images):
    data = of_table(images)
    with pytest.raises(Exception, match="`MultiLabelSwitch` is for classes"):
        fitted(data, fr.MultiLabelSwitch())
