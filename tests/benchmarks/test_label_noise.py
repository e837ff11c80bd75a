"""Wrong labels found among 5,000 digits, beside sorting by loss: ``pytest -m benchmark -s``.

``FASTRECIPES_DATA`` names a folder with ``mnist.npz`` (``x_train``, ``y_train``).
"""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lightning_fastrecipes.functional.labels.fold_probabilities import (
    fold_penalty,
    fold_probabilities,
)
from lightning_fastrecipes.functional.labels.label_errors import label_errors, suspicion
from lightning_fastrecipes.nn.backbones import create_backbone

pytestmark = pytest.mark.benchmark

COUNT, SIZE, SHARE = 5000, 96, 20
WANTED = {"random": (0.90, 0.70), "nearest": (0.80, 0.60)}
"""Recall that is asked for, and the precision at which."""


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """Features of digits of all classes by a pretrained network, and their labels."""
    path = Path(os.environ.get("FASTRECIPES_DATA", "")) / "mnist.npz"
    if not path.is_file():
        pytest.skip("FASTRECIPES_DATA names no folder with mnist.npz")
    with np.load(path) as arrays:
        # The file is sorted by class.
        rows = np.random.default_rng(0).permutation(len(arrays["y_train"]))[:COUNT]
        images, labels = arrays["x_train"][rows], arrays["y_train"][rows]
    network = create_backbone("tf_efficientnet_lite0", weights="package:efficientnet-lite0").eval()
    found = []
    with torch.no_grad():
        for part in torch.from_numpy(images).split(100):
            pixels = (part.float() / 127.5 - 1)[:, None].expand(-1, 3, -1, -1)
            found.append(network(interpolate(pixels, size=SIZE, mode="bilinear")))
    if len(np.unique(labels)) != 10:
        pytest.fail("The sample must hold digits of all ten classes.")
    return torch.cat(found), torch.from_numpy(labels).long()


def probabilities(features: Tensor, labels: Tensor) -> npt.NDArray[np.float64]:
    """Try labels as the report of a run does: again without those that seem wrong."""
    penalty = fold_penalty(features, labels, 10)
    first = fold_probabilities(features, labels, 10, penalty=penalty)
    trusted = torch.from_numpy(~label_errors(first.double().numpy(), labels.numpy()))
    found = fold_probabilities(features, labels, 10, trusted=trusted, penalty=penalty)
    return found.double().numpy()


def recall_at(scores: npt.NDArray[np.float64], wrong: npt.NDArray[np.bool_], least: float) -> float:
    """Return the most recall of any cut of the ranked list whose precision is at least that."""
    hits = np.cumsum(wrong[np.argsort(-scores, kind="stable")])
    precise = hits / np.arange(1, len(hits) + 1) >= least
    return float(hits[precise].max(initial=0) / wrong.sum())


@pytest.mark.parametrize("noise", WANTED)
def test_flipped_digits_are_found(digits, noise: str) -> None:
    features, truth = digits
    clean = probabilities(features, truth)
    recalls, at = [], WANTED[noise]
    for seed in range(3):
        generator = np.random.default_rng(seed)
        rows = generator.permutation(COUNT)[: COUNT // SHARE]
        labels = truth.numpy().copy()
        if noise == "random":
            labels[rows] = (labels[rows] + generator.integers(1, 10, len(rows))) % 10
        else:  # the other class that each digit looks most like
            others = clean[rows].copy()
            others[np.arange(len(rows)), labels[rows]] = -1
            labels[rows] = others.argmax(1)
        wrong = labels != truth.numpy()
        found = probabilities(features, torch.from_numpy(labels))
        plain = fold_probabilities(features, torch.from_numpy(labels), 10).double().numpy()
        by_loss = recall_at(-plain[np.arange(COUNT), labels], wrong, at[1])
        recalls.append(recall_at(suspicion(found, labels), wrong, at[1]))
        flagged = label_errors(found, labels)
        print(
            f"\n{noise} {seed}: recall {recalls[-1]:.3f} at precision {at[1]} (by loss"
            f" {by_loss:.3f}); {flagged.sum()} flagged, {wrong[flagged].mean():.3f} of them wrong,"
            f" {wrong[flagged].sum() / wrong.sum():.3f} of the wrong ones"
        )
    accuracy = float((clean.argmax(1) == truth.numpy()).mean())
    print(f"{noise}: recall {np.mean(recalls):.3f}; accuracy of clean labels {accuracy:.3f}")
    assert np.mean(recalls) >= at[0]
