"""What a sweep costs, and how far its suggestion is to be trusted beside those of the peers.

``FASTRECIPES_PHOTOS`` names a folder of photos, one folder per class. fastai is asked where it is
installed: in an environment of its own, since nothing here needs it.
"""

import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.tuner.lr_finder import _LRFinder

from lightning_fastrecipes import (
    FeatureDataModule,
    ImageClassifier,
    ImageFolderDataModule,
    LRFinder,
    lr_find,
)
from lightning_fastrecipes.callbacks.lr_finder import run_finder
from lightning_fastrecipes.functional.training.lr_curves import smooth_losses, suggest_lr, sweep_lrs
from lightning_fastrecipes.recipe.config.defaults import default_precision

try:  # here, since it changes the environment
    from fastai.callback import schedule as fastai_schedule
except ImportError:
    fastai_schedule = None

pytestmark = [
    pytest.mark.benchmark,
    # Photos that are in two splits do not change what a step takes.
    pytest.mark.filterwarnings("ignore:Splits share images"),
]

NUM_STEPS = 100
QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "limit_val_batches": 0,
}


def quiet(model: pl.LightningModule) -> dict:
    return QUIET | {"precision": default_precision("auto", model)}


class StepSeconds(pl.Callback):
    """Time steps of training, from the start of the first to the end of the last."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == 0:
            self.started = time.perf_counter()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.seconds = time.perf_counter() - self.started


@pytest.fixture
def photos() -> ImageFolderDataModule:
    folder = os.environ.get("FASTRECIPES_PHOTOS")
    if not folder:
        pytest.skip("FASTRECIPES_PHOTOS names no folder of photos")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return ImageFolderDataModule(folder, batch_size=8, image_size=128)


def build_model() -> ImageClassifier:
    torch.manual_seed(0)
    model = ImageClassifier("tf_efficientnet_lite0", num_classes=2)
    return model.to(memory_format=torch.channels_last)


def seconds_of_training(images: pl.LightningDataModule) -> float:
    clock, model = StepSeconds(), build_model()
    trainer = pl.Trainer(max_steps=NUM_STEPS, max_epochs=99, callbacks=[clock], **quiet(model))
    trainer.fit(model, datamodule=images)
    return clock.seconds


class TimedFinder(LRFinder):
    """Time the sweep with everything that it saves and puts back, as training is timed."""

    def on_train_batch_start(self, *arguments) -> None:
        started = time.perf_counter()
        super().on_train_batch_start(*arguments)
        self.seconds = time.perf_counter() - started


def seconds_of_sweep(model: ImageClassifier, data: pl.LightningDataModule) -> float:
    # A small range, so that the sweep does not end early.
    finder = TimedFinder(1e-8, 1e-5, NUM_STEPS, on_refusal="ignore")
    assert len(run_finder(finder, model, data, **quiet(model)).lrs) == NUM_STEPS
    return finder.seconds


def test_a_sweep_costs_its_steps_and_a_forward_pass_each(photos) -> None:
    ratios = []
    for _ in range(4):  # in turn, so that a noisy neighbour hits both
        training = seconds_of_training(photos)
        sweeping = seconds_of_sweep(build_model(), photos)
        ratios.append(sweeping / training)
        print(f"training {training:.1f} s, sweep {sweeping:.1f} s")
    print(f"sweep / training: {min(ratios):.2f} to {max(ratios):.2f}")
    # A forward pass is about a third of a step.
    assert statistics.median(ratios) <= 1.1 + 0.4


def test_a_sweep_on_features_takes_no_three_seconds(photos) -> None:
    model = build_model()
    model.freeze()
    features = FeatureDataModule(photos, model)
    photos.batch_size = 64
    lr_find(model, features, num_steps=30, **quiet(model))  # computes the features
    seconds = [seconds_of_sweep(model, features) for _ in range(3)]
    print(f"100 steps on the features of {len(photos.eval_dataset('train'))} photos: {seconds}")
    assert statistics.median(seconds) < 3


def lightning_pick(lrs: list[float], losses: list[float]) -> float:
    """Ask Lightning, which smooths while it sweeps, about the same losses."""
    finder = _LRFinder("exponential", lrs[0], lrs[-1], len(lrs))
    finder.results = {"lr": lrs, "loss": smooth_losses(losses)}
    return finder.suggestion(skip_begin=10, skip_end=1) or float("nan")


def fastai_picks() -> dict[str, Callable[[list[float], list[float]], float]]:
    """Ask fastai's rules, which see the smoothed losses from the tenth step to the fifth last."""
    if fastai_schedule is None:
        return {}

    def ask(rule: str) -> Callable[[list[float], list[float]], float]:
        def pick(lrs: list[float], losses: list[float]) -> float:
            smooth = smooth_losses(losses)
            seen = slice(len(lrs) // 10, -5)
            picked = getattr(fastai_schedule, rule)(
                torch.tensor(lrs[seen]), torch.tensor(smooth[seen]), len(lrs)
            )[0]
            return float(picked) if picked is not None else float("nan")

        return pick

    return {f"fastai's {rule}": ask(rule) for rule in ("valley", "slide", "steep", "minimum")}


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
def test_suggestions_on_noisy_curves_beside_those_of_the_peers(share: float) -> None:
    lrs = sweep_lrs(1e-7, 1.0, NUM_STEPS)
    decades = np.log10(lrs)
    clean = 2.3 - 1.6 / (1 + np.exp(-(decades + 2.5) / 0.35)) + np.exp(decades / 0.22)
    asks = {
        "ours": lambda losses: suggest_lr(lrs, losses).picks.get("midway", float("nan")),
        "Lightning": lambda losses: lightning_pick(lrs, losses),
        **{
            name: lambda losses, pick=pick: pick(lrs, losses)
            for name, pick in fastai_picks().items()
        },
    }
    near = {}
    for name, ask in asks.items():
        truth = ask(clean.tolist())
        noisy = (
            clean + np.random.default_rng(seed).normal(0, share * clean[0], len(lrs))
            for seed in range(20)
        )
        found = [ask(losses.tolist()) for losses in noisy]
        near[name] = sum(truth / 3 <= lr <= truth * 3 for lr in found)
        print(
            f"noise {share}: {name} {near[name]} of 20 within a factor 3 of {truth:.1e};"
            f" {min(found):.1e} to {max(found):.1e}"
        )
    assert near["ours"] >= 19
