"""Images are normalised by what was measured on the training images, wherever the model goes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from helpers.trainers import quiet_trainer
from torch import nn
from torch.nn import functional

from lightning_fastrecipes import (
    FeatureDataModule,
    ImageArrayDataModule,
    ImageClassifier,
    ImageFolderDataModule,
    InitialLossCheck,
)
from lightning_fastrecipes.data.common.split_choice import FractionSplit
from lightning_fastrecipes.data.images.geometry import Geometry
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.functional.images.normalisation import check_normalize, measured_spec
from lightning_fastrecipes.functional.random import seeded_generator
from lightning_fastrecipes.protocols import InputSpec

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Return dark images with a pattern, and a validation split of bright ones."""
    generator = np.random.default_rng(seed)
    pattern = generator.integers(0, 60, (1, 16, 16, 3))
    dark = generator.integers(0, 60, (24, 16, 16, 3)) + pattern + [0, 20, 60]
    bright = generator.integers(200, 256, (8, 16, 16, 3))
    labels = {"y_train": np.arange(24) % 2, "y_val": np.arange(8) % 2}
    return {"x_train": dark.astype(np.uint8), "x_val": bright.astype(np.uint8), **labels}


def data(normalize="weights", source=None, **geometry) -> ImageArrayDataModule:
    geometry = Geometry(normalize=normalize, **geometry)
    return ImageArrayDataModule(source or arrays(), image_size=16, batch_size=8, geometry=geometry)


def small() -> ImageClassifier:
    return ImageClassifier("test_resnet.r160_in1k", num_classes=2, head="linear", lr=1e-3)


