"""Images in memory are served as images in files are."""

from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_fastrecipes import (
    FeatureDataModule,
    Geometry,
    ImageArrayDataModule,
    ImageClassifier,
    ImageFolderDataModule,
)
from lightning_fastrecipes.data.images.arrays import list_arrays
from lightning_fastrecipes.errors import ConfigurationError, DataError

SIZE = 12


def digits(count: int, seed: int = 0, channels: tuple[int, ...] = ()) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, SIZE, SIZE, *channels), dtype=np.uint8)


def arrays(**changes) -> dict:
    given = {
        "x_train": digits(20),
        "y_train": np.arange(20) % 10,
        "x_test": digits(10, seed=1),
        "y_test": np.arange(10),
    }
    return {key: value for key, value in (given | changes).items() if value is not None}


def module(source, **options) -> ImageArrayDataModule:
    whole = Geometry(crop_fraction=1.0)
    options = {
        "image_size": SIZE,
        "split": 0,
        "batch_size": 4,
        "geometry": whole,
    } | options
    data = ImageArrayDataModule(source, **options)
    data.prepare_data()
    data.setup()
    return data


def all_of(loader) -> tuple[torch.Tensor, torch.Tensor]:
    images, targets = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(targets)


def test_arrays_come_out_as_they_went_in() -> None:
    source = arrays()
    data = module(source)
    images, targets = all_of(data.test_dataloader())
    assert images.dtype == torch.uint8
    assert images.shape == (10, 3, SIZE, SIZE)
    for channel in range(3):
        assert np.array_equal(images[:, channel], source["x_test"])
    assert targets.tolist() == source["y_test"].tolist()
    assert data.classes == [str(digit) for digit in range(10)]


def test_classes_are_in_the_order_of_numbers() -> None:
    labels = np.array([10, 9, 2, 10, 9, 2])
    data = module({"x_train": digits(6), "y_train": labels})
    assert data.classes == ["2", "9", "10"]
    assert all_of(data.eval_dataloader("train"))[1].tolist() == [2, 1, 0, 2, 1, 0]


def test_text_labels_and_coloured_images_are_taken() -> None:
    pixels = digits(4, channels=(3,))
    data = module({"x_train": pixels, "y_train": np.array(["dog", "cat", "dog", "cat"])})
    images, targets = all_of(data.eval_dataloader("train"))
    assert np.array_equal(images.permute(0, 2, 3, 1), pixels)
    assert [data.classes[target] for target in targets] == ["dog", "cat", "dog", "cat"]


def test_a_file_a_folder_and_arrays_give_the_same_images(tmp_path: Path) -> None:
    source = arrays()
    np.savez(tmp_path / "digits.npz", **source)
    for split in ("train", "test"):
        labelled = zip(source[f"x_{split}"], source[f"y_{split}"], strict=True)
        for number, (pixels, label) in enumerate(labelled):
            folder = tmp_path / "digits" / split / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{number:02}.png")
    modules = {
        "arrays": module(source),
        "file": module(tmp_path / "digits.npz"),
        "folder": module(tmp_path / "digits"),
        "from files": ImageFolderDataModule(
            tmp_path / "digits", image_size=SIZE, split=0.0,
            geometry=Geometry(crop_fraction=1.0), num_workers=0,
        ),
    }  # fmt: skip
    modules["from files"].setup()
    found = {}
    for name, data in modules.items():
        images, targets = all_of(data.eval_dataloader("train"))
        order = np.lexsort(images.flatten(1).numpy().T)
        found[name] = (images[order], targets[order], data.classes)
    for name, (images, targets, classes) in found.items():
        assert torch.equal(images, found["arrays"][0]), name
        assert torch.equal(targets, found["arrays"][1]), name
        assert classes == found["arrays"][2], name


