"""A backbone of the user's own, given by class path, is built again wherever it is needed."""

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_fastrecipes import ImageClassifier
from lightning_fastrecipes.errors import ConfigurationError

CNN = {
    "class_path": "lightning_fastrecipes.nn.small.SmallCNN",
    "init_args": {"image_size": 12, "channels": [4], "hidden": 8},
}
PIXELS = {
    "class_path": "lightning_fastrecipes.nn.small.SmallMLP",
    "init_args": {"image_size": 12},
}


def loader() -> DataLoader:
    torch.manual_seed(0)
    images = torch.randint(256, (8, 3, 12, 12), dtype=torch.uint8)
    return DataLoader(TensorDataset(images, torch.arange(8) % 2), batch_size=4)


@pytest.mark.parametrize("spec", [CNN, PIXELS], ids=["cnn", "pixels"])
def test_it_trains_and_comes_back_from_a_checkpoint_and_from_its_description(
    spec: dict, tmp_path
) -> None:
    model = ImageClassifier(spec, 2, head="linear", num_groups=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(model, loader())
    assert any(not torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = ImageClassifier.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    described = ImageClassifier.from_architecture(model.architecture)
    described.load_state_dict(model.state_dict())
    images = next(iter(loader()))[0]
    expected = model.eval()(images)
    assert torch.equal(loaded.eval()(images), expected)
    assert torch.equal(described.eval()(images), expected)
    assert loaded.hparams["backbone"] == spec


def test_a_network_without_parameters_leaves_the_head_as_the_only_group() -> None:
    model = ImageClassifier(PIXELS, 2, head="linear")
    assert [group.name for group in model.layer_groups()] == ["head"]
    model.freeze()
    assert model.num_frozen == 0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"class_path": "no.such.Network"}, "leads nowhere"),
        ({"class_path": "torch.optim.SGD"}, r"must name a subclass of `torch\.nn\.Module`"),
        (CNN | {"init_args": {"width": 3}}, r"does not take \{'width': 3\}"),
        ({"path": "torch.nn.Flatten"}, "must be a class path or have the keys"),
    ],
    ids=["unknown", "no-module", "wrong-argument", "wrong-key"],
)
def test_a_wrong_class_path_is_refused(spec: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ImageClassifier(spec, 2)
