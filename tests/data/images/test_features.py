import os
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from lightning_fastrecipes import ImageClassifier, ImageFolderDataModule
from lightning_fastrecipes.batches import FeatureBatch
from lightning_fastrecipes.data.common.cache_choice import cache_folder
from lightning_fastrecipes.data.images.features import FeatureDataModule
from lightning_fastrecipes.errors import ConfigurationError

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
        for number in range(8):
            pixels = torch.randint(0, 256, (40, 36, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")
    return tmp_path / "photos"


def parts(photos: Path, **options) -> tuple[ImageFolderDataModule, ImageClassifier]:
    torch.manual_seed(0)
    images = ImageFolderDataModule(
        photos, image_size=32, batch_size=5, split=0.25, num_workers=0, **options
    )
    model = ImageClassifier("test_resnet.r160_in1k", 2, head={"hidden": 8})
    model.freeze()
    return images, model


def fit(model: ImageClassifier, data: pl.LightningDataModule, **options) -> pl.Trainer:
    trainer = pl.Trainer(max_epochs=1, **(QUIET | options))
    trainer.fit(model, datamodule=data)
    return trainer


def written() -> list[str]:
    return sorted(path.parent.name for path in cache_folder().glob("features/*/*.npy"))


def all_features(data: FeatureDataModule) -> FeatureBatch:
    return data._datasets["train"].__getitems__(range(len(data._datasets["train"])))


def test_cached_and_live_logits_agree(photos: Path) -> None:
    images, model = parts(photos, augmentation="top_down")
    data = FeatureDataModule(images, model)
    fit(model, data)
    model.eval()
    features, targets = all_features(data)
    live = torch.cat([model(batch) for batch, _ in images.eval_dataloader("train")])
    assert torch.allclose(model.forward_head(features), live, atol=1e-5)
    assert torch.equal(targets, images.eval_dataset("train").targets)


def test_only_the_head_is_trained_and_the_backbone_stays_bit_equal(photos: Path) -> None:
    images, model = parts(photos)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fit(model, FeatureDataModule(images, model))
    after = model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items() if k.startswith("backbone"))
    assert not torch.equal(after["head.2.weight"], before["head.2.weight"])


def test_the_second_run_reads_the_cache_without_running_the_backbone(photos, monkeypatch) -> None:
    images, model = parts(photos)
    fit(model, FeatureDataModule(images, model))
    assert len(written()) == 2

    def never(*_):
        raise AssertionError("the backbone should not run")

    images, model = parts(photos)
    monkeypatch.setattr(model.backbone, "forward", never)
    fit(model, FeatureDataModule(images, model))
    assert len(written()) == 2


def _new_weights(photos: Path, images, model) -> None:
    with torch.no_grad():
        next(model.backbone.parameters()).add_(1e-3)


def _new_statistics(photos: Path, images, model) -> None:
    next(v for k, v in model.backbone.named_buffers() if "running_mean" in k).add_(1e-3)


def _new_size(photos: Path, images, model) -> None:
    images.image_size = 64


def _new_image(photos: Path, images, model) -> None:
    Image.new("RGB", (40, 36), "red").save(photos / "cat" / "0.png")


def _new_time(photos: Path, images, model) -> None:
    for name in range(8):
        os.utime(photos / "cat" / f"{name}.png", ns=(1, 1))


def _new_split(photos: Path, images, model) -> None:
    images.split = type(images.split)(0.25, 0.0, 7)


def _new_normalisation(photos: Path, images, model) -> None:
    spec = type(model.input_spec)(mean=(0.1, 0.1, 0.1), image_size=32)
    model.set_input_spec(spec)


@pytest.mark.parametrize(
    "change",
    [_new_weights, _new_statistics, _new_size, _new_image, _new_split, _new_normalisation],
    ids=lambda f: f.__name__,
)
def test_whatever_matters_makes_another_cache_with_the_right_features(photos, change) -> None:
    images, model = parts(photos)
    fit(model, FeatureDataModule(images, model))
    before = set(written())
    images, model = parts(photos)
    change(photos, images, model)
    data = FeatureDataModule(images, model)
    fit(model, data)
    assert set(written()) - before
    live = torch.cat([model.eval()(batch) for batch, _ in images.eval_dataloader("train")])
    assert torch.allclose(model.forward_head(all_features(data).features), live, atol=1e-5)


def test_files_of_another_time_and_the_same_content_keep_their_features(photos: Path) -> None:
    images, model = parts(photos)
    fit(model, FeatureDataModule(images, model))
    before = set(written())
    images, model = parts(photos)
    _new_time(photos, images, model)
    fit(model, FeatureDataModule(images, model))
    assert set(written()) == before


def test_a_damaged_cache_is_rebuilt_with_a_warning(photos: Path) -> None:
    images, model = parts(photos)
    fit(model, FeatureDataModule(images, model))
    for path in cache_folder().glob("features/*/*.npy"):
        path.write_bytes(path.read_bytes()[:-8])
    images, model = parts(photos)
    data = FeatureDataModule(images, model)
    with pytest.warns(UserWarning, match="is damaged"):
        fit(model, data)
    live = torch.cat([model.eval()(batch) for batch, _ in images.eval_dataloader("train")])
    assert torch.allclose(model.forward_head(all_features(data).features), live, atol=1e-5)


def test_a_trial_run_writes_no_cache(photos: Path) -> None:
    images, model = parts(photos)
    fit(model, FeatureDataModule(images, model), fast_dev_run=True)
    assert written() == []


def test_epochs_are_shuffled_apart_and_hold_every_image(photos: Path) -> None:
    images, model = parts(photos)
    data = FeatureDataModule(images, model)
    seen: list[torch.Tensor] = []

    class Look(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append(batch.features)

    trainer = pl.Trainer(max_epochs=2, callbacks=[Look()], **QUIET)
    trainer.fit(model, datamodule=data)
    first, second = torch.cat(seen[:3]), torch.cat(seen[3:])
    assert not torch.equal(first, second)
    assert torch.allclose(first.sort(0).values, second.sort(0).values)
    assert len(first) == 12


def test_a_backbone_that_is_trained_is_refused(photos: Path) -> None:
    images, model = parts(photos)
    model.unfreeze()
    with pytest.raises(ConfigurationError, match=r"all of the backbone.*freeze\(\).*freeze_to: -1"):
        FeatureDataModule(images, model)


def test_a_module_without_the_protocol_is_refused(photos: Path) -> None:
    images, _ = parts(photos)
    with pytest.raises(ConfigurationError, match="but got LightningModule"):
        FeatureDataModule(images, pl.LightningModule())


def test_precomputed_features_are_balanced_as_images_are(photos: Path) -> None:
    for number in range(2, 8):
        (photos / "dog" / f"{number}.png").unlink()
    images, model = parts(photos, class_balanced=True, seed=3)
    data = FeatureDataModule(images, model)
    data.prepare_data()
    data.setup("fit")
    images.batch_size = 64
    counts = torch.zeros(2, dtype=torch.int64)
    for epoch in range(40):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        counts += torch.bincount(torch.cat([batch.targets for batch in loader]), minlength=2)
    assert 0.4 < counts[1] / counts.sum() < 0.6
