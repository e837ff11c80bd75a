"""Ensembles: one model's predictions merged with others', by name, with one in memory at a time."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_fastrecipes import Ensemble, ImageClassifier, ImageFolderDataModule
from lightning_fastrecipes.errors import ConfigurationError, DataError, DataNotFoundError
from lightning_fastrecipes.protocols import InputSpec

pytestmark = pytest.mark.both


IMAGES = torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()


def make(seed: int, classes=("a", "b", "c"), backbone="test_resnet.r160_in1k") -> ImageClassifier:
    torch.manual_seed(seed)
    model = ImageClassifier(backbone, num_classes=3, pretrained=False, head="linear")
    model.set_classes(list(classes))
    return model.eval()


def probabilities(model: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model(IMAGES).softmax(dim=1)


def loader() -> DataLoader:
    return DataLoader(TensorDataset(IMAGES, torch.zeros(6)), batch_size=4)


@pytest.fixture
def checkpoint(tmp_path: Path):
    def save(model: ImageClassifier, name: str) -> Path:
        trainer = pl.Trainer(
            accelerator="cpu", logger=False, enable_progress_bar=False, max_epochs=0
        )
        trainer.strategy.connect(model)
        trainer.save_checkpoint(tmp_path / name)
        return tmp_path / name

    return save


def test_members_of_different_backbones_are_averaged():
    members = [make(0), make(1), make(2, backbone="test_vit.r160_in1k")]
    images = nn.functional.interpolate(IMAGES, 160)
    ensemble = Ensemble(members)
    with torch.inference_mode():
        expected = torch.stack([m(images).softmax(dim=1) for m in members]).mean(dim=0)
        torch.testing.assert_close(ensemble(images).softmax(dim=1), expected)
    torch.testing.assert_close(ensemble.predict([images]), expected)


@pytest.mark.filterwarnings("ignore:Splits share images")
def test_images_of_a_datamodule_are_normalised_by_each_member(squares):
    (squares / "test").mkdir()
    for file in squares.glob("red/*.png"):
        (squares / "test" / file.name).write_bytes(file.read_bytes())
    members = [make(0), make(1)]
    half = InputSpec(mean=(0.5,) * 3, std=(0.25,) * 3, interpolation="bicubic", crop_fraction=0.75)
    members[1].set_input_spec(replace(half, mean=(0.1,) * 3))
    members[0].set_input_spec(half)
    images = ImageFolderDataModule(squares, image_size=24, num_workers=0)
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    found = pl.Trainer(**options).predict(Ensemble(members), datamodule=images)
    assert images.eval_transform_key()["crop_fraction"] == 0.75
    pixels = torch.stack([image for image, _ in images.eval_dataset("predict")])
    with torch.inference_mode():
        expected = torch.stack([m(pixels).softmax(dim=1) for m in members]).mean(dim=0)
    torch.testing.assert_close(torch.cat(found), expected)


def test_sizes_are_rounded_to_what_every_member_takes():
    members = [make(0), make(1), nn.Sequential(nn.Flatten(), nn.LazyLinear(3))]
    for member, multiple in zip(members[:2], (4, 6), strict=True):
        member.backbone.input_spec = InputSpec(size_multiple=multiple)
        member.set_input_spec(member.backbone.input_spec)
    assert Ensemble(members[:2]).nearest_image_size(32) == 36
    assert Ensemble([members[2]]).nearest_image_size(32) == 32
    with pytest.raises(ValueError, match="Sequential must take images of 36 x 36 px, but"):
        Ensemble(members).nearest_image_size(32)


def test_classes_in_another_order_are_matched_by_name():
    model = make(0)
    turned = make(0, classes=("c", "a", "b"))
    with torch.no_grad():
        turned.head[1].weight.copy_(model.head[1].weight[[2, 0, 1]])
        turned.head[1].bias.copy_(model.head[1].bias[[2, 0, 1]])
    ensemble = Ensemble([model, turned])
    torch.testing.assert_close(ensemble.predict(loader()), probabilities(model))
    assert ensemble.classes == ["a", "b", "c"]


def test_checkpoints_are_loaded(checkpoint):
    members = [make(0), make(1)]
    paths = [checkpoint(model, f"{i}.ckpt") for i, model in enumerate(members)]
    expected = (probabilities(members[0]) + probabilities(members[1])) / 2
    torch.testing.assert_close(Ensemble(paths).predict(loader()), expected)
    torch.testing.assert_close(probabilities(Ensemble(paths)), expected)
    torch.testing.assert_close(Ensemble([paths[0], members[1]]).predict(loader()), expected)


def test_trainer_predicts_with_an_ensemble(checkpoint):
    paths = [checkpoint(make(seed), f"{seed}.ckpt") for seed in range(2)]
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    found = torch.cat(trainer.predict(Ensemble(paths), loader()))
    torch.testing.assert_close(found, Ensemble(paths).predict(loader()))


def test_each_member_may_be_seen_by_itself():
    model, other, turned = make(0), make(1), make(2, classes=("c", "a", "b"))
    found = Ensemble([model, other, turned]).predict(loader(), members=True)
    assert found.shape == (3, 6, 3)
    torch.testing.assert_close(found[0], probabilities(model))
    torch.testing.assert_close(found[1], probabilities(other))
    torch.testing.assert_close(found[2], probabilities(turned)[:, [1, 2, 0]])
    torch.testing.assert_close(
        found.mean(0), Ensemble([model, other, turned]).predict(loader()), rtol=1e-5, atol=1e-6
    )
    smaller = make(0, classes=("a", "b", "c"))
    smaller.head = nn.Linear(192, 2)
    smaller.classes = None
    with pytest.raises(ValueError, match=r"the shapes are \(6, 3\) and \(6, 2\)"):
        Ensemble([model, smaller]).predict(loader(), members=True)


def test_one_member_is_in_memory_at_a_time():
    alive = weakref.WeakSet()
    most = []

    def load(seed: int):
        def member() -> nn.Module:
            gc.collect()
            model = make(seed)
            alive.add(model)
            most.append(len(alive))
            return model

        return member

    ensemble = Ensemble([load(0), load(1), load(2)])
    assert len(ensemble) == 3
    found = ensemble.predict(loader())
    assert max(most) == 1
    expected = torch.stack([probabilities(make(seed)) for seed in range(3)]).mean(dim=0)
    torch.testing.assert_close(found, expected)


def test_members_predict_as_in_evaluation_and_keep_no_gradients():
    member = make(0).train()
    ensemble = Ensemble([member])
    found = ensemble.predict(loader())
    assert not member.training
    assert not found.requires_grad
    torch.testing.assert_close(found, probabilities(make(0)))


def test_mean_of_logits_differs_from_that_of_probabilities():
    members = [make(0), make(1)]
    with torch.no_grad():
        for member, scale in zip(members, (4.0, 9.0), strict=True):
            member.head[1].weight.mul_(scale)
    found = Ensemble(members, merge="logits").predict(loader())
    logits = sum(member(IMAGES).detach() for member in members) / 2
    torch.testing.assert_close(found, logits.softmax(dim=1), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(found, Ensemble(members).predict(loader()), atol=1e-3)


@pytest.mark.parametrize(
    ("make_it", "error", "message"),
    [
        pytest.param(lambda: Ensemble([]), ValueError, "at least one model, got none", id="none"),
        pytest.param(
            lambda: Ensemble([make(0)], merge="vote"), ValueError, "`merge` must be", id="merge"
        ),
        pytest.param(
            lambda: Ensemble(["nowhere.ckpt"]),
            DataNotFoundError,
            "no checkpoint nowhere",
            id="file",
        ),
        pytest.param(
            lambda: Ensemble([make(0), make(1, classes=("a", "b", "z"))]).predict(loader()),
            ValueError,
            "same classes, but one differs from the first: missing 'c'; new 'z'",
            id="classes",
        ),
        pytest.param(
            lambda: Ensemble([make(0)]).predict(DataLoader(IMAGES, 2, shuffle=True)),
            DataError,
            "but the loader shuffles",
            id="shuffled",
        ),
        pytest.param(
            lambda: Ensemble([make(0)]).predict(iter([IMAGES])),
            DataError,
            "an iterator gives them only once",
            id="iterator",
        ),
        pytest.param(
            lambda: Ensemble([make(0)]).predict([]), DataError, "at least one batch", id="no-batch"
        ),
        pytest.param(
            lambda: pl.Trainer(
                accelerator="cpu", logger=False, max_epochs=1, enable_progress_bar=False
            ).fit(Ensemble([make(0)]), loader()),
            Exception,
            "No `training_step|is not trained. Fit its members",
            id="fit",
        ),
    ],
)
def test_what_cannot_be_an_ensemble_is_refused(make_it, error, message):
    with pytest.raises(error, match=message):
        make_it()


class OwnNet(pl.LightningModule):
    """A module of somebody else, which normalises nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3), nn.Flatten(), nn.LazyLinear(2))

    def forward(self, images):
        return self.layers(images)

    def test_step(self, batch, batch_idx):
        return self(batch[0])