def test_resizing_in_memory_is_resizing_of_files(tmp_path: Path) -> None:
    pixels = digits(4, channels=(3,))
    for number, photo in enumerate(pixels):
        (tmp_path / str(number % 2)).mkdir(exist_ok=True)
        Image.fromarray(photo).save(tmp_path / str(number % 2) / f"{number}.png")
    options = {"image_size": 7, "split": 0.0, "geometry": Geometry(crop_fraction=0.8)}
    files = ImageFolderDataModule(tmp_path, num_workers=0, **options)
    files.setup()
    expected = all_of(files.eval_dataloader("train"))
    found = all_of(module(tmp_path, **options).eval_dataloader("train"))
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def augmented(source: dict, batch_size: int, num_workers: int = 0, epoch: int = 3) -> dict:
    """Return this epoch's version of each training image by its label."""
    data = module(
        source, augmentation="top_down", batch_size=batch_size, num_workers=num_workers, seed=5
    )
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    images, targets = all_of(loader)
    return {int(target): image for image, target in zip(images, targets, strict=True)}


def test_a_images_augmentation_depends_on_seed_epoch_and_place_alone() -> None:
    source = {"x_train": digits(20), "y_train": np.arange(20)}
    first = augmented(source, batch_size=20)
    for others in (augmented(source, 3), augmented(source, 7, num_workers=2)):
        assert all(torch.equal(first[label], image) for label, image in others.items())
    later = augmented(source, 20, epoch=4)
    assert not any(torch.equal(first[label], later[label]) for label in range(20))


def test_training_images_are_those_of_the_evaluation_without_augmentation() -> None:
    data = module({"x_train": digits(20), "y_train": np.arange(20)})
    trained = dict(zip(*reversed(all_of(data.train_dataloader())), strict=True))
    plain = dict(zip(*reversed(all_of(data.eval_dataloader("train"))), strict=True))
    trained = {int(label): image for label, image in trained.items()}
    assert all(torch.equal(trained[int(label)], image) for label, image in plain.items())


def test_splits_that_are_missing_are_drawn() -> None:
    data = module(arrays(), split=0.5)
    sizes = {split: len(data.eval_dataset(split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 10, "val": 10, "test": 10}
    assert sorted(all_of(data.val_dataloader())[1].tolist()) == list(range(10))


def test_a_test_split_without_labels_is_there_to_be_predicted() -> None:
    data = module(arrays(y_test=None))
    assert data.test_dataloader() == []
    assert len(data.predict_dataloader().dataset) == 10
    assert data.eval_dataset("predict").files[3].endswith("test/03")


def test_features_of_arrays_are_computed_once_and_anew_for_other_pixels(tmp_path, caplog) -> None:
    model = ImageClassifier("test_resnet.r160_in1k", 10)
    model.freeze()

    def features(pixels: np.ndarray) -> torch.Tensor:
        data = FeatureDataModule(module(arrays(x_train=pixels), image_size=32), model)
        data.prepare_data()
        data.setup("fit")
        return torch.cat([batch.features for batch in data.eval_dataloader("train")])

    first = features(digits(20))
    assert torch.equal(features(digits(20)), first)
    changed = digits(20)
    changed[7] = 255 - changed[7]
    differs = (features(changed) != first).any(dim=1)
    assert differs.nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": None}, "`x_train` is missing"),
        ({"y_train": None}, "`y_train` is missing"),
        ({"x_tets": digits(2)}, "'x_tets' is not known"),
        ({"x_train": digits(20) / 255}, "`x_train` must be `uint8` in 0 to 255, but is float64"),
        ({"x_train": digits(20).reshape(20, -1)}, r"`x_train` must have shape .* \(20, 144\)"),
        ({"x_train": digits(20, channels=(4,))}, r"has \(20, 12, 12, 4\)"),
        ({"x_train": digits(0), "y_train": np.arange(0)}, "`x_train` has no images"),
        ({"y_train": np.arange(19)}, r"one label per image, shape \(20,\), but has \(19,\)"),
        ({"y_train": np.arange(20)[:, None]}, r"has \(20, 1\)\. Take its column, `\[:, 0\]`"),
        ({"y_train": np.eye(20)}, r"take `argmax\(1\)`"),
        ({"y_train": np.arange(20) / 2}, "must be integers or text, but is float64"),
        ({"x_test": digits(10)[:, :8]}, "all images must have one shape"),
        ({"x_test": None}, "`y_test` has labels, but `x_test` is missing"),
        ({"x_val": digits(2)}, "`x_val` needs labels"),
        ({"y_test": np.arange(10) + 1}, r"'10 \(1 in test\)' are not in the training split"),
    ],
)
def test_wrong_arrays_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        module(arrays(**changes))


