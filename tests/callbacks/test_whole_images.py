"""Test-time views of whole images, of which the plain prediction sees the middle."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from lightning_fastrecipes import (
    Ensemble,
    Geometry,
    ImageArrayDataModule,
    ImageClassifier,
    ImageFolderDataModule,
    OverfittingStop,
    ProgressiveResizing,
    TestTimeAugmentation,
)
from lightning_fastrecipes.data.images import dataset as image_dataset
from lightning_fastrecipes.protocols import InputSpec

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
]
SIZE, WHOLE = 24, 32


def classifier(seed: int = 0) -> ImageClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ImageClassifier("test_resnet.r160_in1k", num_classes=2, head="linear")


class Own(pl.LightningModule):
    """A module that knows nothing of our package, and takes any size."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            pool = [nn.AdaptiveAvgPool2d(4), nn.Flatten()]
            self.layers = nn.Sequential(*pool, nn.Linear(48, 2))

    def forward(self, images):
        return self.layers(images)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def predict_step(self, batch, batch_idx):
        return self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def data(squares, **options) -> ImageFolderDataModule:
    defaults = {"image_size": SIZE, "batch_size": 5, "num_workers": 0}
    defaults |= {"val_fraction": 0.4, "test_fraction": 0.2}
    geometry = options.pop("geometry", Geometry(crop_fraction=0.75))
    return ImageFolderDataModule(squares, geometry=geometry, **(defaults | options))


def trainer(*callbacks, **options) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **options,
    )


def add_unlabelled(squares) -> None:
    (squares / "test").mkdir()
    for file in squares.glob("red/*.png"):
        (squares / "test" / file.name).write_bytes(file.read_bytes())


class Keeper(pl.Callback):
    """Keep what the steps of a validation return, and how large their images were."""

    def on_validation_epoch_start(self, *_) -> None:
        self.rows, self.sizes = [], set()

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, *_) -> None:
        self.rows.append(outputs)
        self.sizes.add(batch[0].shape[-1])

    def joined(self, key: str) -> torch.Tensor:
        return torch.cat([row[key] for row in self.rows])


def validate(callback, model, images):
    keeper = Keeper()
    metrics = trainer(callback, keeper).validate(model, datamodule=images, verbose=False)[0]
    return metrics, keeper


def pixels_of(images, split="val") -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a split's evaluated images, the whole of them, and targets."""
    images.setup()
    plain = images.eval_dataset(split)
    size, geometry = images.image_size, images.geometry
    images.image_size, images.geometry = WHOLE, Geometry(crop_fraction=1.0)
    whole = images.eval_dataset(split)
    images.image_size, images.geometry = size, geometry
    both = (torch.stack([image for image, _ in dataset]) for dataset in (plain, whole))
    return *both, plain.targets


def enlarged(wholes: torch.Tensor, size: int) -> torch.Tensor:
    pixels = nn.functional.interpolate(wholes.float(), (size, size), mode="bilinear")
    return pixels.round().to(wholes.dtype) if wholes.dtype == torch.uint8 else pixels


def expected_of(model, plain, wholes, sizes) -> tuple[torch.Tensor, torch.Tensor]:
    """Predict the plain images, and merge them with the whole ones of several sizes."""
    model.eval()
    with torch.inference_mode():
        alone = model(plain).softmax(1)
        views = [model(enlarged(wholes, size)).softmax(1) for size in sizes]
    return alone, torch.stack([alone, *views]).mean(0)


def test_the_middle_and_the_whole_in_two_sizes_predict_together(squares):
    model, images = classifier(), data(squares)
    metrics, keeper = validate(TestTimeAugmentation(preset="whole"), model, images)
    plain, wholes, targets = pixels_of(images)
    assert (plain.shape[-1], wholes.shape[-1], keeper.sizes) == (SIZE, WHOLE, {SIZE})
    alone, merged = expected_of(model, plain, wholes, (32, 36))
    torch.testing.assert_close(keeper.joined("probabilities"), alone, atol=1e-5, rtol=0)
    found = keeper.joined("probabilities_tta")
    torch.testing.assert_close(found, merged, atol=2e-4, rtol=0)
    assert (merged - alone).abs().max() > 1e-3
    right = (found.argmax(1) == targets).float().mean().item()
    assert metrics["val_accuracy_tta"] == pytest.approx(right)
    without = trainer().validate(model, datamodule=images, verbose=False)[0]
    assert {name: metrics[name] for name in without} == without


