"""Sizes arrive in their epoch, with any workers, and schedules and resumed fits stay exact."""

import multiprocessing
import pickle
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_fastrecipes import (
    SGDR,
    FeatureDataModule,
    ImageArrayDataModule,
    ImageClassifier,
    ImageCSVDataModule,
    ImageFolderDataModule,
    ProgressiveResizing,
)
from lightning_fastrecipes.data.images import geometry

pytestmark = [
    pytest.mark.both,
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
]
SIZES = {0: 16, 2: 24, 3: 32}


class Recorder(pl.LightningModule):
    """Note epoch, shape and labels of every training batch, and sizes of the validation."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 2))
        self.seen: list[tuple[int, int, list[int]]] = []
        self.validated: list[tuple[int, int]] = []
        self.lrs: list[float] = []

    def forward(self, images):
        return self.layers(images)

    def training_step(self, batch, batch_idx):
        images, targets = batch
        self.seen.append((self.current_epoch, images.shape[-1], targets.tolist()))
        self.lrs.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return nn.functional.cross_entropy(self(images), targets)

    def validation_step(self, batch, batch_idx):
        if not self.trainer.sanity_checking:
            self.validated.append((self.current_epoch, batch[0].shape[-1]))
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def sizes_by_epoch(seen) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for epoch, size, *_ in seen:
        found.setdefault(epoch, set()).add(size)
    return found


def data(squares: Path, **options) -> ImageFolderDataModule:
    defaults = {"image_size": 64, "batch_size": 8, "num_workers": 0, "split": 0.25}
    return ImageFolderDataModule(squares, **(defaults | options))


def trainer(*callbacks, **options) -> pl.Trainer:
    defaults = {"max_epochs": 4, "logger": False, "enable_checkpointing": False}
    return pl.Trainer(
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **(defaults | options),
    )


EXPECTED = {0: {16}, 1: {16}, 2: {24}, 3: {32}}


@pytest.mark.parametrize("num_workers", [0, 2], ids=["in-process", "persistent-workers"])
def test_the_size_arrives_in_the_stated_epoch(squares, num_workers):
    model, images = Recorder(), data(squares, num_workers=num_workers)
    trainer(ProgressiveResizing(SIZES)).fit(model, images)
    assert sizes_by_epoch(model.seen) == EXPECTED
    assert sizes_by_epoch(model.validated) == EXPECTED


def test_old_workers_are_gone_after_a_change(squares):
    class CountWorkers(pl.Callback):
        def __init__(self) -> None:
            self.counts: list[int] = []

        def on_train_batch_start(self, *_) -> None:
            self.counts.append(len(multiprocessing.active_children()))

    before, counter = len(multiprocessing.active_children()), CountWorkers()
    images = data(squares, num_workers=1, split=0.0)
    trainer(ProgressiveResizing(SIZES), counter).fit(Recorder(), images)
    assert set(counter.counts) == {before + 1}


def test_workers_that_are_not_persistent_get_the_size_too(squares):
    class Unpersistent(ImageFolderDataModule):
        def train_dataloader(self):
            loader = super().train_dataloader()
            return DataLoader(loader.dataset, 8, sampler=loader.sampler, num_workers=1)

    model = Recorder()
    images = Unpersistent(squares, num_workers=0, split=0.0)
    trainer(ProgressiveResizing(SIZES)).fit(model, images)
    assert sizes_by_epoch(model.seen) == EXPECTED


def test_loaders_are_made_anew_only_where_the_size_changes(squares, monkeypatch):
    made = []
    original = ImageFolderDataModule.train_dataloader
    monkeypatch.setattr(
        ImageFolderDataModule,
        "train_dataloader",
        lambda self: made.append(self.image_size) or original(self),
    )
    trainer(ProgressiveResizing({0: 16, 3: 32}), max_epochs=6).fit(Recorder(), data(squares))
    assert made == [16, 32]


def test_the_order_of_the_images_is_that_of_one_size(squares):
    plain, resized = Recorder(), Recorder()
    trainer().fit(plain, data(squares))
    trainer(ProgressiveResizing(SIZES)).fit(resized, data(squares))
    assert [labels for *_, labels in resized.seen] == [labels for *_, labels in plain.seen]


def test_validation_at_the_last_size_stays_comparable(squares):
    model = Recorder()
    trainer(ProgressiveResizing(SIZES, validate_at="last")).fit(model, data(squares))
    assert sizes_by_epoch(model.seen) == EXPECTED
    assert {size for _, size in model.validated} == {32}


@pytest.mark.parametrize("sanity", [0, 2])
def test_validation_every_other_epoch_is_at_the_size_of_its_epoch(squares, sanity):
    model = Recorder()
    callback = ProgressiveResizing({0: 16, 2: 24, 4: 32})
    options = {"max_epochs": 6, "check_val_every_n_epoch": 2, "num_sanity_val_steps": sanity}
    trainer(callback, **options).fit(model, data(squares))
    assert sizes_by_epoch(model.validated) == {1: {16}, 3: {24}, 5: {32}}


def test_a_batch_of_another_size_is_refused(squares):
    class Stubborn(ImageFolderDataModule):
        def train_dataloader(self):
            size, self.image_size = self.image_size, 16
            try:
                return super().train_dataloader()
            finally:
                self.image_size = size

    images = Stubborn(squares, num_workers=0, split=0.0)
    with pytest.raises(MisconfigurationException, match="epoch 2 must have images of 24 x 24"):
        trainer(ProgressiveResizing(SIZES)).fit(Recorder(), images)


def test_schedules_stay_exact_when_the_batch_size_changes(squares):
    """22 training images: 6 steps of 4, then 3 steps of 8, within one cosine of four epochs."""
    model, cosine = Recorder(), SGDR(cycle_len=4)
    callback = ProgressiveResizing({0: 16, 2: 32}, batch_sizes={0: 4, 2: 8})
    trainer(cosine, callback).fit(model, data(squares, batch_size=16, split=0.2))
    counts = [sum(step[0] == epoch for step in model.seen) for epoch in range(4)]
    assert counts == [6, 6, 3, 3]
    times = [epoch + step / counts[epoch] for epoch in range(4) for step in range(counts[epoch])]
    expected = [0.1 * cosine.factor(round(time, 9), 4) for time in times]
    assert model.lrs == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_schedulers_that_count_steps_are_refused_with_batch_sizes(squares, interval):
    class Scheduled(Recorder):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
            return [optimizer], [{"scheduler": scheduler, "interval": interval}]

    fit = trainer(ProgressiveResizing({0: 16, 2: 32}, batch_sizes={0: 4, 2: 8})).fit
    if interval == "epoch":
        fit(Scheduled(), data(squares))
        return
    with pytest.raises(MisconfigurationException, match="`batch_sizes` change the number of steps"):
        fit(Scheduled(), data(squares))


class Killed(Exception):  # noqa: N818
    """Stands for the plug that is pulled."""


class KillAt(pl.Callback):
    def __init__(self, epoch: int, batch: int) -> None:
        self.at = epoch, batch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.at:
            raise Killed


@pytest.mark.parametrize("killed_in", [2, 3])
@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("save_at", ["train", "validation"])
def test_a_killed_fit_resumes_at_the_right_size(squares, tmp_path, killed_in, num_workers, save_at):
    def start(*extra, **options):
        model = Recorder()
        callback = ProgressiveResizing(SIZES, batch_sizes={0: 4, 2: 8, 3: 6})
        run = trainer(SGDR(cycle_len=2), callback, *extra, enable_checkpointing=bool(extra))
        return model, lambda: run.fit(
            model, data(squares, num_workers=num_workers), weights_only=True, **options
        )

    whole, fit_whole = start()
    fit_whole()
    on_train_end = save_at == "train"
    keep = ModelCheckpoint(tmp_path, filename="last", save_on_train_epoch_end=on_train_end)
    _, fit_first = start(keep, KillAt(killed_in, 1))
    with pytest.raises(Killed):
        fit_first()
    resumed, fit_resumed = start(ckpt_path=str(tmp_path / "last.ckpt"))
    fit_resumed()
    assert resumed.seen == [step for step in whole.seen if step[0] >= killed_in]
    assert resumed.lrs == whole.lrs[-len(resumed.lrs) :]
    assert resumed.validated == [step for step in whole.validated if step[0] >= killed_in]
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_a_fit_stopped_within_an_epoch_resumes_at_its_size(squares, tmp_path):
    keep = ModelCheckpoint(tmp_path, filename="mid", every_n_train_steps=7)
    callbacks = [ProgressiveResizing(SIZES), keep, KillAt(2, 1)]
    with pytest.raises(Killed):
        trainer(*callbacks, enable_checkpointing=True).fit(Recorder(), data(squares))
    resumed = Recorder()
    trainer(ProgressiveResizing(SIZES)).fit(
        resumed, data(squares), ckpt_path=str(tmp_path / "mid.ckpt"), weights_only=True
    )
    assert sizes_by_epoch(resumed.seen) == {2: {24}, 3: {32}}


@pytest.mark.parametrize("step", range(1, 15))
def test_a_fit_stopped_at_any_step_resumes_with_all_batches_of_the_next_size(
    squares, tmp_path, step
):
    """Epochs have 3, 3, 6 and 3 steps; after the last of one, a checkpoint is still of that one."""
    batch_sizes = {0: 8, 2: 4, 3: 8}

    def run(*callbacks, **options):
        model, schedule = Recorder(), SGDR(cycle_len=2)
        resizing = ProgressiveResizing(SIZES, batch_sizes)
        runner = trainer(schedule, resizing, *callbacks, enable_checkpointing=bool(callbacks))
        runner.fit(model, data(squares), weights_only=True, **options)
        return model

    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    whole = run(keep)
    resumed = run(ckpt_path=str(tmp_path / f"step={step}.ckpt"))
    assert len(whole.seen) == 15
    assert resumed.lrs == whole.lrs[step:]
    if step in (3, 6, 12):
        assert resumed.seen == whole.seen[step:]


def test_images_are_decoded_once_for_all_sizes(tmp_path, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    for name in ("blue", "red"):
        (tmp_path / "large" / name).mkdir(parents=True)
        for number in range(8):
            pixels = torch.randint(256, (64, 80, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(tmp_path / "large" / name / f"{number}.png")
    decoded = []
    original = geometry.load_image
    monkeypatch.setattr(
        geometry, "load_image", lambda path, *a: decoded.append(path) or original(path, *a)
    )
    images = data(tmp_path / "large", image_size=16, batch_size=4)
    trainer(ProgressiveResizing(SIZES)).fit(Recorder(), images)
    assert len(decoded) == len(set(decoded)) == 16
    # An evaluation after the fit is cut from what its own size needs, to the last bit.
    trainer().validate(Recorder(), datamodule=images, verbose=False)
    kept = torch.stack([image for image, _ in images.eval_dataset("val")])
    images = data(tmp_path / "large", image_size=32, cache="off")
    images.setup()
    assert torch.equal(kept, torch.stack([image for image, _ in images.eval_dataset("val")]))


def test_everything_is_put_back_and_the_last_size_stays(squares):
    images, callback = data(squares), ProgressiveResizing(SIZES, {0: 4, 3: 2})
    for _ in range(2):
        run = trainer(callback)
        run.fit(Recorder(), images)
        assert (images.image_size, images.batch_size, images.eval_image_size) == (32, 2, None)
        assert run.reload_dataloaders_every_n_epochs == 0
    run = trainer(callback, KillAt(2, 0))
    with pytest.raises(Killed):
        run.fit(Recorder(), images)
    assert (images.image_size, images.batch_size, images.eval_image_size) == (24, 4, None)
    assert run.reload_dataloaders_every_n_epochs == 0


def test_the_size_is_logged(squares):
    class Sizes(pl.Callback):
        def __init__(self) -> None:
            self.logged: list[float] = []

        def on_train_epoch_end(self, trainer, pl_module) -> None:
            self.logged.append(float(trainer.callback_metrics["image_size"]))

    sizes = Sizes()
    trainer(ProgressiveResizing(SIZES), sizes).fit(Recorder(), data(squares))
    assert sizes.logged == [16, 16, 24, 32]


# What modules and datamodules take.


def test_sizes_are_rounded_to_what_the_backbone_takes(squares):
    class Seen(pl.Callback):
        def __init__(self) -> None:
            self.sizes: list[int] = []

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            self.sizes.append(batch[0].shape[-1])

    model = ImageClassifier("test_vit.r160_in1k", num_classes=2, head="linear")
    assert model.input_spec.size_multiple == 16
    seen = Seen()
    options = {"max_epochs": 2, "limit_train_batches": 1, "limit_val_batches": 1}
    trainer(ProgressiveResizing({0: 30, 1: 50}), seen, **options).fit(model, data(squares))
    assert seen.sizes == [32, 48]


def test_a_backbone_of_one_size_is_refused_before_training(squares):
    model = ImageClassifier("test_vit.r160_in1k", num_classes=2, head="linear")
    spec = model.backbone.input_spec
    model.backbone.input_spec = type(spec)(image_size=160, fixed_size=True)
    with pytest.raises(MisconfigurationException, match=r"must be 160 for .* which takes no other"):
        trainer(ProgressiveResizing({0: 96, 2: 160})).fit(model, data(squares))


def test_a_module_of_ones_own_is_tried_out_before_training(squares):
    class Fixed(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))

        def training_step(self, batch, batch_idx):
            pytest.fail("trained before the refusal")

    model = Fixed()
    with pytest.raises(MisconfigurationException, match="must take images of 24 x 24 px, but"):
        trainer(ProgressiveResizing(SIZES)).fit(model, data(squares))
    assert model.training


def test_a_module_that_builds_its_layers_late_is_tried_when_they_are_there(squares):
    class Late(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.built = False

        def setup(self, stage):
            self.built = True

        def forward(self, images):
            assert self.built
            return super().forward(images)

    model = Late()
    trainer(ProgressiveResizing(SIZES)).fit(model, data(squares))
    assert sizes_by_epoch(model.seen) == EXPECTED


@pytest.mark.parametrize("kind", ["csv", "arrays"])
def test_tables_and_arrays_change_their_size_as_well(squares, tmp_path, kind):
    files = sorted(squares.rglob("*.png"))
    options = {"batch_size": 8, "num_workers": 0}
    if kind == "csv":
        rows = [f"{file.relative_to(squares)},{file.parent.name}" for file in files]
        (squares / "labels.csv").write_text("\n".join(["file,label", *rows]))
        images = ImageCSVDataModule(squares / "labels.csv", **options)
    else:
        pixels = torch.randint(256, (28, 20, 20), dtype=torch.uint8).numpy()
        images = ImageArrayDataModule({"x_train": pixels, "y_train": [0, 1] * 14}, **options)
    model = Recorder()
    trainer(ProgressiveResizing(SIZES)).fit(model, images)
    assert sizes_by_epoch(model.seen) == EXPECTED


def test_loaders_and_features_are_refused(squares):
    fit = trainer(ProgressiveResizing(SIZES)).fit
    loader = DataLoader(TensorDataset(torch.zeros(4, 3, 16, 16), torch.zeros(4).long()))
    with pytest.raises(
        MisconfigurationException, match=r"but the fit has loaders\. Use an `ImageF"
    ):
        fit(Recorder(), loader)
    model = ImageClassifier("test_resnet.r160_in1k", num_classes=2)
    model.freeze()
    with pytest.raises(MisconfigurationException, match="but the fit has FeatureDataModule"):
        trainer(ProgressiveResizing(SIZES)).fit(model, FeatureDataModule(data(squares), model))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"sizes": {1: 128}},
            ValueError,
            "`sizes` must say what holds from epoch 0 on, .* \\[1\\]",
        ),
        ({"sizes": {0: 0}}, ValueError, "`sizes` must map epochs from 0 to values .* got 0: 0"),
        ({"sizes": {0: 12.5}}, TypeError, "`sizes` must map whole epochs .* got 0: 12.5"),
        (
            {"sizes": [128, 160]},
            TypeError,
            "`sizes` must be a mapping .* {0: 128, 3: 160}, got \\[128, 160\\]",
        ),
        (
            {"sizes": {0: 8}, "batch_sizes": 4},
            TypeError,
            "`batch_sizes` must be a mapping .* got 4",
        ),
        ({"sizes": {0: 8}, "batch_sizes": {2: 1}}, ValueError, "`batch_sizes` must say"),
        ({"sizes": {0: 8}, "validate_at": "end"}, ValueError, "`validate_at` must be .* 'end'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ProgressiveResizing(**arguments)


def test_a_size_that_is_never_reached_is_named(squares):
    with pytest.warns(UserWarning, match="an entry for epoch 9, but `max_epochs` is 1"):
        trainer(ProgressiveResizing({0: 16, 9: 32}), max_epochs=1).fit(Recorder(), data(squares))


def test_a_rehearsal_takes_one_batch_of_the_first_size(squares):
    model = Recorder()
    trainer(ProgressiveResizing(SIZES), fast_dev_run=True).fit(model, data(squares))
    assert [(epoch, size) for epoch, size, _ in model.seen] == [(0, 16)]


def test_the_callback_is_pickled():
    copy = pickle.loads(pickle.dumps(ProgressiveResizing(SIZES, {0: 4})))
    assert (copy.sizes, copy.batch_sizes) == (SIZES, {0: 4})
