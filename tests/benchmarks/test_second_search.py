"""A finder on models that are trained already: ``pytest -m benchmark -s``, some minutes.

The curve is then mostly flat and rises. Training on at what the finder picks, or at what a recipe
takes where no rule reads the curve, must not make the model worse. ``FASTRECIPES_DATA`` names the
data as ``lr_situations`` describes them.
"""

import logging
import os

import pytest
from helpers.lr_situations import (
    Situation,
    digit_model,
    digits,
    flights,
    in_memory,
    on_features,
    table,
)

from lightning_fastrecipes.nn.small import SmallCNN
from lightning_fastrecipes.recipe.config.schema import LRSearch

pytestmark = pytest.mark.benchmark

FIRST_LR = 3e-3
WORSE = 1.1
"""More than noise and a little over-fitting make of a validation loss."""
MAKE = {
    "digits": lambda batch_size: in_memory(
        "digits", digits, batch_size, digit_model(lambda: SmallCNN(28, (4, 8), 32))
    ),
    "solar cells": lambda batch_size: on_features(
        "solar cells", ("solar", 96), "soft", 2, batch_size
    ),
    "table": lambda batch_size: table("table", lambda: flights(12_500), batch_size),
}


@pytest.mark.parametrize("batch_size", [8, 256])
@pytest.mark.parametrize("name", MAKE)
def test_training_on_at_the_second_pick_does_not_make_it_worse(name: str, batch_size: int) -> None:
    if not os.environ.get("FASTRECIPES_DATA"):
        pytest.skip("FASTRECIPES_DATA names no folder of data")
    for logger in list(logging.root.manager.loggerDict):
        logging.getLogger(logger).setLevel(logging.ERROR)
    situation: Situation = MAKE[name](batch_size)
    ratios = []
    for seed in range(3):
        model = situation.build(seed, FIRST_LR)
        situation.train_model(model, seed)
        before = situation.val_loss(model)
        curve = situation.sweep(seed, model)
        assert situation.val_loss(model) == pytest.approx(before)  # the sweep was taken back
        lr = curve.suggestion or LRSearch().otherwise
        model.set_learning_rates(lr)
        situation.train_model(model, seed + 10)
        ratios.append(situation.val_loss(model) / before)
        how = curve.read_by if curve.suggestion else curve.refusal
        print(f"{name}, batches of {batch_size}, seed {seed}: {lr:.1e} ({how}): {ratios[-1]:.3f}")
    assert max(ratios) < WORSE
