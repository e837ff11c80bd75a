"""Which backbone: a short table of good timm models, with what each costs."""

import time
from dataclasses import dataclass

import pandas as pd
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.nn.weights import PACKAGES

SOURCE = "huggingface/pytorch-image-models, results/results-imagenet.csv, commit 0173a139"
"""Where the published accuracies and their image sizes are from."""

RECOMMENDED = "convnext_nano"


@dataclass(frozen=True)
class _Choice:
    """A model and its default weights, with their published accuracy in per cent and its size."""

    name: str
    weights: str
    accuracy: float
    image_size: int
    when: str


_CHOICES = (
    _Choice("mobilenetv3_large_100", "ra_in1k", 75.766, 224, "few multiply-adds: phones, CPUs"),
    _Choice("tf_efficientnet_lite0", "in1k", 74.830, 224, "no network at hand; CPUs"),
    _Choice("tf_efficientnet_lite1", "in1k", 76.644, 240, "no network at hand, a little better"),
    _Choice("tf_efficientnet_lite2", "in1k", 77.464, 260, "no network at hand, better still"),
    _Choice("efficientnet_b0", "ra_in1k", 77.694, 224, "few parameters"),
    _Choice("efficientnet_b3", "ra2_in1k", 82.242, 320, "few parameters, large images"),
    _Choice("tf_efficientnetv2_s", "in21k_ft_in1k", 84.288, 384, "large images on a GPU"),
    _Choice("resnet18", "a1_in1k", 73.158, 288, "a first try, in seconds"),
    _Choice("resnet34", "a1_in1k", 77.918, 288, "the lesson's start"),
    _Choice("resnet50", "a1_in1k", 81.214, 288, "to compare with what others report"),
    _Choice("resnext50_32x4d", "a1h_in1k", 82.014, 288, "the lessons' larger network"),
    _Choice("regnety_032", "ra_in1k", 82.728, 288, "a good network of convolutions and batch norm"),
    _Choice("convnext_nano", "in12k_ft_in1k", 82.862, 288, "most tasks: accurate for its cost"),
    _Choice("convnext_tiny", "in12k_ft_in1k", 84.450, 288, "when twice the cost pays"),
    _Choice("convnext_small", "in12k_ft_in1k", 85.330, 288, "the most accurate here, on a GPU"),
    _Choice("vit_small_patch16_224", "augreg_in21k_ft_in1k", 81.384, 224, "a transformer to try"),
)


def backbones(name: str = "", *, measure: bool = False) -> pd.DataFrame:
    """Return some good backbones for ``ImageClassifier``, the cheapest first.

    Columns: ``name``; ``weights``, the tag of timm's default weights; ``parameters`` in millions
    and ``multiply_adds`` of an image in billions, counted, with the classifier; ``accuracy``,
    published for ImageNet in per cent of first guesses, and ``image_size`` in pixels, for it and
    for the multiply-adds; ``offline``, the ``weights=`` that need no model hub but an installed
    package; ``when`` to choose it; and, if measured, ``seconds`` for an image on this machine,
    forward alone. What counts is the accuracy on your task: try two.

    Args:
        name: Part of the names to list; all if empty.
        measure: Measure the seconds, which takes about a minute on a CPU.

    Returns:
        A row for each backbone; the attributes ``recommended`` and ``source`` of ``attrs``.

    Raises:
        ConfigurationError: If no name has this part.
    """
    found = [choice for choice in _CHOICES if name.lower() in choice.name]
    if not found:
        known = ", ".join(choice.name for choice in _CHOICES)
        raise ConfigurationError(
            f"`name` must be part of a name in the table, got {name!r}. The table has {known};"
            " `timm.list_models()` knows them all."
        )
    packaged = {model: package for package, model in PACKAGES.items()}
    rows = []
    for choice in found:
        network, size = _build(choice, "meta")
        row = {
            "name": choice.name,
            "weights": choice.weights,
            "parameters": sum(p.numel() for p in network.parameters()) / 1e6,
            "multiply_adds": _multiply_adds(network, size) / 1e9,
            "accuracy": choice.accuracy,
            "image_size": choice.image_size,
            "offline": packaged.get(choice.name, ""),
            "when": choice.when,
        }
        if measure:
            row["seconds"] = _seconds(*_build(choice, "cpu"))
        rows.append(row)
    table = pd.DataFrame(rows).sort_values("multiply_adds", ignore_index=True)
    table.attrs |= {"recommended": RECOMMENDED, "source": SOURCE}
    return table


def _build(choice: _Choice, device: str) -> tuple[nn.Module, int]:
    with torch.device(device):
        network: nn.Module = timm.create_model(choice.name).eval()
    return network, choice.image_size


def _multiply_adds(network: nn.Module, size: int) -> float:
    """Count those of an image by torch's counter, which has two operations for each."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, size, size, device="meta"))
    return float(counter.get_total_flops()) / 2


def _seconds(network: nn.Module, size: int, num_images: int = 4) -> float:
    """Measure the forward pass on the GPU, if there is one: the best of three, for an image."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    images = torch.zeros(num_images, 3, size, size, device=device)
    times = []
    with torch.inference_mode():
        for _ in range(4):
            started = time.perf_counter()
            # Reading a number waits for a GPU.
            float(network(images).sum())
            times.append(time.perf_counter() - started)
    return min(times[1:]) / num_images
