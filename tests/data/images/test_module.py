"""Datamodules of images: reproducible batches, whatever the workers, and loaders that fit."""

import pickle
import shutil
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, SequentialSampler

from lightning_fastrecipes.data.common.split_choice import FractionSplit
from lightning_fastrecipes.data.images.datamodules import ImageCSVDataModule, ImageFolderDataModule
from lightning_fastrecipes.data.images.geometry import Geometry
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.protocols import HasClasses, InputSpec

SPEC = InputSpec(mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic", crop_fraction=1.0)


class Recorder(pl.LightningModule):
    """Remember what each training step was given, by the place of the images in the epoch."""

    def __init__(self, input_spec: InputSpec | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.steps: list[tuple[int, float, list[int]]] = []
        self.batches: list[torch.Tensor] = []
        self.num_validated = 0
        if input_spec is not None:
            self.input_spec = input_spec

    def training_step(self, batch, _batch_index):
        images, targets = batch
        self.batches.append(images)
        self.steps.append((self.current_epoch, images.double().sum().item(), targets.tolist()))
        return self.weight.sum()

    def validation_step(self, batch, _batch_index):
        self.num_validated += len(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def module(root: Path, **options) -> ImageFolderDataModule:
    defaults = {"image_size": 16, "batch_size": 4, "num_workers": 0, "augmentation": "top_down"}
    return ImageFolderDataModule(root, **{**defaults, **options})


def trainer(tmp_path: Path, **options) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"enable_checkpointing": False, **options},
    )


def fit(tmp_path: Path, data: ImageFolderDataModule, epochs: int = 2, **options) -> Recorder:
    model = Recorder()
    trainer(tmp_path, max_epochs=epochs, **options).fit(model, data)
    return model


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
]


@pytest.fixture
def uninterrupted(pets, tmp_path):
    return fit(tmp_path, module(pets)).steps


def test_epochs_differ_and_a_second_run_repeats_them(uninterrupted, pets, tmp_path):
    assert [step[0] for step in uninterrupted] == [0] * 4 + [1] * 4
    orders = [[step[2] for step in uninterrupted[i : i + 4]] for i in (0, 4)]
    assert orders[0] != orders[1]
    totals = [sum(step[1] for step in uninterrupted[i : i + 4]) for i in (0, 4)]
    assert totals[0] != pytest.approx(totals[1])

    assert fit(tmp_path, module(pets)).steps == uninterrupted


@pytest.mark.parametrize("workers", [1, 2])
def test_images_do_not_depend_on_the_number_of_workers(uninterrupted, pets, tmp_path, workers):
    assert fit(tmp_path, module(pets, num_workers=workers)).steps == uninterrupted


def test_images_do_not_depend_on_workers_staying(pets):
    data = module(pets)
    data.setup()
    loader = data.train_dataloader()
    seen = []
    for persistent in (False, True):
        other = DataLoader(
            loader.dataset, 4, sampler=loader.sampler, num_workers=1, persistent_workers=persistent
        )
        for epoch in range(2):
            other.sampler.set_epoch(epoch)
            seen.append(torch.cat([images for images, _ in other]))

    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0], seen[1])


def test_spawned_workers_give_the_same_images(pets):
    data = module(pets)
    data.setup()
    loader = data.train_dataloader()
    spawned = DataLoader(
        loader.dataset, 4, sampler=loader.sampler, num_workers=1, multiprocessing_context="spawn"
    )

    assert torch.equal(next(iter(spawned))[0], next(iter(loader))[0])


@pytest.mark.parametrize(
    "before_validation", [True, False], ids=["saved-before-validation", "saved-after-validation"]
)
def test_a_resumed_run_sees_what_the_uninterrupted_run_sees(
    uninterrupted, pets, tmp_path, before_validation
):
    saver = pl.callbacks.ModelCheckpoint(
        tmp_path / "saved", filename="{epoch}", save_on_train_epoch_end=before_validation
    )
    options = {"enable_checkpointing": True, "callbacks": [saver]}
    first = fit(tmp_path, module(pets), epochs=1, **options).steps
    resumed = Recorder()
    # A worker asks for the order before Lightning has told the sampler its epoch.
    trainer(tmp_path, max_epochs=2).fit(
        resumed, module(pets, num_workers=1), ckpt_path=tmp_path / "saved" / "epoch=0.ckpt"
    )

    assert first + resumed.steps == uninterrupted


