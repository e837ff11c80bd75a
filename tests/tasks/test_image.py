import copy
import inspect
import warnings
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from helpers.trainers import QUIET
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassF1Score

from lightning_fastrecipes import (
    SGDR,
    FeatureDataModule,
    ImageClassifier,
    ImageFolderDataModule,
    Optim,
    ProgressiveResizing,
)
from lightning_fastrecipes.batches import FeatureBatch
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.protocols import InputSpec
from lightning_fastrecipes.tasks.building import plain_values


def tiny_backbone() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)),
        nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5)),
    )


def tiny_model(**options) -> ImageClassifier:
    torch.manual_seed(0)
    options = {"norm_policy": "eval", "head": {"hidden": 8}} | options
    return ImageClassifier(tiny_backbone(), options.pop("num_classes", 2), **options)


def photos(num_images: int = 12, num_classes: int = 2) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (num_images, 3, 16, 16), generator=generator, dtype=torch.uint8)
    return TensorDataset(images, torch.arange(num_images) % num_classes)


def loader(batch_size: int = 4, **options) -> DataLoader:
    return DataLoader(photos(**options), batch_size=batch_size)


def fit(model: pl.LightningModule, epochs: int = 1, data=None, **options) -> pl.Trainer:
    callbacks = options.pop("callbacks", [])
    trainer = pl.Trainer(max_epochs=epochs, callbacks=callbacks, **(QUIET | options))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model, data or loader(), loader())
    return trainer


def copied_state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


# Freezing


@pytest.mark.parametrize(("freeze_to", "num_frozen"), [(0, 0), (1, 1), (-1, 2), (2, 2)])
def test_groups_before_n_stay_bit_equal_and_the_others_move(freeze_to, num_frozen) -> None:
    model = tiny_model(lr=0.1)
    model.freeze_to(freeze_to)
    before = copied_state(model)
    fit(model, epochs=2)
    after = model.state_dict()
    for index, group in enumerate(model.layer_groups()):
        moved = [not torch.equal(before[name], after[name]) for name in group.parameters]
        assert all(moved) if index >= num_frozen else not any(moved), group.name


@pytest.mark.parametrize("policy", ["eval", "eval_if_frozen"])
def test_running_statistics_of_a_frozen_stage_are_bit_equal(policy) -> None:
    model = tiny_model(norm_policy=policy)
    model.freeze()
    before = copied_state(model.backbone)
    fit(model, epochs=2)
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_statistics_move_where_the_policy_lets_them() -> None:
    for policy, freeze_to, moves in [
        ("eval", 0, False),
        ("eval_if_frozen", 0, True),
        ("stats_if_frozen", -1, True),
        ("train", -1, True),
    ]:
        model = tiny_model(norm_policy=policy)
        model.freeze_to(freeze_to)
        before = copied_state(model.backbone)
        fit(model)
        after = model.backbone.state_dict()
        means = [name for name in before if name.endswith("running_mean")]
        assert all(torch.equal(before[n], after[n]) is not moves for n in means), policy


def test_frozen_modules_are_in_eval_mode_after_every_switch() -> None:
    model = tiny_model(norm_policy="eval_if_frozen")
    model.freeze_to(1)
    for _ in range(2):
        model.eval()
        model.train()
        early, late = model.backbone.model[0], model.backbone.model[1]
        assert not any(module.training for module in early.modules())
        assert all(module.training for module in late.modules())
        assert model.head.training