def test_the_same_image_in_two_classes_is_refused() -> None:
    pixels = digits(20)
    pixels[11] = pixels[0]
    with pytest.raises(DataError, match="1 images are the same, byte by byte, in two classes"):
        module(arrays(x_train=pixels))


@pytest.mark.parametrize("content", [b"", b"no zip file", b"PK\x03\x04 cut"])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "digits.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"digits\.npz' must be an `\.npz` file"):
        module(path)


def test_python_objects_in_a_file_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.array([{"a": 1}], dtype=object), y_train=[0])
    with pytest.raises(DataError, match="holds Python objects, which are not loaded"):
        module(tmp_path / "a.npz")


def test_one_array_alone_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", digits(3))
    with pytest.raises(DataError, match="one array without a name"):
        module(tmp_path / "a.npy")


def test_images_of_different_shapes_do_not_fit_into_one_array(pets: Path, draw) -> None:
    draw(pets / "cat" / "large.png", size=(40, 40))
    with pytest.raises(DataError, match=r"1 are not 24 x 20 .* 'large\.png'|large\.png"):
        module(pets)


def test_a_checkpoint_of_other_classes_is_refused() -> None:
    state = module(arrays()).state_dict()
    other = module(arrays(y_train=np.arange(20) % 10 + 1, y_test=np.arange(10) + 1))
    with pytest.raises(ConfigurationError, match="missing '0'; new '10'"):
        other.load_state_dict(state)


def write_npz(path: Path, header: str, body: bytes = b"") -> None:
    text = header.encode()
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body
    with ZipFile(path, "w") as archive:
        archive.writestr("x_train.npy", content)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (
            "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 28, 28)}",
            r"says that it is of shape \(1000000000000, 28, 28\) and uint8, but has 84 bytes",
        ),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (-3, 28)}", "but has"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "holds Python objects"),
        ("{'descr': 3}", "cannot be read"),
        pytest.param("[" * 3000, "cannot be read", id="deep"),
        ("", "cannot be read"),
    ],
)
def test_a_header_that_lies_is_refused_before_memory_is_taken(
    tmp_path: Path, header: str, reason: str
) -> None:
    write_npz(tmp_path / "a.npz", header)
    with pytest.raises(DataError, match=reason):
        module(tmp_path / "a.npz")


def test_arrays_larger_than_the_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "a.npz", x_train=np.zeros((100, 100, 100), np.uint8))
    monkeypatch.setattr("os.sysconf", lambda name: 1000)
    with pytest.raises(DataError, match=r"needs 0\.0 GiB of memory, and this machine has 0\.0"):
        module(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"y_train": ["a", ""] * 4}, "`y_train` must have a label for every image, but has empty"),
        ({"y_train": [0, 1, 0]}, r"has \(3,\). Give one for each image"),
        ({"y_train": np.eye(2)[[0, 1] * 4]}, "several labels of 0 and 1 are `labels=Tags"),
        ({"x_train": [np.zeros((4, 4)), np.zeros((2, 4))]}, "must be an array, but NumPy makes"),
        ({"x_train": np.full((8, 4, 4), -1.0)}, "but is float64 from -1 to -1. Scale it to 0"),
        ({3: np.zeros(3)}, "'3' is not known"),
    ],
)
def test_odd_arrays_are_named(changed, said) -> None:
    arrays = {"x_train": np.arange(128, dtype=np.uint8).reshape(8, 4, 4), "y_train": [0, 1] * 4}
    with pytest.raises(DataError, match=said):
        list_arrays({**arrays, **changed})


@pytest.mark.parametrize("key", ["x_train", "y_train", "y_test"])
def test_masked_values_are_not_taken_for_others(key) -> None:
    values = arrays()[key]
    masked = np.ma.masked_array(values, values == values.max())
    with pytest.raises(DataError, match="must have no masked values"):
        list_arrays(arrays(**{key: masked}))
    list_arrays(arrays(**{key: np.ma.masked_array(values)}))