def test_the_seed_changes_order_and_images(uninterrupted, pets, tmp_path):
    other = fit(tmp_path, module(pets, seed=1), epochs=1).steps

    assert [step[2] for step in other] != [step[2] for step in uninterrupted[:4]]
    assert [step[1] for step in other] != [step[1] for step in uninterrupted[:4]]


def test_without_augmentation_training_images_are_those_of_the_evaluation(pets):
    data = module(pets, augmentation="none")
    data.setup()
    dataset = data.train_dataloader().dataset

    for position, (image, target) in enumerate(data.eval_dataset("train")):
        assert torch.equal(dataset[position + 5 * len(dataset)][0], image)
        assert target == data.eval_dataset("train").targets[position]


@pytest.mark.parametrize("workers", [0, 1])
def test_assigned_settings_reach_the_next_loaders(pets, tmp_path, workers):
    data = module(pets, num_workers=workers)
    before = fit(tmp_path, data, epochs=1).batches
    data.image_size, data.batch_size, data.augmentation, data.seed = 24, 7, "none", 5

    after = fit(tmp_path, data, epochs=1).batches

    assert [tuple(images.shape) for images in before] == [(4, 3, 16, 16)] * 3 + [(2, 3, 16, 16)]
    assert [tuple(images.shape) for images in after] == [(7, 3, 24, 24)] * 2
    assert data.eval_dataset("val")[0][0].shape == (3, 24, 24)
    assert data.eval_transform_key()["image_size"] == 24


def test_a_module_with_an_input_spec_gets_bytes_and_gives_its_geometry(pets, tmp_path):
    data, model = module(pets), Recorder(SPEC)
    trainer(tmp_path, max_epochs=1).fit(model, data)

    assert {images.dtype for images in model.batches} == {torch.uint8}
    assert data.input_spec == SPEC
    key = data.eval_transform_key()
    assert (key["interpolation"], key["crop_fraction"]) == ("bicubic", 1.0)


def test_an_explicit_geometry_wins_over_the_module(pets, tmp_path):
    data = module(pets, geometry=Geometry(interpolation="nearest", crop_fraction=0.5))
    trainer(tmp_path, max_epochs=1).fit(Recorder(SPEC), data)

    key = data.eval_transform_key()
    assert (key["interpolation"], key["crop_fraction"]) == ("nearest", 0.5)


@pytest.mark.parametrize("spec", [None, SPEC], ids=["imagenet", "own"])
def test_any_other_module_gets_normalised_images(pets, tmp_path, spec):
    data = module(pets, augmentation="none", batch_size=100)
    data.input_spec = spec
    model = fit(tmp_path, data, epochs=1)

    used = spec or InputSpec()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (used.mean, used.std))
    bytes_back = (model.batches[0] * std + mean) * 255
    sampler = data.train_dataloader().sampler
    sampler.set_epoch(0)
    expected = torch.stack([data.eval_dataset("train")[index][0] for index in sampler])
    assert model.batches[0].dtype == torch.float32
    assert (bytes_back - expected).abs().max().item() < 1e-3


def test_a_last_batch_of_one_is_dropped_in_training_only(tmp_path, draw):
    for split, count in (("train", 5), ("val", 5)):
        for number in range(count):
            draw(tmp_path / split / "cat" / f"{number}.png")
    data = module(tmp_path)
    data.setup()

    assert [len(images) for images, _ in data.train_dataloader()] == [4]
    assert [len(images) for images, _ in data.val_dataloader()] == [4, 1]
    data.batch_size = 8
    assert [len(images) for images, _ in data.train_dataloader()] == [5]


def test_evaluation_loaders_are_plain_and_in_order(split_pets, draw):
    draw(split_pets / "test" / "0.png")
    data = module(split_pets)
    data.setup()

    for loader, split in ((data.val_dataloader(), "val"), (data.predict_dataloader(), "predict")):
        assert type(loader.sampler) is SequentialSampler
        targets = torch.cat([targets for _, targets in loader])
        assert torch.equal(targets, data.eval_dataset(split).targets)
        assert not loader.drop_last
    assert data.eval_dataset("predict").targets.tolist() == [-1]