def test_modes_are_asserted_again_when_a_user_flips_them_between_epochs() -> None:
    class Flip(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            nn.Module.train(pl_module.backbone)

    model = tiny_model()
    model.freeze()
    before = copied_state(model.backbone)
    fit(model, epochs=2, callbacks=[Flip()])
    assert all(torch.equal(v, before[k]) for k, v in model.backbone.state_dict().items())


def test_freezing_during_a_fit_is_refused() -> None:
    class Unfreeze(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            pl_module.unfreeze()

    with pytest.raises(ConfigurationError, match=r"between two calls of `Trainer\.fit`"):
        fit(tiny_model(), callbacks=[Unfreeze()])


def test_two_fits_with_freeze_to_between_them_train_by_hand() -> None:
    model = tiny_model(lr=0.05)
    model.freeze()
    fit(model)
    middle = copied_state(model)
    model.unfreeze()
    model.set_learning_rates(0.05, lr_ratio=3)
    trainer = fit(model, callbacks=[SGDR()])
    assert trainer.global_step == 3
    assert not torch.equal(middle["backbone.model.0.0.weight"], model.backbone.model[0][0].weight)


def test_the_depth_is_restored_before_the_optimizer_exists(tmp_path: Path) -> None:
    model = tiny_model()
    model.freeze_to(1)
    trainer = fit(model)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    resumed = tiny_model()
    resumed.unfreeze()
    trainer = pl.Trainer(max_epochs=2, **QUIET)
    with pytest.warns(UserWarning, match="written with 1 frozen layer groups, but the model has 0"):
        trainer.fit(resumed, loader(), ckpt_path=tmp_path / "one.ckpt", weights_only=True)
    assert resumed.num_frozen == 1
    assert not resumed.backbone.model[0][0].weight.requires_grad
    assert resumed.backbone.model[1][0].weight.requires_grad


# Optimizer groups


def test_groups_are_named_in_fixed_order_whatever_is_frozen() -> None:
    names = []
    for freeze_to in (0, 1, -1):
        model = tiny_model()
        model.freeze_to(freeze_to)
        names.append([group["name"] for group in model.configure_optimizers().param_groups])
    assert names[0] == names[1] == names[2]
    assert names[0] == [
        f"{group}/{kind}" for group in ("early", "late", "head") for kind in ("decay", "no_decay")
    ]


def test_rates_follow_the_ratio_and_frozen_groups_have_none() -> None:
    model = tiny_model(lr=1e-2, lr_ratio=10)
    model.freeze_to(1)
    rates = [group["lr"] for group in model.configure_optimizers().param_groups]
    assert rates == pytest.approx([0, 0, 1e-3, 1e-3, 1e-2, 1e-2])


def test_an_array_of_rates_fits_however_many_groups_are_trained() -> None:
    model = tiny_model(lr=[1e-3, 1e-2])
    assert model.group_lrs() == [1e-3, 1e-3, 1e-2]
    model.freeze_to(1)
    assert model.group_lrs() == [0, 1e-3, 1e-2]
    model.set_learning_rates([1e-4, 1e-3, 1e-2])
    assert model.group_lrs() == [0, 1e-4, 1e-2]


def test_a_range_of_rates_is_still_one_after_it_was_saved() -> None:
    model = tiny_model(optim=Optim(lr=(1e-4, 1e-2)))
    assert model.group_lrs() == pytest.approx([1e-4, 1e-3, 1e-2])
    again = ImageClassifier(tiny_backbone(), **plain_values(dict(model.hparams)))
    assert again.group_lrs() == model.group_lrs()
    assert type(Optim(lr=np.array([1e-4, 1e-2])).lr) is list  # a checkpoint holds plain values
    model.set_learning_rates((1e-5, 1e-3))
    assert model.group_lrs() == pytest.approx([1e-5, 1e-4, 1e-3])


def test_the_rates_of_a_fit_are_printed_once(caplog) -> None:
    model = tiny_model(lr=[1e-3, 1e-2])
    model.freeze_to(1)
    with caplog.at_level("INFO"):
        fit(model, epochs=2)
    lines = [r.message for r in caplog.records if r.message.startswith("Learning rates")]
    assert lines == ["Learning rates: early frozen, late 1.00e-03, head 1.00e-02"]


def test_norms_and_biases_have_no_weight_decay() -> None:
    groups = tiny_model(optim=Optim(weight_decay=0.1)).configure_optimizers().param_groups
    for group in groups:
        matrices = {parameter.ndim > 1 for parameter in group["params"]}
        assert matrices == {group["weight_decay"] > 0}


def test_a_parameter_outside_the_optimizer_is_found_at_the_start() -> None:
    class Forgetful(ImageClassifier):
        def configure_optimizers(self):
            return torch.optim.SGD(self.head.parameters(), lr=0.1)

    model = Forgetful(tiny_backbone(), 2)
    with pytest.raises(ValueError, match=r"Missing: backbone\.model\.0\.0\.weight"):
        fit(model)


OPTIMIZERS = sorted(
    name
    for name, value in vars(torch.optim).items()
    if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and name != "Optimizer"
)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_torch_trains_or_says_why_not(name: str) -> None:
    model = tiny_model(optim={"optimizer": f"torch.optim.{name}"}, lr=1e-2)
    if name in {"LBFGS", "SparseAdam", "Muon"}:
        with pytest.raises(ConfigurationError, match=name):
            fit(model)
        return
    before = copied_state(model)
    fit(model)
    assert not torch.equal(before["head.2.weight"], model.head[2].weight)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torch.optim.AdamZ", "leads nowhere"),
        ("torch.nn.Linear", "must name a subclass"),
        ({"class_path": "torch.optim.SGD", "init_args": {"lr": 1}}, r"must not hold \['lr'\]"),
        ({"class_path": "torch.optim.SGD", "init_args": {"momenta": 1}}, "momenta"),
        ({"path": "torch.optim.SGD"}, "must be a class path"),
    ],
    ids=["unknown", "no-optimizer", "own-rate", "wrong-argument", "wrong-key"],
)
def test_a_wrong_optimizer_is_refused(spec, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        tiny_model(optim=Optim(optimizer=spec)).configure_optimizers()


# Metrics and targets


def error_rate(probabilities: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (probabilities.argmax(1) != targets).float().mean()


def test_custom_metrics_are_objects_class_paths_or_functions() -> None:
    model = tiny_model(
        metrics={
            "f1": MulticlassF1Score(2, average="macro"),
            "f1_by_path": "torchmetrics.classification.MulticlassF1Score",
            "error": error_rate,
            "accuracy": {
                "class_path": "torchmetrics.Accuracy",
                "init_args": {"average": "micro"},
            },
        }
    )
    trainer = fit(model)
    metrics = trainer.validate(model, loader(batch_size=5), verbose=False)[0]
    images, targets = photos().tensors
    with torch.no_grad():
        logits = model.eval()(images)
    probabilities = model.probabilities(logits)
    f1 = MulticlassF1Score(2, average="macro")(probabilities, targets)
    assert metrics["val_f1"] == pytest.approx(f1.item())
    assert metrics["val_f1_by_path"] == pytest.approx(f1.item())
    assert metrics["val_error"] == pytest.approx(error_rate(probabilities, targets).item())
    assert metrics["val_accuracy"] == pytest.approx(1 - metrics["val_error"])
    loss = nn.functional.cross_entropy(logits, targets).item()
    assert metrics["val_loss"] == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("torchmetrics.NoSuch", ConfigurationError, "leads nowhere"),
        (3, TypeError, r"`metrics\.m` must be a torchmetrics metric"),
        (
            {"class_path": "torchmetrics.Accuracy", "init_args": {"tasks": "binary"}},
            ConfigurationError,
            "does not take",
        ),
    ],
    ids=["unknown", "number", "wrong-argument"],
)
def test_a_wrong_metric_is_refused(spec, error, message) -> None:
    with pytest.raises(error, match=message):
        tiny_model(metrics={"m": spec})
    if error is TypeError:  # before the number of classes is known, too
        with pytest.raises(error, match=message):
            tiny_model(metrics={"m": spec}, num_classes=None)


