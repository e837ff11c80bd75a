"""Outputs of frozen early layers in place of images: what is served, kept, redone and refused."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import nn

from lightning_fastrecipes import ImageClassifier, ImageFolderDataModule, TrainMetrics
from lightning_fastrecipes.batches import EarlyOutputs
from lightning_fastrecipes.data.common.cache_choice import cache_folder
from lightning_fastrecipes.data.images.feature_views import fixed_views, views_of_epoch
from lightning_fastrecipes.data.images.features import FeatureDataModule
from lightning_fastrecipes.data.images.frozen_part import frozen_part
from lightning_fastrecipes.data.images.options import as_augmentation
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.images.pixels import dihedral_batch
from lightning_fastrecipes.functional.images.views import image_numbers
from lightning_fastrecipes.nn.cutting import find_cut, run_early, run_late

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "num_sanity_val_steps": 0,
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    for name in ("cat", "dog"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(6):
            pixels = torch.randint(0, 256, (40, 36, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")
    return tmp_path / "photos"


def parts(
    photos: Path, *, policy="eval_if_frozen", depth=1, **options
) -> tuple[ImageFolderDataModule, ImageClassifier]:
    torch.manual_seed(0)
    options = {"augmentation": "top_down"} | options
    images = ImageFolderDataModule(
        photos, image_size=32, batch_size=4, split=0.25, num_workers=0, **options
    )
    model = ImageClassifier(
        "test_resnet.r160_in1k", 2, head={"hidden": 8, "dropout": 0.0}, norm_policy=policy, lr=0.01
    )
    model.backbone.train()
    with torch.no_grad():  # statistics under which something is left of an image
        for _ in range(10):
            model.backbone(torch.randn(8, 3, 32, 32))
    model.freeze_to(depth)
    return images, model


def fit(model, data, max_epochs: int = 1, **options) -> pl.Trainer:
    trainer = pl.Trainer(max_epochs=max_epochs, **(QUIET | options))
    trainer.fit(model, datamodule=data)
    return trainer


def written() -> set[str]:
    return {path.parent.name for path in cache_folder().glob("features/*/features.npy")}


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch):
    """Make it an error to run the frozen layers over images."""

    def run(*_, **__):
        raise AssertionError("the frozen layers should not run")

    return lambda: monkeypatch.setattr(FeatureDataModule, "compute", run)


NETWORKS = ["test_resnet.r160_in1k", "test_vit.r160_in1k", "test_convnext.r160_in1k",
            "test_efficientnet.r160_in1k"]  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_both_parts_of_a_cut_network_compute_what_the_whole_does(name: str) -> None:
    torch.manual_seed(0)
    model = ImageClassifier(name, 2, num_groups=4).eval()
    images = torch.randn(3, 3, 160, 160)
    with torch.no_grad():
        whole = model.backbone(images)
        for depth in (1, 2):
            model.freeze_to(depth)
            cut = find_cut(model.backbone, 160)
            early = run_early(model.backbone, cut.name, lambda: model.backbone(images))
            assert early.shape == (3, *cut.shape)
            late = model.forward_features(EarlyOutputs(early, cut.name, 160))
            assert torch.allclose(late, whole, atol=1e-6)
            frozen = {n for n, p in model.backbone.model.named_parameters() if not p.requires_grad}
            trained = {n for n, p in model.backbone.model.named_parameters() if p.requires_grad}
            assert frozen & set(cut.tensors)
            assert not trained & set(cut.tensors)


class Bypass(nn.Module):
    """A network whose last layer sees the image beside what the layer before it makes of it."""

    def __init__(self, depth: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.Sequential(*(nn.Identity() for _ in range(depth)), nn.Conv2d(3, 4, 1))
        self.third = nn.Conv2d(4, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.third(self.second(self.first(images)) + images.mean(1, keepdim=True))


def test_layers_that_see_more_than_one_output_are_refused(photos: Path) -> None:
    images, _ = parts(photos)
    model = ImageClassifier(Bypass(), 2, num_groups=3)
    model.freeze_to(1)
    with pytest.raises(ConfigurationError, match="later layers see more than one output"):
        FeatureDataModule(images, model)


def test_an_output_before_a_branch_is_found_behind_frozen_layers_in_it() -> None:
    class Branched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 3)
            self.act = nn.ReLU()
            self.last = nn.Conv2d(4, 4, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            first = self.first(images)
            return self.last(self.act(first)) + first

    model = ImageClassifier(Branched(), 2, num_groups=3)
    model.freeze_to(1)
    assert find_cut(model.backbone, 32).name == "first"  # `act` comes later, but is not all


@pytest.mark.parametrize("storage", [None, "float32", "uint8"])
def test_logits_are_those_of_images_within_what_is_stored(photos: Path, storage) -> None:
    images, model = parts(photos)
    data = FeatureDataModule(images, model, storage=storage)
    assert data.cut == "layer2"
    fit(model, data)
    model.eval()
    (early, targets), *_ = list(data.eval_dataloader("train"))
    (pixels, _), *_ = list(images.eval_dataloader("train"))
    part = frozen_part(model, 32)
    with torch.no_grad():
        exact = part.run(pixels)
        error = (early.outputs - exact).abs()
        spread = exact.amax((2, 3), keepdim=True) - exact.amin((2, 3), keepdim=True)
        assert exact.std() > 0.1
        slack = 1e-5 * exact.abs().max()  # of 32 bits
        bound = {None: exact.abs() / 2048, "float32": 0 * exact, "uint8": spread / 510}
        assert (error <= bound[storage] + slack).all()
        assert (error.max() < slack) == (storage == "float32")
        assert torch.allclose(model(early), model(pixels), atol=0.1)
        again = run_late(model.backbone, EarlyOutputs(exact, part.cut, 32))
        assert torch.equal(again, model.forward_features(pixels))
    assert torch.equal(targets, images.eval_dataset("train").targets[:4])


@pytest.mark.parametrize("policy", ["calibrated", "eval_if_frozen"])
def test_training_goes_as_it_does_on_images(photos: Path, policy: str) -> None:
    found = []
    for is_kept in (True, False):
        images, model = parts(photos, policy=policy, augmentation="none")
        data = FeatureDataModule(images, model, storage="float32") if is_kept else images
        losses = fit(model, data, 2).callback_metrics
        both = torch.stack([losses["train_loss"], losses["val_loss"]])
        found.append((model.state_dict(), both))
    (kept, kept_losses), (direct, losses) = found
    assert torch.allclose(kept_losses, losses, rtol=1e-4)
    for name, value in direct.items():
        assert torch.allclose(kept[name].float(), value.float(), atol=2e-3, rtol=1e-2), name


@pytest.mark.parametrize("depth", [1, -1])
def test_poses_are_the_flips_and_turns_of_the_plain_image(photos: Path, depth: int) -> None:
    images, model = parts(photos, depth=depth)
    data = FeatureDataModule(images, model, views="poses", storage="float32")
    data.prepare_data()
    data.setup("fit")
    outputs = data.eval_dataloader("train").dataset.outputs
    assert outputs.num_views == 8
    plain = torch.cat([batch[0] for batch in images.eval_dataloader("train")])
    rows = torch.arange(len(plain))
    model.eval()
    for pose in range(8):
        turned = dihedral_batch(plain.clone(), torch.full_like(rows, pose))
        with torch.no_grad():
            expected = frozen_part(model, 32).run(turned)
        assert torch.allclose(outputs.take(rows, torch.full_like(rows, pose)), expected, atol=1e-5)


def test_drawn_views_are_what_training_draws_of_the_image_whatever_its_place(photos: Path) -> None:
    images, model = parts(photos, augmentation=["blur", {"rotate": 40}], seed=5)
    data = FeatureDataModule(images, model, views=3, storage="float32")
    data.prepare_data()
    data.setup("fit")
    train = data.train_dataloader().dataset
    assert list(train.views) == [1, 2, 3]  # the plain image is kept beside them
    augmented, model = images.train_dataloader().dataset, model.eval()
    plain = images.eval_dataset("train")
    rows = torch.arange(len(plain))
    numbers = image_numbers(torch.stack([plain[row][0] for row in rows.tolist()])).tolist()
    for view in range(3):
        made = [augmented.transform(plain._image(row), view, n) for row, n in enumerate(numbers)]
        pixels = torch.stack(made)
        with torch.no_grad():
            expected = frozen_part(model, 32).run(pixels)
        found = train.outputs.take(rows, torch.full_like(rows, view + 1))
        assert torch.allclose(found, expected, atol=1e-5)


class Record(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.seen.append(batch[0].outputs.flatten(1).sum(1))


def test_an_epoch_draws_one_view_of_every_image_by_seed_and_epoch(photos: Path) -> None:
    images, model = parts(photos)
    record = Record()
    data = FeatureDataModule(images, model, views="poses")
    fit(model, data, 2, callbacks=[record])
    train = data.train_dataloader().dataset
    for epoch, found in enumerate((torch.cat(record.seen[:3]), torch.cat(record.seen[3:]))):
        views = views_of_epoch(range(8), len(train), images.seed, epoch)
        expected = train.outputs.take(torch.arange(len(train)), views).flatten(1).sum(1)
        assert torch.allclose(found.sort().values, expected.sort().values, rtol=1e-4)
        assert len(views.unique()) > 2
        assert len(found) == 10


@pytest.mark.parametrize("policy", ["eval_if_frozen", "calibrated"])
def test_a_resumed_fit_ends_bit_equal(photos: Path, tmp_path: Path, policy: str) -> None:
    images, model = parts(photos, policy=policy)
    fit(model, FeatureDataModule(images, model, views="poses"), 3)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    images, model = parts(photos, policy=policy)
    data = FeatureDataModule(images, model, views="poses")
    fit(model, data, 2).save_checkpoint(tmp_path / "two.ckpt")
    images, model = parts(photos, policy=policy)
    data = FeatureDataModule(images, model, views="poses")
    trainer = pl.Trainer(max_epochs=3, **QUIET)
    trainer.fit(model, datamodule=data, ckpt_path=tmp_path / "two.ckpt")
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_weights_that_come_with_a_checkpoint_are_computed_with(photos, tmp_path) -> None:
    images, model = parts(photos)
    with torch.no_grad():
        next(model.backbone.parameters()).add_(0.5)
    trainer = fit(model, FeatureDataModule(images, model, storage="float32"))
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    images, model = parts(photos)  # with other weights in its frozen layers
    data = FeatureDataModule(images, model, storage="float32")
    trainer = pl.Trainer(max_epochs=2, **QUIET)
    trainer.fit(model, datamodule=data, ckpt_path=tmp_path / "one.ckpt")
    (early, _), *_ = list(data.eval_dataloader("train"))
    (pixels, _), *_ = list(images.eval_dataloader("train"))
    with torch.no_grad():
        expected = frozen_part(model.eval(), 32).run(pixels)
    assert torch.allclose(early.outputs, expected, atol=1e-5)


def test_late_layers_train_alone_and_later_stages_read_the_same_cache(photos, never) -> None:
    images, model = parts(photos)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(model, FeatureDataModule(images, model, views="poses"))
    after = model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert any(name.startswith("backbone.model.layer3") for name in changed)
    for early in ("conv1", "bn1", "layer1", "layer2"):
        assert not any(name.startswith(f"backbone.model.{early}") for name in changed)
    assert len(written()) == 2
    never()
    fit(model, FeatureDataModule(images, model, views="poses"))
    assert len(written()) == 2


def _weights(images, model) -> None:
    with torch.no_grad():
        next(model.backbone.parameters()).add_(1e-3)


def _statistics(images, model) -> None:
    model.backbone.model.bn1.running_mean.add_(1e-3)


def _size(images, model) -> None:
    images.image_size = 64


def _depth(images, model) -> None:
    model.freeze_to(-1)


def _augmentation(images, model) -> None:
    images.augmentation = "side_on"


def _nothing(images, model) -> None:
    with torch.no_grad():
        model.backbone.model.layer3[0].conv1.weight.add_(1e-3)
    model.backbone.model.layer4[0].bn1.running_mean.add_(1e-3)


@pytest.mark.parametrize(
    ("views", "change", "num_new"),
    [
        ("poses", _weights, 2), ("poses", _statistics, 2), ("poses", _size, 2),
        ("poses", _depth, 2), ("poses", _augmentation, 1), (2, _augmentation, 1),
        ("poses", _nothing, 0),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)  # fmt: skip
def test_whatever_matters_makes_another_cache(photos, views, change, num_new) -> None:
    def computed(change) -> None:
        images, model = parts(photos)
        change(images, model)
        data = FeatureDataModule(images, model, views=views)
        data.prepare_data()

    computed(lambda *_: None)
    before = written()
    computed(change)
    assert len(written() - before) == num_new


def test_other_views_and_bytes_are_other_caches(photos: Path) -> None:
    found = set()
    for options in ({}, {"views": "poses"}, {"views": 1}, {"storage": "uint8"}):
        images, model = parts(photos)
        FeatureDataModule(images, model, **options).prepare_data()
        found.add(len(written()))
    assert found == {2, 3, 4, 6}


@pytest.mark.parametrize(
    ("policy", "depth", "options", "words"),
    [
        ("stats_if_frozen", 1, {}, r"`bn1` would follow .*'stats_if_frozen'.*eval_if_frozen"),
        ("train", 1, {}, r"train in frozen layers too.*norm_policy='train'"),
        ("eval", 0, {}, r"all of the backbone is to be trained.*freeze_to\(1\)"),
        ("eval", 1, {"views": "flips"}, r"'poses' or a number of at least 1, got 'flips'"),
        ("eval", 1, {"views": 0}, "at least 1, got 0"),
        ("eval", 1, {"storage": "int4"}, "storage"),
        ("eval", -1, {"storage": "uint8"}, "frozen as a whole"),
    ],
)
def test_wrong_use_is_refused_before_training(photos, policy, depth, options, words) -> None:
    images, model = parts(photos, policy=policy, depth=depth)
    with pytest.raises(ConfigurationError, match=words):
        FeatureDataModule(images, model, **options)


@pytest.mark.parametrize("policy", ["eval", "calibrated", "eval_if_frozen"])
def test_policies_that_keep_frozen_statistics_train(photos: Path, policy: str) -> None:
    images, model = parts(photos, policy=policy)
    trainer = fit(model, FeatureDataModule(images, model), callbacks=[TrainMetrics(4)])
    assert 0 <= trainer.callback_metrics["train_clean_accuracy"] <= 1


@pytest.mark.parametrize(
    ("augmentation", "poses"),
    [
        ("top_down", tuple(range(8))),
        ("side_on", (0, 4)),
        (["flip"], (0, 4)),
        (["flip_vertical"], (0, 6)),
        (["flip", "flip_vertical"], (0, 2, 4, 6)),
        ({"preset": "side_on", "transforms": ["flip_vertical", "blur"]}, (0, 2, 4, 6)),
    ],
    ids=str,
)
def test_poses_are_those_that_the_augmentation_makes(augmentation, poses) -> None:
    assert fixed_views("poses", as_augmentation(augmentation), 0).poses == poses


@pytest.mark.parametrize(
    ("views", "augmentation", "words"),
    [
        ("poses", "basic", "flips or turns images, but got basic"),
        ("poses", ["blur"], "flips or turns images, but got blur"),
        ("poses", [{"flip": {"p": 0.3}}], "every pose equally often"),
        (4, "none", "images are not augmented"),
    ],
)
def test_an_augmentation_without_such_views_is_refused(views, augmentation, words) -> None:
    with pytest.raises(ConfigurationError, match=words):
        fixed_views(views, as_augmentation(augmentation), 0)


def test_rows_that_count_differently_do_so_for_early_outputs(photos: Path) -> None:
    images, model = parts(photos)
    data = FeatureDataModule(images, model)
    data.prepare_data()
    data.setup("fit")
    train = data.train_dataloader().dataset
    train.weights = torch.arange(len(train)).float()
    early, targets, weights = train.__getitems__([2, 0])
    assert isinstance(early, EarlyOutputs)
    assert (len(targets), weights.tolist()) == (2, [2.0, 0.0])


def test_what_is_kept_is_said_before_it_is_computed(photos: Path) -> None:
    images, model = parts(photos)
    data = FeatureDataModule(images, model, views="poses", storage="uint8")
    data.prepare_data()
    said = data.describe()
    assert said.startswith(
        "outputs of `layer2`, 10 images, 8 views each, 48 x 4 x 4 numbers in uint8"
    )