def test_without_a_validation_split_lightning_skips_validation(pets, tmp_path):
    data = module(pets, split=0.0)
    model = fit(tmp_path, data, epochs=1)

    assert data.val_dataloader() == []
    assert data.test_dataloader() == []
    assert len(data.eval_dataset("val")) == 0
    assert (len(model.steps), model.num_validated) == (5, 0)


def test_nothing_to_predict_is_an_error_with_the_cure(pets):
    data = module(pets)
    data.setup()

    with pytest.raises(DataError, match="use `prediction_dataset`"):
        data.predict_dataloader()


def test_predictions_come_in_order(split_pets, draw, tmp_path):
    for number in range(6):
        draw(split_pets / "test" / f"{number}.png")

    class Echo(Recorder):
        def predict_step(self, batch, _batch_index):
            return batch[0].sum(dim=(1, 2, 3))

    data = module(split_pets)
    sums = torch.cat(trainer(tmp_path).predict(Echo(SPEC), data))

    expected = [image.sum() for image, _ in data.eval_dataset("predict")]
    assert sums.tolist() == [value.item() for value in expected]


def test_loaders_without_workers_given_suit_the_machine(pets, monkeypatch):
    monkeypatch.setattr("lightning_fastrecipes.data.common.workers.num_cores", lambda: 3)
    data = module(pets, num_workers=None)
    data.setup()
    assert data.train_dataloader().num_workers == 0

    monkeypatch.setattr("lightning_fastrecipes.data.common.workers._TINY", 2)
    loader = data.train_dataloader()
    assert (loader.num_workers, loader.persistent_workers) == (2, True)


def test_workers_beyond_what_a_machine_bears_are_fewer_and_said(pets, monkeypatch, caplog):
    monkeypatch.setattr("lightning_fastrecipes.data.common.workers.num_cores", lambda: 3)
    data = module(pets, num_workers=10**12)
    data.setup()
    assert data.train_dataloader().num_workers == 16
    assert "`num_workers` is 16 in place of 1000000000000" in caplog.text
    assert module(pets, num_workers=9).num_workers == 9


@pytest.mark.parametrize("is_set_up", [False, True])
def test_a_datamodule_pickles(pets, is_set_up):
    data = module(pets)
    if is_set_up:
        data.setup()

    copy = pickle.loads(pickle.dumps(data))
    copy.setup()

    assert copy.classes == ["cat", "dog"]
    assert copy.image_size == 16


def test_setup_after_prepare_data_decodes_nothing(pets, monkeypatch):
    module(pets).prepare_data()
    monkeypatch.setattr("lightning_fastrecipes.data.images.manifest.inspect_image", None)

    data = module(pets)
    data.setup("fit")
    photos = data._images
    data.setup("validate")

    assert data.classes == ["cat", "dog"]
    assert data._images is photos


def test_prepare_data_leaves_no_state_but_what_setup_need_not_list_again(pets):
    """Other processes call ``setup`` alone, and must come to the same images."""
    data, alone = module(pets), module(pets)
    before = dict(vars(data))

    data.prepare_data()
    assert {**vars(data), "_prepared": None} == before

    data.setup("fit")
    alone.setup("fit")
    assert data._prepared is None
    for split in ("train", "val"):
        assert data.eval_dataset(split).files == alone.eval_dataset(split).files


def test_a_folder_is_listed_once(pets, monkeypatch):
    data, listed = module(pets), []
    listing = data._list
    monkeypatch.setattr(data, "_list", lambda: listed.append(1) or listing())

    data.prepare_data()
    data.setup("fit")

    assert len(listed) == 1


@pytest.mark.parametrize(("name", "value"), [("root", None), ("split", FractionSplit(0.4))])
def test_what_is_assigned_after_prepare_data_counts(pets, tmp_path, name, value):
    data = module(pets)
    data.prepare_data()
    setattr(data, name, value or shutil.copytree(pets, tmp_path / "copied"))

    data.setup("fit")

    fresh = module(data.root)
    fresh.split = data.split
    fresh.setup("fit")
    assert data.eval_dataset("val").files == fresh.eval_dataset("val").files


def test_classes_are_known_after_setup(pets):
    data = module(pets)
    with pytest.raises(ConfigurationError, match=r"Call `setup\('fit'\)`"):
        _ = data.train_targets

    data.setup()

    assert isinstance(data, HasClasses)
    assert (data.classes, data.label_kind) == (["cat", "dog"], "single")


