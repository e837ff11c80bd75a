"""A fit on labels some of which are unknown: metrics, thresholds, features, views, refusals."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from helpers.trainers import quiet_trainer
from PIL import Image
from torchmetrics.classification import MultilabelAccuracy, MultilabelAUROC

from lightning_fastrecipes import (
    FeatureDataModule,
    ImageClassifier,
    ImageCSVDataModule,
    InitialLossCheck,
    LabelTable,
    Tags,
    TestTimeAugmentation,
)
from lightning_fastrecipes.errors import ConfigurationError

NAMES = ["a", "b", "c"]


@pytest.fixture
def data(tmp_path) -> ImageCSVDataModule:
    generator = np.random.default_rng(0)
    cells = (generator.random((30, 3)) < 0.5).astype(float)
    cells[generator.random((30, 3)) < 0.3] = np.nan
    cells[:, 2] = np.where(generator.random(30) < 0.1, -1, cells[:, 2])
    for number in range(30):
        pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    frame = pd.DataFrame(cells, columns=NAMES)
    frame["file"] = [f"{number}.png" for number in range(30)]
    frame["split"] = ["train"] * 18 + ["val"] * 12
    table = LabelTable(str(tmp_path), labels=Tags(columns=NAMES))
    return ImageCSVDataModule(
        frame, table=table, split="split", image_size=32, batch_size=5, cache="off"
    )


def classifier(**options) -> ImageClassifier:
    torch.manual_seed(0)
    head = {"layout": "linear", "dropout": 0.0}
    return ImageClassifier("test_efficientnet.r160_in1k", head=head, lr=1e-3, **options)


def predicted(model, data) -> tuple[torch.Tensor, torch.Tensor]:
    model.eval()
    with torch.inference_mode():
        batches = [(model(images), targets) for images, targets in data.val_dataloader()]
    logits, targets = (torch.cat(part) for part in zip(*batches, strict=True))
    return logits, targets


def test_what_is_measured_is_that_of_the_known_labels(data) -> None:
    metrics = {"auc": "torchmetrics.classification.MultilabelAUROC", "seen": lambda p, t: t.min()}
    model = classifier(metrics=metrics, labels={"pos_weight": "balanced"})
    check, views = InitialLossCheck(), TestTimeAugmentation(n=1, preset="flips", plain_weight=1.0)
    quiet_trainer(check, max_epochs=1).fit(model, data)
    assert all(result.passed is not False for result in check.results)
    (found,) = quiet_trainer(views).validate(model, data, verbose=False)
    logits, targets = predicted(model, data)
    known = targets >= 0
    assert 0 < int(known.sum()) < known.numel()
    cells = F.binary_cross_entropy_with_logits(
        logits, torch.where(known, targets, 0), pos_weight=model.rules.pos_weight, reduction="none"
    )
    loss = float(cells[known].mean())
    assert found["val_loss"] == pytest.approx(loss, rel=1e-5)
    assert found["val_loss_tta"] == pytest.approx(loss, rel=1e-4)
    auroc = MultilabelAUROC(3, ignore_index=-1)
    auroc.update(logits.sigmoid(), torch.where(known, targets.long(), -1))
    assert found["val_auc"] == pytest.approx(float(auroc.compute()))
    assert found["val_seen"] == -1
    train = data.train_targets
    held, denied = (train == 1).sum(0), (train == 0).sum(0)
    torch.testing.assert_close(model.rules.pos_weight, denied.clamp(1) / held.clamp(1))
    assert bool(torch.isfinite(model.thresholds).all())


def test_precomputed_features_have_the_same_gaps(data) -> None:
    model = classifier()
    model.freeze_to(-1)
    (on_images,) = quiet_trainer().validate(model, data, verbose=False) or [{}]
    features = FeatureDataModule(data, model)
    quiet_trainer(max_epochs=1).fit(model, features)
    again = classifier()
    again.freeze_to(-1)
    features = FeatureDataModule(data, again)
    trainer = quiet_trainer(max_epochs=1, limit_train_batches=0)
    trainer.fit(again, features)
    (found,) = quiet_trainer().validate(again, data, verbose=False)
    assert found["val_loss"] == pytest.approx(on_images["val_loss"], rel=1e-5)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"metrics": {"acc": MultilabelAccuracy(3)}}, "Build it with `ignore_index=-1`"),
        ({"labels": {"loss": lambda z, t: F.binary_cross_entropy_with_logits(z, t)}},
         "gives the mean of all"),
    ],
)  # fmt: skip
def test_what_cannot_leave_gaps_out_is_refused(data, options, match) -> None:
    with pytest.raises(ConfigurationError, match=match):
        quiet_trainer(max_epochs=1).fit(classifier(**options), data)
