"""Test-time augmentation: exact, repeatable, side by side with the plain prediction."""

import gc
import pickle
import weakref
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from helpers.trainers import quiet_trainer
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from lightning_fastrecipes import (
    Augmentation,
    Ensemble,
    FeatureDataModule,
    ImageClassifier,
    ImageFolderDataModule,
    SampleFBeta,
    TestTimeAugmentation,
)
from lightning_fastrecipes.callbacks import test_time_augmentation
from lightning_fastrecipes.data.common.split_choice import FractionSplit
from lightning_fastrecipes.data.images import geometry
from lightning_fastrecipes.functional.images.augment import make_view
from lightning_fastrecipes.functional.images.views import image_numbers
from lightning_fastrecipes.functional.labels.merging import weigh

pytestmark = [
    pytest.mark.both,
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
]


def classifier(seed: int = 0, **options) -> ImageClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        options = {"head": "linear", **options}
        return ImageClassifier("test_resnet.r160_in1k", num_classes=2, **options)


class Plain(pl.LightningModule):
    """A module that knows nothing of our package."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))

    def forward(self, images):
        return self.layers(images.float() / 64)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def predict_step(self, batch, batch_idx):
        return self(batch[0])


def data(squares: Path, **options) -> ImageFolderDataModule:
    defaults = {"image_size": 24, "batch_size": 5, "num_workers": 0, "augmentation": "top_down"}
    splits = {"split": FractionSplit(0.4, 0.2)}
    return ImageFolderDataModule(squares, **(defaults | splits | options))


class Keeper(pl.Callback):
    """Keep what the steps of the validation return."""

    def on_validation_epoch_start(self, *_) -> None:
        self.rows = []

    def on_validation_batch_end(self, trainer, pl_module, outputs, *_) -> None:
        self.rows.append(outputs)

    def joined(self, key: str) -> torch.Tensor:
        return torch.cat([row[key] for row in self.rows])


def validate(callback, model, images):
    keeper = Keeper()
    metrics = quiet_trainer(callback, keeper).validate(model, datamodule=images, verbose=False)[0]
    return metrics, keeper


@pytest.mark.parametrize(
    "callback",
    [
        TestTimeAugmentation(4, "augmentation"),
        TestTimeAugmentation(3, "flips"),
        TestTimeAugmentation(preset="five_crops", plain_weight=0.4),
        TestTimeAugmentation(preset="scales"),
    ],
    ids=["augmentation", "flips", "five-crops", "scales"],
)
def test_the_merge_is_the_weighted_mean_of_probabilities(squares, callback):
    model, images = classifier(), data(squares)
    metrics, keeper = validate(callback, model, images)
    split = images.eval_dataset("val")
    pixels = torch.stack([split[place][0] for place in range(len(split))])
    where = image_numbers(pixels)
    model.eval()
    with torch.inference_mode():
        each = [
            model(make_view(pixels, callback.views.parameters(view, where))).softmax(1)
            for view in range(callback.views.num_views)
        ]
        plain = model(pixels).softmax(1)
        expected = callback.weight * plain + (1 - callback.weight) * torch.stack(each).mean(0)
    found = keeper.joined("probabilities_tta")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (found - plain).abs().max() > 1e-4
    torch.testing.assert_close(keeper.joined("probabilities"), plain, atol=1e-5, rtol=0)

    right = (found.argmax(1) == split.targets).float().mean().item()
    assert metrics["val_accuracy_tta"] == pytest.approx(right)
    loss = nn.functional.nll_loss(found.log(), split.targets).item()
    assert metrics["val_loss_tta"] == pytest.approx(loss, rel=1e-5)
    alone = quiet_trainer().validate(model, datamodule=images, verbose=False)[0]
    assert {name: metrics[name] for name in alone} == alone


def trained_views(images, count: int) -> torch.Tensor:
    """Return what training makes in its first epochs of images with these numbers."""
    images.setup()
    split = images.eval_dataset("val")
    transform = images._train_transform(images.image_size)
    transform.seed = 0
    rows = []
    for place in range(len(split)):
        image, number = split._image(place), int(image_numbers(split[place][0][None]))
        rows.append(torch.stack([transform(image, view, number) for view in range(count)]))
    return torch.stack(rows)


@pytest.mark.parametrize("listed", [(), ("flip", {"hue": {"turn": 0.5, "p": 1}})], ids=len)
def test_views_of_training_are_what_training_draws_from_the_whole_image(squares, listed):
    augmentation = Augmentation("top_down", 1.3, transforms=listed)
    model, images = classifier(), data(squares, augmentation=augmentation)
    _, keeper = validate(TestTimeAugmentation(4), model, images)
    views = trained_views(images, 4)
    with torch.inference_mode():
        model.eval()
        expected = torch.stack([model(view).softmax(1) for view in views.unbind(1)]).mean(0)
    expected = 0.2 * keeper.joined("probabilities") + 0.8 * expected
    torch.testing.assert_close(keeper.joined("probabilities_tta"), expected, atol=1e-5, rtol=0)


def test_a_list_of_ones_own_is_drawn_within_batches_too(squares, monkeypatch):
    images = data(squares, augmentation="none")
    own = [{"rotate": {"degrees": 90, "p": 1}}]
    within = TestTimeAugmentation(2, "augmentation", transforms=own)
    _, keeper = validate(within, classifier(), images)
    assert (keeper.joined("probabilities_tta") - keeper.joined("probabilities")).abs().max() > 1e-4
    loader = images.eval_dataloader("val")
    said = []
    monkeypatch.setattr(test_time_augmentation, "rank_zero_info", said.append)
    found = quiet_trainer(TestTimeAugmentation(2, transforms=own)).predict(classifier(), loader)
    assert "draws its views within the images of each batch" in said[0]
    torch.testing.assert_close(torch.cat(found), keeper.joined("probabilities_tta"))


def test_views_of_training_reach_modules_that_normalise_nothing(squares):
    """The datamodule normalises the views too, and the module sees a batch of two."""
    seen = []

    class Watched(Plain):
        def validation_step(self, batch, batch_idx):
            images, _ = batch
            seen.append((images, batch.views))
            super().validation_step(batch, batch_idx)

    views = TestTimeAugmentation(2, augmentation="none")
    validate(views, Watched(), data(squares, image_size=16))
    for images, made in seen:
        assert images.dtype == torch.float32
        assert torch.equal(made, images[:, None].expand(-1, 2, -1, -1, -1))


def test_a_fit_loads_no_views_unless_it_is_asked_to(squares):
    seen = []

    class Watcher(pl.Callback):
        def on_validation_batch_end(self, trainer, pl_module, outputs, batch, *_) -> None:
            seen.append(getattr(batch, "views", None))

    for during_fit in (False, True):
        views = TestTimeAugmentation(2, during_fit=during_fit)
        quiet_trainer(views, Watcher(), max_epochs=1).fit(classifier(), data(squares))
        assert (seen[-1] is not None) is during_fit
    assert seen[-1].shape[1:] == (2, 3, 24, 24)


def test_identity_views_give_exactly_the_plain_prediction(squares):
    callback = TestTimeAugmentation(3, augmentation="none")
    _, keeper = validate(callback, classifier(), data(squares))
    assert torch.equal(keeper.joined("probabilities_tta"), keeper.joined("probabilities"))


@pytest.mark.parametrize("options", [{"num_workers": 2}, {"batch_size": 3}], ids=str)
def test_workers_and_batches_change_nothing(squares, options):
    callback, model = TestTimeAugmentation(3), classifier()
    expected = validate(callback, model, data(squares))[1].joined("probabilities_tta")
    found = validate(callback, model, data(squares, **options))[1].joined("probabilities_tta")
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    other = TestTimeAugmentation(3, seed=1)
    again = validate(other, model, data(squares))[1].joined("probabilities_tta")
    assert (again - expected).abs().max() > 1e-4


def test_every_file_is_decoded_once(squares, monkeypatch):
    images = data(squares, cache="off")
    images.prepare_data()
    images.setup()
    decoded = []
    original = geometry.load_image
    monkeypatch.setattr(
        geometry, "load_image", lambda path, *a: decoded.append(path) or original(path, *a)
    )
    validate(TestTimeAugmentation(6), classifier(), images)
    assert sorted(decoded) == sorted(images.eval_dataset("val").files)


def test_one_view_is_held_at_a_time(squares):
    """What the network is given is gone once the next view is there."""
    alive = []

    class Watched(ImageClassifier):
        def forward(self, inputs):
            gc.collect()
            alive.append(sum(view() is not None for view in seen))
            seen.append(weakref.ref(inputs))
            return super().forward(inputs)

    seen: list[weakref.ref] = []
    model = Watched("test_resnet.r160_in1k", num_classes=2, head="linear")
    validate(TestTimeAugmentation(12, "augmentation"), model, data(squares, batch_size=64))
    assert len(alive) == 13
    assert max(alive) <= 1  # the plain images, which are the batch


def test_predict_returns_the_merged_probabilities(squares):
    model, images, callback = classifier(), data(squares), TestTimeAugmentation(4, "augmentation")
    expected = validate(callback, model, images)[1].joined("probabilities_tta")
    loader = images.eval_dataloader("val")
    found = quiet_trainer(callback).predict(model, loader)
    # Loaders say nothing of training; the views are still those of the datamodule.
    torch.testing.assert_close(torch.cat(found), expected, atol=1e-6, rtol=0)


def test_test_is_augmented_like_validation(squares):
    model, images, callback = classifier(), data(squares), TestTimeAugmentation(2, "flips")
    metrics = quiet_trainer(callback).test(model, datamodule=images, verbose=False)[0]
    assert {"test_loss", "test_loss_tta", "test_accuracy", "test_accuracy_tta"} == set(metrics)


def test_an_ensemble_predicts_every_view_with_every_member(squares):
    callback, images = TestTimeAugmentation(2, "flips"), data(squares)
    members = [classifier(seed).eval() for seed in (0, 1)]
    each = [validate(callback, m, images)[1].joined("probabilities_tta") for m in members]
    images.setup()
    loader = images.eval_dataloader("val")
    found = torch.cat(quiet_trainer(callback).predict(Ensemble(members), loader))
    torch.testing.assert_close(found, torch.stack(each).mean(0), atol=1e-5, rtol=0)


def test_modules_of_ones_own_are_augmented(squares):
    model = Plain().eval()
    accuracy = MulticlassAccuracy(2, average="micro")
    callback = TestTimeAugmentation(1, "flips", metrics={"accuracy": accuracy})
    pixels = torch.randint(256, (6, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()
    targets = torch.tensor([0, 1, 0, 1, 0, 0])
    loader = DataLoader(TensorDataset(pixels, targets), batch_size=4)
    metrics = quiet_trainer(callback).validate(model, loader, verbose=False)[0]
    with torch.inference_mode():
        plain, mirrored = model(pixels).softmax(1), model(pixels.flip(-1)).softmax(1)
    merged = (plain + mirrored) / 2
    for kind, probabilities in (("plain", plain), ("tta", merged)):
        right = (probabilities.argmax(1) == targets).float().mean().item()
        assert metrics[f"val_accuracy_{kind}"] == pytest.approx(right)
    expected = nn.functional.nll_loss(merged.log(), targets).item()
    assert metrics["val_loss_tta"] == pytest.approx(expected, rel=1e-5)
    found = torch.cat(quiet_trainer(callback).predict(model, loader))
    torch.testing.assert_close(found, merged, atol=1e-6, rtol=0)


def test_several_loaders_are_measured_apart(squares):
    images = data(squares)
    images.setup()
    loaders = [images.eval_dataloader(split) for split in ("val", "test")]
    callback, model = TestTimeAugmentation(1, "flips"), classifier()
    both = {}
    for metrics in quiet_trainer(callback).validate(model, loaders, verbose=False):
        both |= metrics
    for index, loader in enumerate(loaders):
        alone = quiet_trainer(callback).validate(model, loader, verbose=False)[0]
        for name in ("val_loss_tta", "val_accuracy_tta"):
            assert both[f"{name}/dataloader_idx_{index}"] == pytest.approx(alone[name])


# The learned weight.


def test_the_weight_is_learned_on_validation_and_used_in_the_test(squares):
    model, images = classifier(3), data(squares)
    callback = TestTimeAugmentation(4, plain_weight="learn")
    metrics, keeper = validate(callback, model, images)
    plain, merged = keeper.joined("probabilities"), keeper.joined("probabilities_tta")
    views = (merged - 0.2 * plain) / 0.8
    targets = images.eval_dataset("val").targets

    def loss(weight):
        return nn.functional.nll_loss(weigh(plain, views, weight).log(), targets).item()

    assert metrics["tta_plain_weight"] == pytest.approx(callback.weight)
    best = min((index / 100 for index in range(101)), key=loss)
    assert callback.weight == pytest.approx(best, abs=0.0101)
    assert best != 0.2

    fixed = TestTimeAugmentation(4, plain_weight=callback.weight)
    expected = quiet_trainer(fixed).test(model, datamodule=images, verbose=False)[0]
    found = quiet_trainer(callback).test(model, datamodule=images, verbose=False)[0]
    assert found == pytest.approx(expected)
    restored = TestTimeAugmentation(4, plain_weight="learn")
    restored.load_state_dict(pickle.loads(pickle.dumps(callback.state_dict())))
    assert restored.weight == callback.weight


@pytest.mark.parametrize("run", ["test", "predict"])
def test_a_weight_that_is_not_learned_yet_is_refused(squares, run):
    images, callback = data(squares), TestTimeAugmentation(1, "flips", plain_weight="learn")
    images.setup()
    with pytest.raises(MisconfigurationException, match="needs a validation to learn from"):
        getattr(quiet_trainer(callback), run)(classifier(), images.eval_dataloader("test"))


# During a fit.


@pytest.mark.parametrize("during_fit", [False, True])
def test_validations_of_a_fit_are_augmented_if_wished(squares, during_fit):
    callback = TestTimeAugmentation(1, "flips", during_fit=during_fit)
    run = quiet_trainer(callback, max_epochs=1)
    run.fit(classifier(), data(squares))
    assert ("val_accuracy_tta" in run.callback_metrics) is during_fit
    assert "val_accuracy" in run.callback_metrics


# What is refused.


def test_data_without_augmentation_are_refused_before_anything_runs(squares):
    callback = TestTimeAugmentation()
    with pytest.raises(MisconfigurationException, match=r"but those are not\. Set `augmentation="):
        validate(callback, classifier(), data(squares, augmentation="none"))
    images = data(squares)
    images.setup()
    with pytest.raises(MisconfigurationException, match="but the data do not say how they are"):
        quiet_trainer(TestTimeAugmentation()).predict(classifier(), images.eval_dataloader("val"))


@pytest.mark.parametrize("source", ["plain", "loader", "features"])
def test_a_fit_is_refused_whose_evaluation_would_be(source, squares):
    model = classifier()
    images = data(squares, augmentation="top_down" if source == "loader" else "none")
    images.setup()
    trainer = quiet_trainer(TestTimeAugmentation(n=4), max_epochs=1)
    served = images.train_dataloader() if source == "loader" else images
    if source == "features":
        model.freeze()
        served = FeatureDataModule(images, model)
    with pytest.raises(MisconfigurationException, match="Set `augmentation='side_on'`"):
        trainer.fit(model, served)
    assert trainer.global_step == 0


def test_a_fit_on_features_of_augmented_images_is_followed_by_views(squares):
    model, images = classifier(), data(squares)
    model.freeze()
    trainer = quiet_trainer(TestTimeAugmentation(n=4), max_epochs=1)
    trainer.fit(model, datamodule=FeatureDataModule(images, model))
    found = trainer.validate(model, datamodule=images, verbose=False)[0]
    assert {"val_accuracy", "val_accuracy_tta"} <= found.keys()


def test_precomputed_features_are_refused(squares):
    model = classifier()
    model.freeze()
    features = FeatureDataModule(data(squares), model)
    with pytest.raises(MisconfigurationException, match="has no tensor of four dimensions"):
        validate(TestTimeAugmentation(1, "flips"), model, features)


def test_batches_without_targets_are_predicted_but_not_measured(squares):
    loader = DataLoader(torch.zeros(2, 3, 16, 16, dtype=torch.uint8), batch_size=2)

    class Alone(Plain):
        def validation_step(self, batch, batch_idx):
            return None

        def predict_step(self, batch, batch_idx):
            return self(batch)

    callback = TestTimeAugmentation(1, "flips", outputs="classes")
    assert quiet_trainer(callback).predict(Alone(), loader)[0].sum().item() == pytest.approx(2)
    with pytest.raises(MisconfigurationException, match="measures batches of images and targets"):
        quiet_trainer(callback).validate(Alone(), loader, verbose=False)


def test_predictions_that_cannot_be_replaced_are_refused():
    class Labels(Plain):
        def predict_step(self, batch, batch_idx):
            return self(batch).argmax(1)

    loader = DataLoader(torch.zeros(2, 3, 16, 16, dtype=torch.uint8), batch_size=2)
    with pytest.raises(MisconfigurationException, match=r"of shape \(2, 2\), one row an image"):
        quiet_trainer(TestTimeAugmentation(1, "flips")).predict(Labels(), loader)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="`plain_weight` must be a number or 'learn', got 'best'"):
        TestTimeAugmentation(plain_weight="best")
    with pytest.raises(ValueError, match="`n` must be in 1 to 7 for the preset 'flips', got 8"):
        TestTimeAugmentation(8, "flips")
    with pytest.raises(ValueError, match="hold metrics of torchmetrics, but 'accuracy' is none"):
        TestTimeAugmentation(1, "flips", metrics={"accuracy": lambda p, targets: p.mean()})


def test_several_labels_are_merged_by_sigmoids_and_measured_with_the_tuned_thresholds() -> None:
    torch.manual_seed(0)
    images = torch.randint(256, (12, 3, 24, 24), dtype=torch.uint8)
    targets = (torch.rand(12, 3) < 0.4).float()
    loader = DataLoader(TensorDataset(images, targets), batch_size=5)
    model = ImageClassifier(
        "test_resnet.r160_in1k",
        num_classes=3,
        head={"layout": "linear", "dropout": 0.0},
        labels={"kind": "multi"},
    ).eval()
    callback = TestTimeAugmentation(1, "flips")
    runner = quiet_trainer(callback)
    val = runner.validate(model, loader, verbose=False)[0]
    with torch.no_grad():
        plain, mirrored = (model(photos).sigmoid() for photos in (images, images.flip(-1)))
    merged = (plain + mirrored) / 2
    expected = SampleFBeta(3)
    expected.update(merged, targets.long())
    assert val["val_f2_tta"] == pytest.approx(expected.compute().item(), abs=1e-5)
    loss = torch.nn.functional.binary_cross_entropy(merged, targets).item()
    assert val["val_loss_tta"] == pytest.approx(loss, rel=1e-4)
    tested = runner.test(model, loader, verbose=False)[0]
    fixed = SampleFBeta(3)
    fixed.fix(callback.thresholds["f2_tta"])
    fixed.update(merged, targets.long())
    assert tested["test_f2_tta"] == pytest.approx(fixed.compute().item(), abs=1e-5)
