"""Attributes that fast.ai's learners and data have are answered with ours."""

import copy
import pickle

import pytest
import torch

import lightning_fastrecipes as fr
from lightning_fastrecipes.fastai_members import _OF_DATA, _OF_LEARNERS


@pytest.fixture(scope="module")
def model() -> fr.ImageClassifier:
    network = "lightning_fastrecipes.nn.small.SmallMLP"
    backbone = {"class_path": network, "init_args": {"image_size": 12}}
    return fr.ImageClassifier(backbone, 2, head="linear")


def test_attributes_of_a_learner_are_answered_with_ours(model) -> None:
    for name, ours in ("fit_one_cycle", "OneCycle"), ("export", "fr.export"), ("fit", "SGDR"), (
        "lr_find", "fr.lr_find",
    ), ("predict", "fr.load"), ("recorder", "EpochTable"):  # fmt: skip
        with pytest.raises(
            AttributeError, match=f"no attribute '{name}'.*`{name}` is here.*{ours}"
        ):
            getattr(model, name)
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'$"):
        _ = model.nothing
    assert not any(hasattr(model, name) for name in _OF_LEARNERS)


def test_attributes_of_data_are_answered_with_ours() -> None:
    images = fr.ImageFolderDataModule("photos")
    for name, ours in ("vocab", "data.classes"), ("dataloaders", "Trainer.fit"), (
        "train_ds", "dataset",
    ), ("dls", "the datamodule itself"):  # fmt: skip
        with pytest.raises(
            AttributeError, match=f"no attribute '{name}'.*`{name}` is here.*{ours}"
        ):
            getattr(images, name)
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'$"):
        _ = images.nothing
    assert not any(hasattr(images, name) for name in _OF_DATA)


def test_what_is_nearly_an_attribute_is_named(model) -> None:
    with pytest.raises(
        AttributeError, match=r"no attribute 'unfreez'\. Did you mean `unfreeze`\?$"
    ):
        model.unfreez()
    with pytest.raises(
        AttributeError, match=r"'show_batc'\. Did you mean `show_batch`\?$"
    ) as found:
        fr.ImageFolderDataModule("photos").show_batc()
    assert type(found.value).__qualname__ == "AttributeError"
    assert str(pickle.loads(pickle.dumps(found.value))) == str(found.value)


def test_an_error_within_a_property_of_data_stays() -> None:
    class Mine(fr.ImageFolderDataModule):
        @property
        def extent(self) -> int:
            return self.classes_of_mine

    with pytest.raises(AttributeError, match="no attribute 'classes_of_mine'") as found:
        _ = Mine("photos").extent
    assert "`extent`" not in str(found.value)
    assert any(entry.frame.code.name == "extent" for entry in found.traceback)


def test_a_part_of_that_name_is_the_users_own(model) -> None:
    own = copy.deepcopy(model)
    own.recorder = torch.nn.Linear(1, 1)
    assert isinstance(own.recorder, torch.nn.Linear)


def test_copies_pickles_and_compiled_modules_are_as_before(model) -> None:
    inputs = torch.randint(0, 256, (3, 3, 12, 12), dtype=torch.uint8)
    model.eval()
    expected = model(inputs)
    for other in pickle.loads(pickle.dumps(model)), copy.copy(model), copy.deepcopy(model):
        torch.testing.assert_close(other(inputs), expected, rtol=0, atol=0)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(inputs), expected, rtol=0, atol=0)
    assert pickle.loads(pickle.dumps(fr.ImageFolderDataModule("photos"))).image_size
