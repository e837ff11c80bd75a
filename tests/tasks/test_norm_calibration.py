"""The norm policy `calibrated` in fits, and that models with pretrained weights use it."""

import copy
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from helpers.processes import load_script, run_script
from helpers.trainers import QUIET, quiet_trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_fastrecipes import ImageArrayDataModule, ImageClassifier, LRFinder, lr_find
from lightning_fastrecipes.tasks import norm_calibration
from lightning_fastrecipes.tasks.norm_calibration import calibrate_norms


def tiny_backbone() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU()),
    )
    for part in net:
        nn.init.constant_(part[1].running_mean, 0.3)
        nn.init.constant_(part[1].running_var, 4.0)
    return net


def tiny_model(**options) -> ImageClassifier:
    options = {"pretrained": True, "head": {"hidden": 8}} | options
    return ImageClassifier(tiny_backbone(), 2, **options)


def pixels(count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(1)
    return draw.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8), np.arange(count) % 2


def datamodule(images=None, labels=None, **options) -> ImageArrayDataModule:
    if images is None:
        images, labels = pixels()
    arrays = {
        "x_train": images,
        "y_train": labels,
        "x_test": 255 - images[:4],
        "y_test": labels[:4],
    }
    options = {"split": 0.25, "image_size": 16, "batch_size": 8} | options
    return ImageArrayDataModule(arrays, **options)


def stored_means(model: ImageClassifier) -> list[torch.Tensor]:
    return [part[1].running_mean.clone() for part in model.backbone.model]


class Watch(pl.Callback):
    """Keep what the model computes for a few images once its first step is prepared."""

    def __init__(self) -> None:
        self.images = torch.from_numpy(pixels(8)[0]).permute(0, 3, 1, 2)
        self.seen: list[torch.Tensor] = []

    def look(self, model: ImageClassifier) -> torch.Tensor:
        modes = [(module, module.training) for module in model.modules()]
        with torch.no_grad():
            seen = model.eval()(self.images)
        for module, mode in modes:
            module.training = mode
        return seen

    def on_before_backward(self, trainer, pl_module, loss) -> None:
        if not self.seen:
            self.seen.append(self.look(pl_module))


def test_pretrained_weights_are_calibrated_by_default_and_others_are_not() -> None:
    assert tiny_model().norm_policy == "calibrated"
    assert tiny_model(pretrained=False).norm_policy == "eval_if_frozen"
    assert tiny_model(norm_policy="eval").norm_policy == "eval"


@pytest.mark.parametrize("own_loader", [False, True])
def test_a_fit_keeps_what_the_model_computes_and_stores_statistics_of_the_data(own_loader) -> None:
    model, watch = tiny_model(), Watch()
    model.unfreeze()
    before, stored = watch.look(model), stored_means(model)
    images, labels = pixels()
    rows = TensorDataset(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels))
    data = {"train_dataloaders": DataLoader(rows, batch_size=32)}
    trainer = quiet_trainer(watch, max_epochs=1, limit_train_batches=1)
    trainer.fit(model, **(data if own_loader else {"datamodule": datamodule()}))
    # The head's own norms have moved by one batch.
    torch.testing.assert_close(watch.seen[0], before, rtol=0.3, atol=0.1)
    assert (stored_means(model)[0] - stored[0]).abs().max() > 0.05


