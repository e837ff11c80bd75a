"""One switch for images with several labels: loss, probabilities, metrics and decisions."""

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_fastrecipes import Ensemble, ImageClassifier, Labels, SampleFBeta
from lightning_fastrecipes.errors import ConfigurationError

pytestmark = pytest.mark.both


CLASSES = ["rare", "sea", "sky", "sun"]
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "num_sanity_val_steps": 0,
}


def rows(num_rows: int = 24, seed: int = 0) -> TensorDataset:
    """Images whose colours say which labels hold; the first has none."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.tensor([0.1, 0.5, 0.5, 0.7])
    targets = (torch.rand(num_rows, 4, generator=generator) < share).float()
    targets[0] = 0.0
    noise = torch.rand(num_rows, 3, 8, 8, generator=generator)
    images = 150 * targets[:, 1:, None, None] + 105 * noise
    return TensorDataset(images.to(torch.uint8), targets)


class Tagged(pl.LightningDataModule):
    """A datamodule of the user's own that says what its targets are."""

    def __init__(self, classes=CLASSES, label_kind="multi") -> None:
        super().__init__()
        self.classes = list(classes)
        self.label_kind = label_kind

    def _loader(self, seed: int) -> DataLoader:
        images, targets = rows(seed=seed).tensors
        if self.label_kind == "single":
            targets = targets.argmax(dim=1)
        return DataLoader(TensorDataset(images, targets), batch_size=5)

    @property
    def train_targets(self) -> torch.Tensor:
        return rows(seed=0).tensors[1]

    def train_dataloader(self) -> DataLoader:
        return self._loader(0)

    def val_dataloader(self) -> DataLoader:
        return self._loader(1)

    def test_dataloader(self) -> DataLoader:
        return self._loader(2)


def tiny(**options) -> ImageClassifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU())
    return ImageClassifier(
        network,
        4,
        **({"head": {"layout": "linear", "dropout": 0.0}, "lr": 0.05, "num_groups": 2} | options),
    )


def fit(model: ImageClassifier, data=None, epochs: int = 2, how=None, **options) -> pl.Trainer:
    trainer = pl.Trainer(max_epochs=epochs, **(QUIET | options))
    trainer.fit(model, datamodule=data or Tagged(), weights_only=True, **(how or {}))
    return trainer


def predicted(model: ImageClassifier, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    images, targets = rows(seed=seed).tensors
    with torch.no_grad():
        return model.eval().probabilities(model(images)), targets


@pytest.fixture
def trained(tmp_path) -> tuple[ImageClassifier, pl.Trainer]:
    model = tiny()
    return model, fit(model, default_root_dir=tmp_path, epochs=6)


def test_the_data_switch_everything_together(trained) -> None:
    model, trainer = trained
    logits = torch.tensor([[0.3, -2.0, 0.0, 1.0], [1.0, 0.0, 0.0, -1.0]])
    targets = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])

    assert model.label_kind == "multi"
    assert model.classes == CLASSES
    expected = F.binary_cross_entropy_with_logits(logits, targets)
    assert model.loss(logits, targets) == expected
    torch.testing.assert_close(model.probabilities(logits), logits.sigmoid())
    assert model.metric_targets(targets).dtype == torch.int64
    assert {"val_loss", "val_f2", "val_accuracy"} <= set(trainer.callback_metrics)


def test_one_label_stays_what_it_was() -> None:
    model = tiny()
    fit(model, Tagged(label_kind="single"))
    assert model.label_kind == "single"
    assert model.thresholds is None
    assert "thresholds" not in model.state_dict()
    assert model.probabilities(torch.zeros(1, 4)).sum() == 1


def test_thresholds_are_the_best_of_the_whole_validation(trained) -> None:
    model, trainer = trained
    metric = SampleFBeta(4)
    metric.update(*predicted(model, seed=1))

    assert float(trainer.callback_metrics["val_f2"]) == pytest.approx(float(metric.compute()))
    assert torch.equal(model.thresholds, metric.best_thresholds)
    assert not torch.equal(model.thresholds, torch.full((4,), 0.5))


def test_the_test_is_measured_with_them_and_not_with_its_own_best(trained) -> None:
    model, trainer = trained
    model.thresholds.fill_(0.9)

    found = trainer.test(model, datamodule=Tagged(), verbose=False)[0]["test_f2"]

    metric = SampleFBeta(4)
    metric.update(*predicted(model, seed=2))
    best = float(metric.compute())
    metric.fix(torch.full((4,), 0.9))
    metric.update(*predicted(model, seed=2))
    assert found == pytest.approx(float(metric.compute()))
    assert found < best


def test_thresholds_and_kind_are_in_the_checkpoint(trained, tmp_path) -> None:
    model, trainer = trained
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    network = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU())

    again = ImageClassifier.load_from_checkpoint(path, backbone=network, weights_only=True)

    assert again.label_kind == "multi"
    assert again.classes == CLASSES
    assert torch.equal(again.thresholds, model.thresholds)
    for mine, theirs in zip(predicted(again, 2), predicted(model, 2), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("kinds", [("multi", "single"), ("single", "multi")], ids=str)
def test_a_model_never_flips_on_resume(tmp_path, kinds) -> None:
    before, after = kinds
    trainer = fit(tiny(), Tagged(label_kind=before))
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)

    with pytest.raises(
        ConfigurationError, match=f"'{after}', but the checkpoint has '{before}', and a model never"
    ):
        fit(tiny(), Tagged(label_kind=after), 3, how={"ckpt_path": path})