def test_a_model_is_trained_after_it_was_validated(tmp_path: Path) -> None:
    """Metrics hold tensors of inference mode by then, which a fit could not add to."""
    model, batches = tiny_model(), loader()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, default_root_dir=tmp_path, **quiet)
    expected = trainer.validate(model, batches, verbose=False)[0]
    model.set_learning_rates(1e-12)
    trainer.fit(model, batches, batches)
    found = float(trainer.callback_metrics["val_accuracy"])
    assert found == pytest.approx(expected["val_accuracy"])


def test_soft_targets_train_and_count_one_half_as_positive() -> None:
    images = photos().tensors[0]
    positive = torch.tensor([0.0, 0.5, 1.0, 0.25] * 3)
    data = DataLoader(
        TensorDataset(images, torch.stack([1 - positive, positive], dim=1)), batch_size=4
    )
    model = tiny_model(metrics={"share": lambda p, t: t.float().mean()})
    trainer = fit(model, data=data)
    metrics = trainer.test(model, data, verbose=False)[0]
    assert metrics["test_share"] == pytest.approx(0.5)
    with torch.inference_mode():
        log_probabilities = model.eval()(images).log_softmax(1)
    expected = -(torch.stack([1 - positive, positive], 1) * log_probabilities).sum(1).mean()
    assert metrics["test_loss"] == pytest.approx(expected.item(), abs=1e-5)