def test_skipped_files_are_listed_and_warned_of_once(pets):
    (pets / "cat" / "bad.png").write_bytes(b"")
    data = module(pets, on_bad_file="skip")
    data.prepare_data()

    with pytest.warns(UserWarning, match=r"1 unreadable files are left out: .*bad\.png") as caught:
        data.setup()

    assert len([one for one in caught if "unreadable" in str(one.message)]) == 1
    assert data.skipped_files == [(str(pets / "cat" / "bad.png"), "is empty (0 bytes)")]


def test_bad_files_stop_a_run_before_training(pets, tmp_path):
    (pets / "cat" / "bad.png").write_bytes(b"")
    model = Recorder()

    with pytest.raises(DataError, match=r"1 files are no good images: .*bad\.png"):
        trainer(tmp_path, max_epochs=1).fit(model, module(pets))

    assert model.steps == []


class TestClassMapInCheckpoints:
    def test_it_is_stored_in_plain_values(self, pets, tmp_path):
        data = module(pets)
        fitted = trainer(tmp_path, max_epochs=1)
        fitted.fit(Recorder(), data)
        fitted.save_checkpoint(tmp_path / "model.ckpt")

        stored = torch.load(tmp_path / "model.ckpt", weights_only=True)

        assert stored["ImageFolderDataModule"] == {
            "classes": ["cat", "dog"],
            "label_kind": "single",
        }
        trainer(tmp_path).validate(
            Recorder(), module(pets), ckpt_path=tmp_path / "model.ckpt", verbose=False
        )

    @pytest.mark.parametrize(
        ("stored", "message"),
        [
            pytest.param(["bird", "dog"], "missing 'bird'; new 'cat'", id="other-names"),
            pytest.param(["cat"], "checkpoint: new 'dog'", id="more-names"),
        ],
    )
    @pytest.mark.parametrize("setup_first", [True, False])
    def test_another_one_is_refused_by_name(self, pets, stored, message, setup_first):
        data = module(pets)
        state = {"classes": stored, "label_kind": "single"}
        steps = [data.setup, lambda: data.load_state_dict(state)]
        first, second = steps if setup_first else reversed(steps)
        first()

        with pytest.raises(ConfigurationError, match=message):
            second()

    @pytest.mark.parametrize("setup_first", [True, False])
    def test_another_order_is_followed(self, pets, setup_first):
        data, plain = module(pets), module(pets)
        plain.setup()
        state = {"classes": ["dog", "cat"], "label_kind": "single"}
        steps = [data.setup, lambda: data.load_state_dict(state)]
        for step in steps if setup_first else reversed(steps):
            step()
        assert data.classes == ["dog", "cat"]
        assert torch.equal(data.train_targets, 1 - plain.train_targets)

    def test_another_kind_of_labels_is_refused(self, pets):
        with pytest.raises(ConfigurationError, match="labels of the kind 'soft', but the data"):
            module(pets).load_state_dict({"classes": ["cat", "dog"], "label_kind": "soft"})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"image_size": 0}, ValueError, "`image_size` must be at least 1, got 0"),
        ({"image_size": 2.5}, TypeError, r"`image_size` must be an integer, got 2\.5"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1, got 0"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0, got -1"),
        ({"num_workers": -1}, ValueError, "`num_workers` must be at least 0, got -1"),
        ({"augmentation": "all"}, ValueError, "`augmentation` must be one of none, basic, side_on"),
        ({"on_bad_file": "ignore"}, ValueError, "`on_bad_file` must be one of raise, skip"),
        ({"split": 1.0}, ValueError, "`val` must lie in"),
        (
            {"geometry": {"resize": "squish"}},
            TypeError,
            r"`geometry` must be a Geometry, got a dict. Set `geometry=Geometry\(\*\*\{'resize':",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_arguments_are_refused_at_once(options, error, message):
    with pytest.raises(error, match=message):
        module(Path("not/read"), **options)


def test_a_mapping_is_no_label_table():
    with pytest.raises(TypeError, match="`table` must be a LabelTable, got a dict"):
        ImageCSVDataModule("not/read.csv", table={"label_kind": "multi"})