def test_test_and_predict_are_augmented_alike(squares):
    add_unlabelled(squares)
    model, images = classifier(), data(squares, test_fraction=0.0)
    found = trainer(TestTimeAugmentation(preset="whole")).predict(model, datamodule=images)
    plain, wholes, _ = pixels_of(images, "predict")
    _, merged = expected_of(model, plain, wholes, (32, 36))
    torch.testing.assert_close(torch.cat(found), merged, atol=2e-4, rtol=0)
    assert images.serves_whole is False


@pytest.mark.parametrize("options", [{"num_workers": 2}, {"batch_size": 3}], ids=str)
def test_workers_and_batches_change_nothing(squares, options):
    callback, model = TestTimeAugmentation(preset="whole"), classifier()
    expected = validate(callback, model, data(squares))[1].joined("probabilities_tta")
    found = validate(callback, model, data(squares, **options))[1].joined("probabilities_tta")
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_every_file_is_decoded_once(squares, monkeypatch):
    images = data(squares, cache="off")
    images.prepare_data()
    images.setup()
    decoded = []
    original = image_dataset.load_image
    monkeypatch.setattr(
        image_dataset, "load_image", lambda path, *a: decoded.append(path) or original(path, *a)
    )
    validate(TestTimeAugmentation(4, "whole"), classifier(), images)
    assert sorted(decoded) == sorted(images.eval_dataset("val").files)


def test_modules_of_ones_own_see_normalised_images(squares):
    model, images = Own(), data(squares)
    accuracy = MulticlassAccuracy(2, average="micro")
    callback = TestTimeAugmentation(preset="whole", metrics={"accuracy": accuracy})
    metrics = trainer(callback).validate(model, datamodule=images, verbose=False)[0]
    plain, wholes, targets = pixels_of(images)
    spec = InputSpec()
    alone, merged = expected_of(model, spec.normalised(plain), spec.normalised(wholes), (32, 36))
    loss = nn.functional.nll_loss(merged.log(), targets).item()
    assert metrics["val_loss_tta"] == pytest.approx(loss, rel=1e-4)
    right = (alone.argmax(1) == targets).float().mean().item()
    assert metrics["val_accuracy_plain"] == pytest.approx(right)


def test_an_ensemble_predicts_the_views_with_every_member(squares):
    add_unlabelled(squares)
    callback = TestTimeAugmentation(preset="whole")
    images = data(squares, test_fraction=0.0)
    found = trainer(callback).predict(Ensemble([classifier(0), classifier(1)]), datamodule=images)
    plain, wholes, _ = pixels_of(images, "predict")
    each = [expected_of(classifier(seed), plain, wholes, (32, 36))[1] for seed in (0, 1)]
    torch.testing.assert_close(torch.cat(found), torch.stack(each).mean(0), atol=1e-4, rtol=0)


def test_the_weight_of_the_plain_image_is_learned(squares):
    callback = TestTimeAugmentation(preset="whole", plain_weight="learn")
    model, images = classifier(3), data(squares)
    metrics, _ = validate(callback, model, images)
    assert metrics["tta_plain_weight"] == pytest.approx(callback.weight)
    fixed = TestTimeAugmentation(preset="whole", plain_weight=callback.weight)
    expected = trainer(fixed).test(model, datamodule=images, verbose=False)[0]
    found = trainer(callback).test(model, datamodule=images, verbose=False)[0]
    assert found == pytest.approx(expected)


def test_sizes_are_rounded_to_what_the_module_takes(squares, caplog):
    model, seen = classifier(), []
    spec = model.backbone.input_spec
    model.backbone.input_spec = type(spec)(size_multiple=6)
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-1]))
    images = data(squares, batch_size=64)
    with caplog.at_level("INFO"):
        validate(TestTimeAugmentation(3, "whole"), model, images)
    assert seen == [24, 30, 36, 42]
    assert "views of 32, 36, 40 px become 30, 36, 42 px, which ImageClassifier takes" in caplog.text