def test_a_training_batch_of_one_names_the_cure() -> None:
    with pytest.raises(
        ConfigurationError, match=r"at least 2 samples for the batch norm `head\.0`"
    ):
        fit(tiny_model(), data=loader(batch_size=11))


def test_a_batch_of_one_trains_without_batch_norm_in_train_mode() -> None:
    trainer = fit(tiny_model(head="linear"), data=loader(batch_size=11))
    assert trainer.global_step == 2


# Input and features


def test_uint8_images_are_normalised_as_the_weights_expect() -> None:
    model = tiny_model().eval()
    images = photos().tensors[0]
    mean = torch.tensor(model.input_spec.mean).view(3, 1, 1)
    std = torch.tensor(model.input_spec.std).view(3, 1, 1)
    by_hand = (images.float() / 255 - mean) / std
    assert torch.allclose(model(images), model(by_hand), atol=1e-5)


def test_features_and_head_are_the_two_halves_of_the_model() -> None:
    model = tiny_model().eval()
    images, targets = photos().tensors
    features = model.forward_features(images)
    assert torch.equal(model.forward_head(features), model(images))
    batch = FeatureBatch(features, targets)
    assert torch.equal(model.predict_step(batch, 0), model.predict_step((images, targets), 0))


# Image sizes


def vit() -> ImageClassifier:
    return ImageClassifier("test_vit.r160_in1k", 2, head="linear")


def squares_of(folder: Path, image_size: int, eval_image_size: int | None = None):
    data = ImageFolderDataModule(
        folder, image_size=image_size, batch_size=8, num_workers=0, split=0.25
    )
    data.eval_image_size = eval_image_size
    return data


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize(
    ("sizes", "wrong"), [((7, None), 7), ((32, 40), 40), ((40, 32), 40)], ids=str
)
def test_a_size_that_the_backbone_does_not_take_is_refused_before_any_batch(
    squares, sizes, wrong
) -> None:
    class Batches(pl.Callback):
        seen = 0

        def on_validation_batch_start(self, *_) -> None:
            self.seen += 1

        on_train_batch_start = on_validation_batch_start

    batches = Batches()
    trainer = pl.Trainer(max_epochs=1, callbacks=[batches], **QUIET)
    message = f"images of ImageFolderDataModule.* must be a multiple of 16 .* got {wrong}"
    with pytest.raises(ConfigurationError, match=message):
        trainer.fit(vit(), squares_of(squares, *sizes))
    assert batches.seen == 0


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_an_evaluation_asks_for_its_own_size_alone(squares) -> None:
    trainer = pl.Trainer(**QUIET)
    trainer.validate(vit(), squares_of(squares, 40, 32), verbose=False)
    with pytest.raises(ConfigurationError, match=r"must be a multiple of 16 .* got 40"):
        trainer.validate(vit(), squares_of(squares, 32, 40), verbose=False)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*logging interval")
def test_sizes_that_are_rounded_and_features_are_not_refused(squares) -> None:
    options = {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 1} | QUIET
    resizing = ProgressiveResizing({0: 30})
    pl.Trainer(callbacks=[resizing], **options).fit(vit(), squares_of(squares, 40))
    model = vit()
    model.freeze()
    trainer = pl.Trainer(**options)
    trainer.fit(model, FeatureDataModule(squares_of(squares, 32), model))
    assert trainer.global_step == 1


# Checkpoints