@pytest.mark.filterwarnings("ignore:Splits share images")
def test_modules_of_others_predict_on_images_of_a_datamodule(squares, tmp_path):
    data = ImageFolderDataModule(squares, split=0.25, image_size=16, num_workers=0)
    data.prepare_data()
    data.setup("fit")
    members = [OwnNet(2), OwnNet(3)]
    batches = list(data.float_dataloader("val"))
    assert len(data.float_dataloader("val")) == len(batches)
    expected = torch.stack(
        [torch.cat([net(images).softmax(1) for images, _ in batches]) for net in members]
    ).mean(0)
    found = Ensemble(members).predict(data.float_dataloader("val"))
    torch.testing.assert_close(found, expected.detach())
    # As a trainer with the datamodule hands them over.
    seen = []
    members[0].test_step = lambda batch, batch_idx: seen.append(batch[0])
    data.test_dataloader = data.val_dataloader
    pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False).test(
        members[0], datamodule=data, verbose=False
    )
    torch.testing.assert_close(torch.cat(seen), torch.cat([images for images, _ in batches]))
    with pytest.raises(ConfigurationError, match=r"OwnNet must get normalised images.*float_data"):
        Ensemble(members).predict(data.eval_dataloader("val"))


def test_a_checkpoint_of_another_class_says_what_it_needs(tmp_path):
    net = OwnNet(2)
    net(IMAGES.float())
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.strategy.connect(net)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    with pytest.raises(ConfigurationError, match=r"cannot be loaded as ImageClassifier.*`task`"):
        Ensemble([tmp_path / "own.ckpt"]).predict([IMAGES.float()])
    # Nor where its arguments have names like those of an image classifier.
    torch.save({"state_dict": {}, "hyper_parameters": {"backbone": "a"}}, tmp_path / "other.ckpt")
    with pytest.raises(ConfigurationError, match="of no task of this package"):
        Ensemble([tmp_path / "other.ckpt"]).predict([IMAGES.float()])
