"""Images of one channel, of four, and of any number in arrays."""

import numpy as np
import pytest
import pytorch_lightning as pl
import timm
import torch
from helpers.trainers import quiet_trainer
from PIL import Image

import lightning_fastrecipes as fr
from lightning_fastrecipes.data.images.decoding import Decoding, load_image
from lightning_fastrecipes.data.images.features import FeatureDataModule
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.nn.backbones import create_backbone

NAME = "test_resnet.r160_in1k"


def backbone(channels):
    return {"name": NAME, "in_channels": channels}


def arrays(channels, count=16, side=24):
    shape = (count, side, side, channels)
    draw = np.random.default_rng(0)
    return {"x_train": draw.integers(0, 256, shape, np.uint8), "y_train": np.arange(count) % 2}


def of_arrays(channels, **options):
    data = fr.ImageArrayDataModule(
        arrays(channels),
        image_size=32,
        batch_size=4,
        geometry=fr.Geometry(channels=channels, **options.pop("geometry", {})),
        **options,
    )
    data.setup("fit")
    return data


@pytest.fixture
def see_through(tmp_path):
    """Make `pets/{cat,dog}` with 8 images each, whose class is in their alpha alone."""
    draw = np.random.default_rng(0)
    for name, alpha in (("cat", 40), ("dog", 200)):
        for number in range(8):
            pixels = draw.integers(0, 256, (24, 24, 4), np.uint8)
            pixels[..., 3] = alpha
            path = tmp_path / "pets" / name / f"{number}.{'tif' if number % 2 else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return tmp_path / "pets"


def test_files_are_read_as_grey_colours_or_with_alpha(see_through):
    path = see_through / "cat" / "0.png"
    with Image.open(path) as image:
        pixels = np.asarray(image)
        white = Image.new("RGBA", image.size, "white")
        on_white = Image.alpha_composite(white, image)
    for channels, wanted in (
        (1, np.asarray(on_white.convert("L"))[..., None]),
        (3, np.asarray(on_white.convert("RGB"))),
        (4, pixels),
    ):
        found = load_image(path, Decoding(channels=channels)).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(found, wanted)
    with pytest.raises(DataError, match="a file has 1, 3 or 4 channels, not the 5"):
        load_image(path, Decoding(channels=5))


@pytest.mark.parametrize("channels", [1, 4])
def test_large_images_are_read_in_strips_alike(channels, tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 40, 4), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    whole = load_image(tmp_path / "a.png", Decoding(channels=channels))
    monkeypatch.setattr("lightning_fastrecipes.data.images.decoding._STRIP", 300)
    assert torch.equal(load_image(tmp_path / "a.png", Decoding(channels=channels)), whole)
    assert len(whole) == channels


def test_16_bit_grey_is_one_channel(tmp_path):
    levels = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(levels).save(tmp_path / "a.png")
    found = load_image(tmp_path / "a.png", Decoding(channels=1, white_level=4095))
    assert (found.shape, int(found.max())) == ((1, 8, 8), 255)


def test_alpha_is_learned_and_kept_in_checkpoints_caches_and_predictions(see_through, tmp_path):
    def data(channels=4):
        return fr.ImageFolderDataModule(
            see_through, image_size=32, batch_size=4, num_workers=0, split=0.25,
            geometry=fr.Geometry(channels=channels), augmentation=["flip", {"rotate": 5}],
        )  # fmt: skip

    torch.manual_seed(0)
    head = fr.Head(hidden=8, dropout=0.0)
    model = fr.ImageClassifier(backbone(4), head=head, lr=0.01)
    trainer = quiet_trainer(fr.InitialLossCheck(on_failure="raise"), max_epochs=8)
    images = data()
    trainer.fit(model, datamodule=images)
    assert float(trainer.callback_metrics["val_accuracy"]) == 1.0
    store = images.eval_dataset("val").store
    assert store is not None
    assert store[0].shape[0] == 4
    # Another number of channels is another cache.
    colours = data(3)
    quiet_trainer(max_epochs=1).fit(fr.ImageClassifier(NAME), datamodule=colours)
    assert colours.eval_dataset("val")[0][0].shape[0] == 3
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = fr.ImageClassifier.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert loaded.backbone.num_channels == 4
    views = fr.TestTimeAugmentation(preset="flips")
    found = quiet_trainer(views).validate(loaded, data(), verbose=False)
    assert found[0]["val_accuracy_tta"] == 1.0