def test_a_checkpoint_reloads_with_weights_only_and_gives_the_same_logits(tmp_path: Path) -> None:
    model = ImageClassifier("test_resnet.r160_in1k", 2, lr=[1e-3, 1e-2, 1e-1])
    model.set_classes(["cat", "dog"])
    model.set_input_spec(InputSpec(mean=(0.5, 0.5, 0.5)))
    trainer = fit(model, data=loader())
    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path)
    assert "state_dict" in torch.load(path, weights_only=True)
    again = ImageClassifier.load_from_checkpoint(path, weights_only=True)
    images = photos().tensors[0]
    assert torch.equal(again.eval()(images), model.eval()(images))
    assert again.classes == ["cat", "dog"]
    assert again.input_spec.mean == (0.5, 0.5, 0.5)
    assert again.optim.lr == [1e-3, 1e-2, 1e-1]


def test_a_model_of_more_classes_begins_with_the_weights_of_a_checkpoint(tmp_path: Path) -> None:
    model = ImageClassifier("test_resnet.r160_in1k", 2)
    path = tmp_path / "model.ckpt"
    fit(model, data=loader()).save_checkpoint(path)
    with pytest.raises(DataError, match="takes its backbone by `weights`"):
        ImageClassifier.load_from_checkpoint(path, num_classes=3)
    wider = ImageClassifier("test_resnet.r160_in1k", 3, weights=str(path))
    kept = model.backbone.state_dict()
    assert all(torch.equal(x, kept[name]) for name, x in wider.backbone.state_dict().items())


def test_a_users_module_reloads_when_it_is_given_again(tmp_path: Path) -> None:
    model = tiny_model()
    path = tmp_path / "model.ckpt"
    fit(model).save_checkpoint(path)
    again = ImageClassifier.load_from_checkpoint(
        path, backbone=copy.deepcopy(tiny_backbone()), weights_only=True
    )
    images = photos().tensors[0]
    assert torch.equal(again.eval()(images), model.eval()(images))


def test_other_classes_are_refused_by_name() -> None:
    model = tiny_model()
    with pytest.raises(ConfigurationError, match=r"3 classes .* `num_classes=2`"):
        model.set_classes(["a", "b", "c"])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["cat", "fox"], "missing 'dog'; new 'fox'"),
        (["dog", "cat"], "another order: 'cat', 'dog' became 'dog', 'cat'"),
    ],
    ids=["other-name", "other-order"],
)
def test_data_with_other_classes_is_refused_before_testing(classes, message) -> None:
    class Data(pl.LightningDataModule):
        label_kind = "single"

        def __init__(self) -> None:
            super().__init__()
            self.classes = classes

        def test_dataloader(self):
            return loader()

    model = tiny_model()
    model.set_classes(["cat", "dog"])
    with pytest.raises(ConfigurationError, match=message):
        pl.Trainer(**QUIET).test(model, datamodule=Data(), verbose=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "`num_classes` must be at least 2"),
        ({"num_groups": 1}, "`num_groups` must be at least 2"),
        ({"optim": {"weight_decay": -1}}, "`weight_decay` must be at least 0"),
        ({"norm_policy": "frozen"}, "norm_policy"),
    ],
    ids=str,
)
def test_a_number_out_of_range_is_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_model(**options)


@pytest.mark.parametrize("norm_policy", ["eval", "calibrated", "eval_if_frozen"])
@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true"])
def test_weights_of_another_type_take_images_and_features(precision, norm_policy) -> None:
    model = tiny_model(norm_policy=norm_policy)
    # Adam's eps is 0 in float16: weights of this type are for prediction.
    steps = 0 if precision == "16-true" else -1
    trainer = fit(model, precision=precision, enable_progress_bar=False, max_steps=steps)
    trainer.validate(model, loader(), verbose=False)
    assert torch.isfinite(trainer.callback_metrics["val_loss"])
    found = torch.cat(trainer.predict(model, loader()))
    assert found.sum(dim=1) == pytest.approx(torch.ones(12), abs=1e-5)
    assert (found - torch.cat(trainer.predict(model.float(), loader()))).abs().max() < 0.02
    with torch.no_grad():
        model.to(torch.bfloat16)
        features = model.forward_features(photos().tensors[0])
        assert model.forward_head(features.float()).dtype == torch.float32
