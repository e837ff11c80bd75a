"""Epochs of late layers on kept outputs, against the same from images: ``pytest -m benchmark -s``.

Solar cells in eight poses, cut behind the third stage of an EfficientNet-Lite0, as the recipe
``solar_cells`` has it. Pairs run in turn. About 40 minutes on two cores without bfloat16;
``FASTRECIPES_PAIRS`` and ``FASTRECIPES_EPOCHS`` make it shorter or longer (3 and 4).
"""

import os
import statistics
import time

import pytest
import pytorch_lightning as pl
import torch

import lightning_fastrecipes as fr

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("elpv_dataset")

PAIRS = int(os.environ.get("FASTRECIPES_PAIRS", "3"))
EPOCHS = int(os.environ.get("FASTRECIPES_EPOCHS", "4"))
LEAST_RATIO = 1.5
"""How many times faster an epoch must be: the frozen layers are about half of the work forward."""
SPREAD = 0.02
"""How much lower the mean accuracy may be: three cells of the 131 that validate are 0.023."""


class EpochSeconds(pl.Callback):
    """Note the seconds of every training epoch, validation left out."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.seconds.append(time.perf_counter() - self.started)


def cells(seed: int) -> fr.ImageCSVDataModule:
    labels = fr.SoftLabels(["functional", "defective"], probability_column="probability")
    table = fr.LabelTable(
        column_names=["file", "probability", "type"],
        labels=labels,
        stratify_by=["probability", "type"],
    )
    return fr.ImageCSVDataModule(
        "package:elpv_dataset/data/labels.csv",
        table=table,
        split=fr.FractionSplit(0.05, 0.25),
        image_size=160,
        geometry=fr.Geometry(resize="squish"),
        augmentation=fr.Augmentation("top_down", max_zoom=1.0, max_angle=0.0, on_device=True),
        seed=seed,
    )


def trained(way: str, seed: int) -> tuple[list[float], float, float]:
    """Return seconds of each epoch, those before the first, and the validation accuracy."""
    pl.seed_everything(seed, workers=True, verbose=False)
    model = fr.ImageClassifier(
        "tf_efficientnet_lite0",
        2,
        weights="package:efficientnet-lite0",
        num_groups=4,
        norm_policy="eval_if_frozen",
    )
    model.to(memory_format=torch.channels_last)

    def trainer(max_epochs: int, *callbacks: pl.Callback) -> pl.Trainer:
        return pl.Trainer(
            max_epochs=max_epochs, callbacks=list(callbacks), logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            num_sanity_val_steps=0, accelerator="cpu",
        )  # fmt: skip

    images = cells(seed)
    model.freeze()
    model.set_learning_rates(2e-3)
    head = trainer(6, fr.SGDR(cycle_len=6))
    head.fit(model, datamodule=fr.FeatureDataModule(images, model))
    model.freeze_to(1)
    model.set_learning_rates(2e-3, lr_ratio=3)
    clock = EpochSeconds()
    late = trainer(EPOCHS, clock, fr.SGDR(cycle_len=EPOCHS, warm_in=1))
    served = fr.FeatureDataModule(images, model, views="poses") if way == "kept" else images
    started = time.perf_counter()
    late.fit(model, datamodule=served)
    before = time.perf_counter() - started - sum(clock.seconds)
    accuracy = trainer(0).validate(model, datamodule=images, verbose=False)[0]["val_accuracy"]
    return clock.seconds, before, accuracy


def test_epochs_on_kept_outputs_are_faster_at_equal_accuracy(tmp_path, monkeypatch) -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    ratios, accuracies = [], {"kept": [], "images": []}
    for seed in range(PAIRS):
        monkeypatch.setenv("FASTRECIPES_CACHE", str(tmp_path / str(seed)))
        found = {}
        for way in ("kept", "images"):  # in turn, so that a noisy neighbour hits both
            seconds, rest, accuracy = trained(way, seed)
            found[way] = statistics.median(seconds)
            accuracies[way].append(accuracy)
            print(f"seed {seed}, {way}: epochs {seconds}, rest {rest:.0f} s, {accuracy:.4f}")
        ratios.append(found["images"] / found["kept"])
    means = {way: statistics.mean(values) for way, values in accuracies.items()}
    print(f"images / kept: {min(ratios):.2f} to {max(ratios):.2f}; accuracy {means}")
    assert statistics.median(ratios) >= LEAST_RATIO
    assert means["kept"] >= means["images"] - SPREAD