@pytest.mark.parametrize("channels", [1, 2, 5, 6])
@pytest.mark.parametrize("on_device", [False, True])
def test_arrays_of_any_number_of_channels_train(channels, on_device):
    augmentation = fr.Augmentation("top_down", transforms=["blur", "erase"], on_device=on_device)
    data = of_arrays(channels, augmentation=augmentation, geometry={"normalize": "dataset"})
    model = fr.ImageClassifier(backbone(channels), head=fr.Head(hidden=8))
    quiet_trainer(max_epochs=1).fit(model, datamodule=data)
    assert (len(model.input_spec.mean), model.input_spec.normalize) == (channels, "dataset")
    assert next(iter(data.train_dataloader()))[0].shape == (4, channels, 32, 32)


def test_grey_arrays_are_colours_unless_they_are_asked_to_be_grey():
    grey = arrays(1)
    for channels, served in ((None, 3), (1, 1)):
        data = fr.ImageArrayDataModule(grey, image_size=32, geometry=fr.Geometry(channels=channels))
        data.setup("fit")
        assert (data.num_channels, len(data.eval_dataset("train")[0][0])) == (served, served)


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_arrays_of_other_channels_than_were_asked_for_are_refused(channels):
    data = fr.ImageArrayDataModule(arrays(5), geometry=fr.Geometry(channels=channels))
    with pytest.raises(DataError, match=r"say how many channels .* `geometry=Geometry\(channels"):
        data.setup("fit")


@pytest.mark.parametrize("wrap", [lambda data, _: data, FeatureDataModule])
def test_channels_that_do_not_fit_are_refused_before_training(wrap):
    data = of_arrays(4)
    model = fr.ImageClassifier(NAME, 2)
    model.freeze()
    said = r"images have 4 channels, but the backbone takes 3.*`geometry=Geometry\(channels=3\)`"
    with pytest.raises(ConfigurationError, match=said):
        quiet_trainer(max_epochs=1).fit(model, datamodule=wrap(data, model))


@pytest.mark.parametrize("name", ["hue", "saturation", "grey", "channel_jitter"])
@pytest.mark.parametrize("channels", [1, 4])
def test_transforms_of_colours_are_refused_by_name(name, channels):
    data = of_arrays(channels, augmentation=["flip", name])
    with pytest.raises(ConfigurationError, match=f"'{name}' needs images of 3 channels, but they"):
        data.train_dataloader()


def test_a_module_that_does_not_normalise_gets_images_of_one_channel():
    shapes = []

    class Own(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 2)

        def training_step(self, batch, batch_idx):
            shapes.append(batch[0].shape)
            return self.layer(batch[0].mean((2, 3))).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    quiet_trainer(max_epochs=1).fit(Own(), datamodule=of_arrays(1, split=0.0))
    assert set(shapes) == {(4, 1, 32, 32)}


def test_weights_are_adapted_as_timm_does(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=0)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    first = network.conv1[0].weight
    for channels, wanted in ((1, first.sum(1, keepdim=True)), (4, first[:, [0, 1, 2, 0]] * 3 / 4)):
        weights = str(tmp_path / "w.pth")
        built = create_backbone("test_resnet", weights=weights, in_channels=channels)
        torch.testing.assert_close(built.model.conv1[0].weight, wanted)
        assert len(built.input_spec.mean) == channels


def test_networks_say_their_channels():
    made = timm.create_model("test_resnet", in_chans=1, num_classes=5)
    assert create_backbone(made).num_channels == 1
    own = torch.nn.Sequential(torch.nn.Conv2d(2, 6, 3, padding=1))
    with pytest.raises(ValueError, match="an attribute `in_channels` of a network of your own"):
        create_backbone(own)
    own.in_channels = 2
    built = create_backbone(own)
    assert (built.num_channels, len(built.input_spec.mean)) == (2, 2)


@pytest.mark.parametrize(
    "spec",
    [
        {"name": NAME, "in_channels": 0},
        {"name": NAME, "channels": 1},
        {"name": NAME, "in_channels": True},
    ],
)
def test_wrong_mappings_are_refused(spec):
    with pytest.raises(ConfigurationError, match="must have the keys `name`, of a timm model, and"):
        fr.ImageClassifier(spec, 2)


def test_means_must_fit_the_channels():
    with pytest.raises(ConfigurationError, match="one mean and deviation for each of 4 channels"):
        fr.Geometry(channels=4, normalize={"mean": [0.5] * 3, "std": [0.5] * 3})
    with pytest.raises(ValueError, match="`channels` must be a whole number in 1 to 1000"):
        fr.Geometry(channels=0)
