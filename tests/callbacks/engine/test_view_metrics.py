"""Metrics with views stand beside the plain ones, each at thresholds tuned for what it measures."""

import pickle
import warnings

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F  # noqa: N812
from helpers.trainers import quiet_trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from lightning_fastrecipes import (
    ImageClassifier,
    MultiLabelSwitch,
    SampleFBeta,
    TestTimeAugmentation,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


def rows(seed: int, count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, 3, 24, 24), dtype=torch.uint8, generator=generator)
    return images, (torch.rand(count, 3, generator=generator) < 0.4).float()


def loader(seed: int) -> DataLoader:
    return DataLoader(TensorDataset(*rows(seed)), batch_size=7)


def classifier(**labels) -> ImageClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = {"layout": "linear", "dropout": 0.0}
        labels = {"kind": "multi", **labels}
        return ImageClassifier("test_resnet.r160_in1k", num_classes=3, head=head, labels=labels)


class Own(pl.LightningModule):
    """A module that says nothing of labels, or has the head protocol."""

    def __init__(self, *, has_head: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 3))
        if has_head:
            self.num_classes = 3
            self.loss = nn.CrossEntropyLoss()
            self.metrics = MetricCollection({"accuracy": MulticlassAccuracy(3)}, prefix="val_")

    def forward(self, images):
        return self.layers(images.float() / 64)

    def probabilities(self, logits):
        return logits.sigmoid()

    def validation_step(self, batch, batch_idx):
        if hasattr(self, "metrics"):
            self.metrics.update(self.probabilities(self(batch[0])), batch[1])

    test_step = validation_step


def at_best(probabilities, targets, kind) -> tuple[float, torch.Tensor]:
    metric = SampleFBeta(3, threshold=kind)
    metric.update(probabilities, targets)
    return float(metric.compute()), metric.best_thresholds


def at(thresholds, probabilities, targets) -> float:
    metric = SampleFBeta(3)
    metric.fix(thresholds)
    metric.update(probabilities, targets)
    return float(metric.compute())


def predicted(model, images) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the plain probabilities, and those with the mirror image."""
    model.eval()
    with torch.no_grad():
        plain, mirrored = (
            model.probabilities(model(photos)) for photos in (images, images.flip(-1))
        )
    return plain, (plain + mirrored) / 2


@pytest.mark.parametrize("kind", ["one", "per_label"])
def test_plain_and_merged_predictions_are_tested_at_thresholds_of_their_own(kind):
    model, callback = classifier(threshold=kind), TestTimeAugmentation(1, "flips")
    (images, targets), (others, wanted) = rows(0), rows(1)
    val = quiet_trainer(callback).validate(model, loader(0), verbose=False)[0]
    plain, merged = predicted(model, images)
    best = {"f2": at_best(plain, targets, kind), "f2_tta": at_best(merged, targets, kind)}
    for name, (value, thresholds) in best.items():
        assert val[f"val_{name}"] == pytest.approx(value, abs=1e-5)
        found = model.thresholds if name == "f2" else callback.thresholds["f2_tta"]
        assert found.tolist() == pytest.approx(thresholds.tolist())
    if kind == "per_label":
        assert not torch.equal(model.thresholds, callback.thresholds["f2_tta"])

    restored = TestTimeAugmentation(1, "flips")
    restored.load_state_dict(pickle.loads(pickle.dumps(callback.state_dict())))
    plain, merged = predicted(model, others)
    for views in (callback, restored):
        tested = quiet_trainer(views).test(model, loader(1), verbose=False)[0]
        expected = at(best["f2"][1], plain, wanted)
        assert tested["test_f2"] == pytest.approx(expected, abs=1e-5)
        expected = at(best["f2_tta"][1], merged, wanted)
        assert tested["test_f2_tta"] == pytest.approx(expected, abs=1e-5)


def test_losses_compare_where_positives_weigh_more():
    model = classifier(pos_weight=[1.0, 3.0, 0.5])
    callback = TestTimeAugmentation(2, "scales", plain_weight=1.0)
    found = quiet_trainer(callback).test(model, loader(0), verbose=False)[0]
    assert found["test_loss_tta"] == pytest.approx(found["test_loss"], rel=1e-5)
    assert found["test_loss"] != pytest.approx(
        quiet_trainer().test(classifier(), loader(0), verbose=False)[0]["test_loss"], rel=1e-2
    )


def test_metrics_of_a_module_of_ones_own_are_tuned_in_the_validation():
    metrics, model = {"f2": SampleFBeta(3)}, Own()
    callback = TestTimeAugmentation(1, "flips", metrics=metrics)
    with pytest.warns(UserWarning, match="`test_f2_tta` is measured at the thresholds"):
        quiet_trainer(callback).test(model, loader(1), verbose=False)
    quiet_trainer(callback).validate(model, loader(0), verbose=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*is measured at the thresholds")
        tested = quiet_trainer(callback).test(model, loader(1), verbose=False)[0]
    (images, targets), (others, wanted) = rows(0), rows(1)
    for index, name in enumerate(("f2_plain", "f2_tta")):
        thresholds = at_best(predicted(model, images)[index], targets, "one")[1]
        expected = at(thresholds, predicted(model, others)[index], wanted)
        assert tested[f"test_{name}"] == pytest.approx(expected, abs=1e-5)


def test_sigmoids_of_a_module_of_ones_own_have_the_loss_of_several_labels():
    model = Own()
    found = quiet_trainer(TestTimeAugmentation(1, "flips")).test(model, loader(0), verbose=False)[0]
    images, targets = rows(0)
    expected = F.binary_cross_entropy(predicted(model, images)[1], targets).item()
    assert found["test_loss_tta"] == pytest.approx(expected, rel=1e-4)


def test_a_switched_module_is_measured_with_views_by_its_own_metrics():
    model = Own(has_head=True)
    callbacks = MultiLabelSwitch(label_kind="multi"), TestTimeAugmentation(1, "flips")
    val = quiet_trainer(*callbacks).validate(model, loader(0), verbose=False)[0]
    tested = quiet_trainer(*callbacks).test(model, loader(1), verbose=False)[0]
    (images, targets), (others, wanted) = rows(0), rows(1)
    value, thresholds = at_best(predicted(model, images)[1], targets, "one")
    assert val["val_f2_tta"] == pytest.approx(value, abs=1e-5)
    expected = at(thresholds, predicted(model, others)[1], wanted)
    assert tested["test_f2_tta"] == pytest.approx(expected, abs=1e-5)