def test_the_features_are_the_same_to_rounding() -> None:
    model, images = tiny_model(), Watch().images
    model.unfreeze()
    model.eval()
    before = model.forward_features(images)
    trainer = quiet_trainer(max_epochs=1, limit_train_batches=1)
    trainer.fit(tiny_model(), datamodule=datamodule())
    data = datamodule()
    data.prepare_data()
    data.setup("fit")
    model.trainer = trainer
    trainer.datamodule = data
    random = torch.get_rng_state()
    calibrate_norms(model, model.backbone, None)
    assert torch.equal(random, torch.get_rng_state())
    torch.testing.assert_close(model.forward_features(images), before, rtol=1e-4, atol=1e-5)
    seen = torch.cat([batch for batch, _ in data.eval_dataloader("train")])
    first = model.backbone.model[0][0]((seen - model.pixel_mean) / model.pixel_std)
    torch.testing.assert_close(stored_means(model)[0], first.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_frozen_groups_keep_their_statistics() -> None:
    model = tiny_model()
    model.freeze_to(1)
    before = copy.deepcopy(model.backbone.state_dict())
    quiet_trainer(max_epochs=1).fit(model, datamodule=datamodule())
    after = model.backbone.state_dict()
    assert torch.equal(before["model.0.1.running_mean"], after["model.0.1.running_mean"])
    assert not torch.equal(before["model.1.1.running_mean"], after["model.1.1.running_mean"])


def test_a_sweep_of_the_rate_leaves_nothing_behind() -> None:
    model = tiny_model()
    model.unfreeze()
    before = copy.deepcopy(model.state_dict())
    lr_find(model, datamodule(), num_steps=40)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_fit_after_a_sweep_in_it_is_calibrated() -> None:
    model, plain = tiny_model(), tiny_model()
    for one, callbacks in ((model, [LRFinder(num_steps=20, on_refusal="ignore")]), (plain, [])):
        one.unfreeze()
        trainer = quiet_trainer(*callbacks, max_epochs=1, limit_train_batches=2)
        pl.seed_everything(0, verbose=False)
        trainer.fit(one, datamodule=datamodule())
    assert stored_means(model)[0].sub(stored_means(plain)[0]).abs().max() < 0.05
    assert not model._must_calibrate


def test_a_resumed_fit_ends_as_an_uninterrupted_one(tmp_path) -> None:
    def fit(**options) -> tuple[ImageClassifier, pl.Trainer]:
        pl.seed_everything(0, verbose=False)
        model = tiny_model(head={"hidden": 8, "dropout": 0.0})
        model.unfreeze()
        path = options.pop("ckpt_path", None)
        trainer = pl.Trainer(**(QUIET | {"max_epochs": 2} | options))
        trainer.fit(model, datamodule=datamodule(), ckpt_path=path)
        return model, trainer

    whole, _ = fit()
    _, trainer = fit(max_epochs=1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed, _ = fit(ckpt_path=tmp_path / "half.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_layers_that_are_unfrozen_for_a_later_fit_are_calibrated_then(monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(
        norm_calibration,
        "calibrate_norms",
        lambda task, backbone, batch: calls.append(task.num_frozen),
    )
    model, trainer = tiny_model(), quiet_trainer(max_epochs=1)
    trainer.fit(model, datamodule=datamodule())
    for max_epochs in (2, 3):
        model.unfreeze()
        trainer.fit_loop.max_epochs = max_epochs
        trainer.fit(model, datamodule=datamodule())
    assert calls == [2, 0]


def test_gradients_reach_all_weights_in_mixed_precision() -> None:
    model = tiny_model()
    model.unfreeze()
    before = copy.deepcopy(dict(model.named_parameters()))
    trainer = quiet_trainer(max_epochs=1, limit_train_batches=1, precision="bf16-mixed")
    trainer.fit(model, datamodule=datamodule())
    for name, value in model.named_parameters():
        if "0.weight" in name and value.ndim > 1:
            assert not torch.equal(value, before[name]), name


@pytest.mark.distributed
@pytest.mark.filterwarnings("ignore")
def test_two_processes_store_what_one_does(tmp_path) -> None:
    script = Path(__file__).with_name("calibration_on_two_processes.py")
    run_script(script, tmp_path)
    first, second = (torch.load(tmp_path / f"process-{rank}.pt") for rank in (0, 1))
    alone = load_script(script).work(num_processes=1)
    for name, value in alone["calibrated"].items():
        assert torch.equal(first["calibrated"][name], second["calibrated"][name]), name
        torch.testing.assert_close(first["calibrated"][name], value, rtol=1e-4, atol=1e-5)
    for name, value in first["end"].items():
        assert torch.equal(second["end"][name], value), name
    assert first["classes"] == second["classes"] == ["0", "1", "2", "3"]
    assert first["verdicts"] == second["verdicts"]
    assert set(first["verdicts"]) == {0, 1}
    assert first["samples"] == alone["samples"] == 16


def test_statistics_of_the_backbone_are_measured_anew_after_an_epoch(monkeypatch) -> None:
    model = tiny_model(lr=1e-3)
    model.unfreeze()
    first_of_head = []
    remeasure = norm_calibration.remeasure_norms
    monkeypatch.setattr(
        norm_calibration,
        "remeasure_norms",
        lambda *parts: (first_of_head.append(model.head[0].running_var.clone()), remeasure(*parts)),
    )
    quiet_trainer(max_epochs=1).fit(model, datamodule=datamodule())
    data = datamodule()
    data.prepare_data()
    data.setup("fit")
    seen = torch.cat([batch for batch, _ in data.eval_dataloader("train")])
    first = model.backbone.model[0][0]((seen - model.pixel_mean) / model.pixel_std)
    torch.testing.assert_close(stored_means(model)[0], first.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    # Those of the head are of dropout, as its weights are.
    assert torch.equal(model.head[0].running_var, first_of_head[0])


def test_images_that_are_sorted_by_class_have_the_statistics_of_all_of_them() -> None:
    """Of batches of one class each, the mean variance lacks what lies between the classes."""
    images, labels = pixels()
    images = np.concatenate([images[::2] // 8, 255 - images[1::2] // 8])
    model = tiny_model(lr=1e-6)
    model.unfreeze()
    data = datamodule(images, np.sort(labels))
    quiet_trainer(max_epochs=1).fit(model, datamodule=data)
    seen = torch.cat([batch for batch, _ in data.eval_dataloader("train")])
    first = model.backbone.model[0][0]((seen - model.pixel_mean) / model.pixel_std)
    stored = model.backbone.model[0][1].running_var
    torch.testing.assert_close(stored, first.var((0, 2, 3)), rtol=0.2, atol=0)