def test_views_that_become_one_are_refused(squares):
    model, images = classifier(), data(squares)
    model.backbone.input_spec = type(model.backbone.input_spec)(size_multiple=24)
    with pytest.raises(
        MisconfigurationException, match=r"32, 36, 40 px become 24, 48, 48 px, which"
    ):
        validate(TestTimeAugmentation(3, "whole"), model, images)


def test_validations_of_a_fit_follow_the_size_that_is_trained(squares):
    callback = TestTimeAugmentation(preset="whole", during_fit=True)
    model, seen = Own(), []
    model.register_forward_pre_hook(
        lambda module, inputs: None if module.training else seen.append(inputs[0].shape[-1])
    )
    resizing = ProgressiveResizing({0: 12, 1: 24})
    run = trainer(resizing, callback, max_epochs=2, num_sanity_val_steps=0)
    images = data(squares, batch_size=64)
    run.fit(model, images)
    # Each is tried out once; plain images are predicted by the step and for the callback.
    tried, first, second = [12, 24, 16, 18], [12, 12, 16, 18], [24, 24, 32, 36]
    assert seen == [*tried, *first, 32, 36, *second]
    assert "val_loss_tta" in run.callback_metrics
    assert images.serves_whole is False


# Whatever the data and the module.


def test_images_in_memory_and_grey_ones_are_seen_whole():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (20, 32, 32), generator=generator, dtype=torch.uint8).numpy()
    arrays = {"x_train": pixels, "y_train": [0, 1] * 10}
    geometry = Geometry(crop_fraction=0.75)
    images = ImageArrayDataModule(arrays, image_size=SIZE, batch_size=5, geometry=geometry)
    model = classifier()
    _, keeper = validate(TestTimeAugmentation(preset="whole"), model, images)
    plain, wholes, _ = pixels_of(images)
    _, merged = expected_of(model, plain, wholes, (32, 36))
    found = keeper.joined("probabilities_tta")
    torch.testing.assert_close(found, merged, atol=2e-4, rtol=0)


def test_a_subclass_that_picks_its_images_is_heeded(squares):
    class Fewer(ImageFolderDataModule):
        def eval_dataset(self, split, *, whole=False):
            return Subset(super().eval_dataset(split, whole=whole), [0, 1, 2])

        def eval_dataloader(self, split, *, whole=False):
            return DataLoader(self.eval_dataset(split, whole=whole), 2)

    images = Fewer(squares, image_size=24, geometry=Geometry(crop_fraction=0.75))
    _, keeper = validate(TestTimeAugmentation(preset="whole"), classifier(), images)
    assert len(keeper.joined("probabilities_tta")) == 3


def test_several_loaders_of_whole_images_are_measured_apart(squares):
    class Several(ImageFolderDataModule):
        def val_dataloader(self):
            splits = ("val", "test")
            return [self.eval_dataloader(split, whole=self.serves_whole) for split in splits]

    options = {"image_size": 24, "num_workers": 0, "test_fraction": 0.2}
    images = Several(squares, geometry=Geometry(crop_fraction=0.75), **options)
    model, callback = classifier(), TestTimeAugmentation(preset="whole")
    both = {}
    for metrics in trainer(callback).validate(model, datamodule=images, verbose=False):
        both |= metrics
    alone = trainer(callback).test(model, datamodule=images, verbose=False)[0]
    assert both["val_loss_tta/dataloader_idx_1"] == pytest.approx(alone["test_loss_tta"], rel=1e-5)


def test_losses_of_training_samples_stay_those_of_the_middle(squares):
    """`OverfittingStop` validates on clean training images, which nobody wants whole."""
    found = []
    for extra in ([], [TestTimeAugmentation(preset="whole", during_fit=True)]):
        stop = OverfittingStop(patience=9, cycle_len=1, gap_patience=9)
        trainer(stop, *extra, max_epochs=1).fit(Own(), data(squares))
        found.append(stop.history[0]["train_loss"])
    assert found[0] == found[1]