def fit(model, datamodule, *callbacks, **options):
    trainer = quiet_trainer(*callbacks, **{"max_epochs": 1, **options})
    trainer.fit(model, datamodule=datamodule)
    return trainer


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("sizes", [(7,), (3, 4), (1, 5, 1)], ids=str)
def test_batches_are_summed_exactly(channels, sizes) -> None:
    shape = (7, channels, 6, 5)
    images = torch.randint(256, shape, generator=seeded_generator(channels)).byte()
    pixels = images.double() / 255
    batches = images.split(sizes)
    found = measured_spec(InputSpec(), batches, "dataset")
    assert found.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-15)
    expected = pixels.std((0, 2, 3), unbiased=False).tolist()
    assert found.std == pytest.approx(expected, abs=1e-14)
    assert found == measured_spec(InputSpec(), [images], "dataset")  # to the last bit
    left = measured_spec(InputSpec(), batches, "mean_image")
    rest = pixels - pixels.mean(0)
    expected = rest.std((0, 2, 3), unbiased=False).tolist()
    assert left.std == pytest.approx(expected, abs=1e-14)
    torch.testing.assert_close(left.mean_image, pixels.mean(0).float())


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(DataError, match="There must be training images"):
        measured_spec(InputSpec(), [], "dataset")
    flat = torch.randint(256, (4, 3, 5, 5)).byte()
    flat[:, 1] = 7
    with pytest.raises(DataError, match=r"channels \[1\] have one value alone"):
        measured_spec(InputSpec(), [flat], "dataset")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("datasets", "must be one of weights, dataset, mean_image, .*Did you mean `dataset`"),
        ({"mean": [0.5]}, "a mapping of `mean` and `std`"),
        ({"mean": [0.5, 0.5], "std": [0.2]}, "one mean .* and one deviation"),
        ({"mean": [127.0] * 3, "std": [50.0] * 3}, "Divide them by 255"),
        ({"mean": [0.5], "std": [0.0]}, r"deviation in \(0, 1\]"),
        ({"mean": 0.5, "std": 0.2}, "lists of numbers for `mean` and `std`"),
        ({"mean": ["a"], "std": [0.2]}, "lists of numbers for `mean` and `std`"),
    ],
    ids=str,
)
def test_wrong_choices_are_refused_at_once(value, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_normalize(value)
    with pytest.raises(ConfigurationError, match=message):
        Geometry(normalize=value)
    with pytest.raises(TypeError, match=r"give `geometry=Geometry\(normalize=\.\.\.\)`"):
        ImageFolderDataModule("photos", normalize="dataset")


@pytest.mark.parametrize("normalize", ["dataset", "mean_image"])
def test_the_model_normalises_by_the_training_images_alone(normalize, capsys) -> None:
    model = small()
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    checks = InitialLossCheck()
    fit(model, data(normalize=normalize), checks)
    assert next(c for c in checks.results if c.check == "pixels").passed
    pixels = torch.from_numpy(arrays()["x_train"]).permute(0, 3, 1, 2)
    seen.clear()
    with torch.inference_mode():
        model.forward_features(pixels)
    found = seen[0]
    assert found.mean((0, 2, 3)).abs().max() < 1e-5
    torch.testing.assert_close(
        found.std((0, 2, 3), unbiased=False), torch.ones(3), atol=1e-4, rtol=0
    )
    if normalize == "mean_image":
        assert found.mean(0).abs().max() < 1e-4
    torch.testing.assert_close(model.input_spec.normalised(pixels), found, atol=1e-5, rtol=0)
    assert model.input_spec.normalize == normalize


def test_without_a_word_the_weights_decide() -> None:
    model, before = small(), small().input_spec
    fit(model, data())
    assert model.input_spec == before


def test_given_numbers_are_used() -> None:
    model = small()
    fit(model, data(normalize={"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}))
    assert (model.input_spec.mean, model.input_spec.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.mark.parametrize("normalize", ["dataset", "mean_image"])
def test_a_checkpoint_keeps_it_and_other_data_do_not_change_it(normalize, tmp_path) -> None:
    model, images = small(), data(normalize=normalize)
    trainer = fit(model, images)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    pixels = torch.from_numpy(arrays()["x_val"]).permute(0, 3, 1, 2)
    expected = model.eval().forward_features(pixels)
    loaded = ImageClassifier.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True).eval()
    assert torch.equal(loaded.forward_features(pixels), expected)
    assert loaded.input_spec == model.input_spec

    other = arrays(seed=3)
    other["x_train"] = 255 - other["x_train"]
    again = data(normalize, other)
    fit(loaded, again)
    assert loaded.input_spec == model.input_spec
    resumed = small()
    quiet_trainer(max_epochs=2).fit(resumed, datamodule=again, ckpt_path=tmp_path / "a.ckpt")
    assert resumed.input_spec == model.input_spec


def test_a_mean_image_is_resized_to_the_images() -> None:
    model = small()
    fit(model, data(normalize="mean_image"))
    mean = model.input_spec.mean_image[None]
    large = functional.interpolate(mean, 32, mode="bilinear", antialias=True)
    pixels = (large * 255).round().byte()
    assert model.input_spec.normalised(pixels).abs().max() < 0.031  # half a grey level
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.eval().forward_features(pixels)
    assert seen[0].abs().max() < 0.031


class Own(pl.LightningModule):
    """A module that expects normalised images."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 16 * 16, 2)
        self.seen: list[torch.Tensor] = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch[0])
        return functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def test_other_modules_get_images_that_are_normalised_so(tmp_path) -> None:
    model, images = Own(), data(normalize="dataset")
    trainer = fit(model, images)
    seen = torch.cat(model.seen)
    assert seen.mean((0, 2, 3)).abs().max() < 1e-4
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    state = torch.load(tmp_path / "a.ckpt", weights_only=True)["ImageArrayDataModule"]
    fresh = data(normalize="dataset")
    fresh.setup()
    fresh.load_state_dict(state)
    assert fresh.input_spec == images.input_spec
    assert fresh.input_spec.normalize == "dataset"


def test_a_module_that_cannot_be_told_is_refused() -> None:
    model = Own()
    model.input_spec = InputSpec()
    with pytest.raises(ConfigurationError, match="`normalize` must be 'weights' for Own"):
        fit(model, data(normalize="dataset"))


def test_precomputed_features_see_it_and_are_kept_apart(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FASTRECIPES_CACHE", str(tmp_path))
    rows = {}
    for normalize in ("weights", "dataset", "mean_image", "dataset"):
        torch.manual_seed(0)
        model = small()
        model.freeze_to(-1)
        whole = data(normalize, crop_fraction=1.0)
        features = FeatureDataModule(whole, model)
        features.prepare_data()
        features.setup("fit")
        assert model.input_spec.normalize == normalize
        found, _ = features._datasets["train"].__getitems__(range(len(arrays()["x_train"])))
        with torch.inference_mode():
            pixels = torch.from_numpy(arrays()["x_train"]).permute(0, 3, 1, 2)
            expected = model.eval().forward_features(pixels)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        rows.setdefault(normalize, found)
        assert torch.equal(rows[normalize], found)
    assert len({tuple(value.flatten().tolist()) for value in rows.values()}) == 3


def test_files_are_measured_as_the_evaluation_shows_them(pets: Path) -> None:
    images = ImageFolderDataModule(
        pets,
        image_size=12,
        split=FractionSplit(0.3),
        num_workers=0,
        geometry=Geometry(normalize="dataset"),
    )
    images.setup("fit")
    spec = InputSpec(crop_fraction=1.0)
    images.input_spec = spec
    found = images.normalised_spec(spec)
    pixels = torch.stack([image for image, _ in images.eval_dataset("train")]).double() / 255
    assert found.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert replace(found, mean=spec.mean, std=spec.std, normalize="weights") == spec
    assert images.normalised_spec(spec) == found