def test_a_model_never_flips_between_two_fits() -> None:
    model = tiny()
    fit(model)
    with pytest.raises(ConfigurationError, match=r"'multi', but the data has 'single'.*never"):
        fit(model, Tagged(label_kind="single"))


def test_a_resumed_fit_ends_as_an_uninterrupted_one(tmp_path) -> None:
    def start(epochs, **how):
        model = tiny(labels={"threshold": "per_label", "pos_weight": "balanced"})
        return model, fit(model, epochs=epochs, default_root_dir=tmp_path, how=how)

    whole, _ = start(4)
    _, stopped = start(2)
    stopped.save_checkpoint(tmp_path / "half.ckpt")
    resumed, _ = start(4, ckpt_path=tmp_path / "half.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_what_the_user_says_holds_for_loaders_of_their_own() -> None:
    model = tiny(labels=Labels(kind="multi"))
    trainer = pl.Trainer(max_epochs=1, **QUIET)
    trainer.fit(model, DataLoader(rows(), 8), DataLoader(rows(seed=1), 8))
    assert "val_f2" in trainer.callback_metrics
    with pytest.raises(ConfigurationError, match="'multi', but the data has 'single'"):
        fit(tiny(labels={"kind": "multi"}), Tagged(label_kind="single"))


def test_class_indices_where_labels_are_several_are_named() -> None:
    model = tiny(labels={"kind": "multi"})
    with pytest.raises(ConfigurationError, match=r"of shape \(2, 4\), got \(2,\)"):
        model.loss(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))


def test_positives_weigh_as_asked(tmp_path) -> None:
    logits, targets = torch.randn(6, 4), rows(6).tensors[1]
    weights = [1.0, 2.0, 3.0, 4.0]
    model = tiny(labels={"kind": "multi", "pos_weight": weights})
    expected = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=torch.tensor(weights))
    assert model.loss(logits, targets) == expected

    balanced = tiny(labels={"pos_weight": "balanced"})
    trainer = fit(balanced)
    held = rows().tensors[1].sum(0)
    torch.testing.assert_close(balanced.rules.pos_weight, (24 - held) / held)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    network = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU())
    again = ImageClassifier.load_from_checkpoint(
        tmp_path / "a.ckpt", backbone=network, weights_only=True
    )
    torch.testing.assert_close(again.rules.pos_weight, balanced.rules.pos_weight)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"kind": "multi", "pos_weight": [1.0]}, "one number above 0 for each of the 4 labels"),
        ({"kind": "single", "pos_weight": "balanced"}, "but the images have one each"),
    ],
    ids=["number", "one-label"],
)
def test_weights_that_do_not_fit_are_refused(labels, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        tiny(labels=labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "several"}, "`labels.kind` must be 'single', 'soft' or 'multi'"),
        ({"pos_weight": "even"}, "`labels.pos_weight` must be 'balanced' or one number"),
        ({"threshold": "all"}, "`threshold` must be 'one' or 'per_label'"),
        ({"beta": -1.0}, "`beta` must be above 0"),
    ],
    ids=str,
)
def test_bad_options_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        Labels(**options)


def test_metrics_of_the_user_are_measured_beside_the_one_that_tunes() -> None:
    model = tiny(
        metrics={
            "f1": "torchmetrics.classification.MultilabelF1Score",
            "any": {"class_path": "torchmetrics.F1Score", "init_args": {"average": "micro"}},
            "mine": lambda probabilities, targets: (probabilities[:, 3] * targets[:, 3]).mean(),
        },
        labels={"beta": 1.0},
    )
    trainer = fit(model)
    assert {"val_f1", "val_any", "val_mine", "val_sample_f1"} <= set(trainer.callback_metrics)
    assert not torch.equal(model.thresholds, torch.full((4,), 0.5))


def test_an_ensemble_merges_sigmoids(trained) -> None:
    one, _ = trained
    other = tiny()
    fit(other, epochs=1)
    images, _ = rows(seed=2).tensors
    each = torch.stack([predicted(model, 2)[0] for model in (one, other)])

    for merge, expected in (
        ("probabilities", each.mean(0)),
        ("logits", each.logit().mean(0).sigmoid()),
    ):
        ensemble = Ensemble([one, other], merge)
        # A probability near 1 keeps few digits of its logit.
        close = {"rtol": 0.0, "atol": 1e-3 if merge == "logits" else 1e-6}
        torch.testing.assert_close(ensemble.predict([images]), expected, **close)
        merged = Ensemble([one, other], merge)
        logits = merged(images)
        torch.testing.assert_close(merged.probabilities(logits), expected, **close)


def test_an_ensemble_of_both_kinds_is_refused(trained) -> None:
    one = tiny()
    fit(one, Tagged(label_kind="single"))
    with pytest.raises(ConfigurationError, match="labels of one kind, but there are 'multi' and"):
        Ensemble([trained[0], one]).predict([rows().tensors[0]])