def test_modules_that_build_their_layers_late_are_tried_when_they_are_there(squares):
    class Late(Own):
        def __init__(self) -> None:
            super().__init__()
            self.kept = self.layers
            del self.layers

        def setup(self, stage):
            self.layers = self.kept

    metrics, _ = validate(TestTimeAugmentation(preset="whole"), Late(), data(squares))
    assert "val_loss_tta" in metrics


# What is left behind, and what is refused.


def test_the_datamodule_serves_as_before_after_a_run_and_after_an_error(squares):
    images, callback = data(squares), TestTimeAugmentation(preset="whole")
    served = []

    class Watched(Own):
        def validation_step(self, batch, batch_idx):
            served.append(images.serves_whole)
            raise RuntimeError("broken")

    for before in (False, True):
        images.serves_whole = before
        validate(callback, classifier(), images)
        trainer(callback, max_epochs=1).fit(Own(), images)
        assert images.serves_whole is before
        with pytest.raises(RuntimeError, match="broken"):
            trainer(callback).validate(Watched(), datamodule=images, verbose=False)
        assert (served.pop(), images.serves_whole) == (True, before)


class Unserved(Own):
    """Fail if anything runs."""

    def validation_step(self, batch, batch_idx):
        pytest.fail("predicted before the refusal")


def test_loaders_are_refused(squares):
    loader = DataLoader(TensorDataset(torch.zeros(2, 3, 24, 24), torch.zeros(2)))
    with pytest.raises(MisconfigurationException, match="serves whole images, but the run has lo"):
        trainer(TestTimeAugmentation(preset="whole")).validate(Unserved(), loader)


@pytest.mark.parametrize(
    "geometry", [Geometry("squish"), Geometry(crop_fraction=1.0)], ids=["squished", "not-cropped"]
)
def test_an_evaluation_that_crops_nothing_is_refused(squares, geometry):
    with pytest.raises(MisconfigurationException, match=r"it crops nothing \(24 px of 24\)"):
        validate(TestTimeAugmentation(preset="whole"), Unserved(), data(squares, geometry=geometry))


def test_networks_of_one_size_are_refused_before_anything_runs(squares):
    model = classifier()
    model.backbone.input_spec = type(model.backbone.input_spec)(image_size=24, fixed_size=True)
    callback, images = TestTimeAugmentation(preset="whole"), data(squares)
    validate(callback, classifier(), images)  # what it takes says nothing of the next
    with pytest.raises(MisconfigurationException, match=r"must be 24 for .* which takes no other"):
        validate(callback, model, images)

    class Fixed(Unserved):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 2))

    with pytest.raises(MisconfigurationException, match="Fixed must take images of 32 x 32 px"):
        validate(callback, Fixed(), images)
    assert images.serves_whole is False


def test_a_datamodule_of_ones_own_must_keep_its_word(squares):
    class Forgetful(ImageFolderDataModule):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return list(super().on_after_batch_transfer(batch, dataloader_idx))

    class Oblong(ImageFolderDataModule):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            batch = super().on_after_batch_transfer(batch, dataloader_idx)
            batch.wholes = batch.wholes[..., :-1]
            return batch

    class Several(ImageFolderDataModule):
        def val_dataloader(self):
            return [self.eval_dataloader("val"), self.eval_dataloader("train")]

    for kind, message in {
        Forgetful: "that are a `WholeBatch`, but got a list",
        Several: "that are a `WholeBatch`, but got a list",
        Oblong: r"must be square, but are 27 x 26 \(height x width\)",
    }.items():
        images = kind(squares, image_size=24, num_workers=0, geometry=Geometry(crop_fraction=0.875))
        with pytest.raises(MisconfigurationException, match=message):
            validate(TestTimeAugmentation(preset="whole"), classifier(), images)


def test_loaders_after_a_datamodule_are_refused(squares):
    run, images = trainer(TestTimeAugmentation(preset="whole")), data(squares)
    run.validate(classifier(), datamodule=images, verbose=False)
    with pytest.raises(MisconfigurationException, match="needs batches that are a `WholeBatch`"):
        run.validate(classifier(), images.eval_dataloader("val"), verbose=False)
