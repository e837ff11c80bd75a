"""What batch norm does to fine-tuning: ``python norm_policy_worker.py OUT.csv --data FOLDER ...``.

For each data set, backbone and optimizer a head is trained on features, at the rate that the finder
picks. From there every policy trains all layers at ``[lr/9, lr/3, lr]``, a tenth and a hundredth of
them, in cycles of 1 and 2 epochs. One row of the CSV is one policy at one rate: the score before
and after each cycle, with the statistics as training left them and measured anew. Rows that the
file has already are not measured again.

``FOLDER`` holds ``cats_dogs/{cats,dogs}/*.jpg``, ``fashion/tags.csv`` with ``images/`` and
``mnist.npz``; solar cells come with a package. A backbone is ``MODEL=WEIGHTS``.
"""

import argparse
import copy
import csv
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_fastrecipes import ImageClassifier, Labels
from lightning_fastrecipes.functional.training.even_losses import even_losses
from lightning_fastrecipes.functional.training.layer_groups import optimizer_groups
from lightning_fastrecipes.functional.training.lr_curves import suggest_lr, sweep_lrs
from lightning_fastrecipes.functional.training.norm_calibration import (
    measure_inputs,
    store_statistics,
)
from lightning_fastrecipes.tasks.optim import build_optimizer

BATCH = 16
OPTIMIZERS = {
    "adamw": "torch.optim.AdamW",
    "sgd": {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}},
}
TASKS = ["cats_dogs", "fashion_tags", "solar_cells", "fashion_kind", "mnist"]
USUAL_LR = {"adamw": 1e-3, "sgd": 1e-1}
"""The rate of a head where the finder refuses."""
KINDS = [
    "topwear", "shoes", "bottomwear", "bags", "watches", "sandal", "eyewear", "innerwear",
    "flip-flops",
]  # fmt: skip


@dataclass(frozen=True)
class Policy:
    """How batch norm of the backbone computes, and what else guards the training.

    ``mode`` is ``stored``, ``batch``, ``blend`` (the mean of both) or ``renorm`` (the values of the
    stored statistics with the gradients of the batch's).
    """

    mode: str
    momentum: float = 0.1
    clip: float | None = None
    stored_head: bool = False
    calibrated: bool = False


POLICIES = {
    "eval": Policy("stored"),
    "eval+clip": Policy("stored", clip=1.0),
    "eval+head": Policy("stored", stored_head=True),
    "batch": Policy("batch"),
    "batch+clip": Policy("batch", clip=1.0),
    "blend": Policy("blend"),
    "renorm": Policy("renorm"),
    "calibrated": Policy("batch", calibrated=True),
    "calibrated+clip": Policy("batch", calibrated=True, clip=1.0),
    "calibrated+renorm": Policy("renorm", calibrated=True),
    "renorm_slow": Policy("renorm", momentum=0.02),
    "renorm+clip": Policy("renorm", clip=1.0),
}


@dataclass(frozen=True)
class Task:
    """Images ``(N, 3, side, side)`` of both splits, with a margin for crops, and their targets."""

    train: Tensor
    train_targets: Tensor
    val: Tensor
    val_targets: Tensor
    side: int

    @property
    def multi_label(self) -> bool:
        """Whether targets are 0 or 1 for each label."""
        return self.train_targets.ndim == 2

    @property
    def num_classes(self) -> int:
        """Number of classes or labels."""
        both = torch.cat([self.train_targets, self.val_targets])
        return both.shape[1] if self.multi_label else int(both.max()) + 1


def load_task(name: str, folder: Path, side: int, count: int, seed: int) -> Task:
    """Read a data set's images of both splits, at a side 1/8 larger than they are trained at."""
    draw = np.random.default_rng(seed)
    sources: list
    if name == "cats_dogs":
        found = [(p, i) for i, k in enumerate(("cats", "dogs")) for p in _photos(folder / name / k)]
        sources, targets = [p for p, _ in found], np.array([i for _, i in found])
    elif name == "solar_cells":
        package = Path(next(iter(find_spec("elpv_dataset").submodule_search_locations))) / "data"
        rows = [line.split() for line in (package / "labels.csv").read_text().splitlines()]
        rows = [row for row in rows if len(row) == 3]
        sources = [package / row[0] for row in rows]
        targets = np.array([float(row[1]) >= 0.5 for row in rows]).astype(int)
    elif name == "mnist":
        with np.load(folder / "mnist.npz") as arrays:
            sources, targets = list(arrays["x_train"]), arrays["y_train"].astype(int)
    else:
        rows = list(csv.DictReader((folder / "fashion" / "tags.csv").open()))
        tags = [set(row["tags"].split()) for row in rows]
        files = [folder / "fashion" / "images" / row["image"] for row in rows]
        if name == "fashion_tags":
            names = sorted(set().union(*tags))
            targets = np.array([[n in some for n in names] for some in tags], dtype=np.float32)
            sources = files
        else:
            single = [(f, [k for k in KINDS if k in t]) for f, t in zip(files, tags, strict=True)]
            sources = [f for f, kinds in single if len(kinds) == 1]
            targets = np.array([KINDS.index(kinds[0]) for _, kinds in single if len(kinds) == 1])
    rows = draw.permutation(len(sources))[: 2 * count]
    images = torch.stack([_pixels(sources[row], side * 9 // 8) for row in rows])
    chosen = torch.from_numpy(targets[rows])
    return Task(images[:count], chosen[:count], images[count:], chosen[count:], side)


def build(task: Task, backbone: str, optimizer: str) -> ImageClassifier:
    """Build the classifier with pretrained weights."""
    name, _, weights = backbone.partition("=")
    kind = "multi" if task.multi_label else "single"
    return ImageClassifier(
        name,
        task.num_classes,
        weights=weights,
        norm_policy="eval_if_frozen",
        labels=Labels(kind=kind),
        optim={"optimizer": OPTIMIZERS[optimizer]},
    )


def find_lr(model: ImageClassifier, features: Tensor, targets: Tensor, seed: int) -> float | None:
    """Sweep the head's rate as ``LRFinder`` does; ``None`` if the curve is refused."""
    head, start = model.head, copy.deepcopy(model.head.state_dict())
    draw, lrs, losses = torch.Generator().manual_seed(seed), sweep_lrs(1e-7, 10, 200), []
    at_start, start_losses = copy.deepcopy(head).train(), []
    optimizer = _optimizer(model, [0.0, 0.0, 1.0])
    head.train()
    for lr in lrs:
        rows = torch.randint(len(features), (BATCH,), generator=draw)
        with torch.no_grad(), torch.random.fork_rng():
            logits = at_start(features[rows])
            start_losses.append(float(model.loss(logits, targets[rows])))
        _set_lrs(optimizer, [0.0, 0.0, lr])
        losses.append(_step(model, optimizer, features[rows], targets[rows], on_features=True))
        if not math.isfinite(losses[-1]):
            break
    head.load_state_dict(start)
    lrs = lrs[: len(losses)]
    picks = suggest_lr(lrs, even_losses(lrs, losses, start_losses)).picks
    return picks.get("midway", picks.get("before_rise"))


def train_head(model: ImageClassifier, lr: float, features: Tensor, targets: Tensor) -> None:
    """Train the head on features for three epochs in cycles of 1 and 2, as the lesson does."""
    optimizer = _optimizer(model, [0.0, 0.0, lr])
    model.head.train()
    for factor, rows in _schedule(len(features), (1, 2)):
        _set_lrs(optimizer, [0.0, 0.0, lr * factor])
        _step(model, optimizer, features[rows], targets[rows], on_features=True)


def train_all(
    model: ImageClassifier, task: Task, policy: Policy, lr: float, seed: int
) -> dict[str, float]:
    """Train every layer under a policy; return the scores after each cycle."""
    torch.manual_seed(seed)
    model.unfreeze()
    rates, found = [lr / 9, lr / 3, lr], {}
    optimizer = _optimizer(model, rates)
    if policy.calibrated:
        calibrate(model, task)
    handles = apply_policy(model, policy)
    steps = list(_schedule(len(task.train), (1, 2)))
    first = len(steps) // 3
    set_modes(model, policy)
    for index, (factor, rows) in enumerate(steps, start=1):
        _set_lrs(optimizer, [rate * factor for rate in rates])
        images = _augmented(task.train[rows], task.side)
        loss = _step(model, optimizer, images, task.train_targets[rows], clip=policy.clip)
        if not math.isfinite(loss):
            break
        if index == first:
            found["first"], _ = evaluate(model, task)
            set_modes(model, policy)
    found["train_mode_loss"] = loss
    found["score"], found["loss"] = evaluate(model, task)
    found["dead"] = dead_share(model, task)
    for handle in handles:
        handle.remove()
    if policy.mode != "stored":
        remeasure(model, task)
        found["score_remeasured"], found["loss_remeasured"] = evaluate(model, task)
    return found


def norms(model: ImageClassifier) -> list[_BatchNorm]:
    """List the batch norms of the backbone."""
    return [module for module in model.backbone.modules() if isinstance(module, _BatchNorm)]


def set_modes(model: ImageClassifier, policy: Policy) -> None:
    """Go into train mode, but for norms that use their stored statistics."""
    model.train()
    for norm in norms(model):
        norm.train(policy.mode != "stored")
        norm.momentum = policy.momentum
    if policy.stored_head:
        for module in model.head.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def calibrate(model: ImageClassifier, task: Task) -> None:
    """Store the statistics of the training images, as the policy `calibrated` does."""
    model.eval()
    parts = [_middle(part, task.side) for part in task.train.split(64)]
    sums = measure_inputs(norms(model), lambda: [model(part) for part in parts])
    store_statistics(norms(model), sums)


def apply_policy(model: ImageClassifier, policy: Policy) -> list:
    """Hook the norms of a policy that is neither stored nor batch statistics."""
    if policy.mode in ("stored", "batch"):
        return []
    before = {"renorm": renormalised, "blend": blended}[policy.mode]
    handles = []
    for norm in norms(model):
        handles.append(norm.register_forward_pre_hook(before))
        handles.append(norm.register_forward_hook(_back_to_training))
    return handles


def renormalised(norm: _BatchNorm, inputs: tuple[Tensor, ...]) -> tuple[Tensor] | None:
    """Give the norm inputs of the same value, with the gradients of batch normalisation."""
    if not norm.training:
        return None
    normalised, mean, var = _batch_statistics(norm, inputs[0])
    stored = (norm.running_var + norm.eps).sqrt()
    scale = (var / stored).clamp(1 / 3, 3) * stored
    shift = ((mean - norm.running_mean) / stored).clamp(-5, 5) * stored + norm.running_mean
    return (normalised * _channels(scale, normalised) + _channels(shift, normalised),)


def _batch_statistics(norm: _BatchNorm, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return normalised inputs, their mean and deviation, and update what the norm stores."""
    mean, var = torch.zeros_like(norm.running_mean), torch.zeros_like(norm.running_var)
    normalised = nn.functional.batch_norm(x, mean, var, None, None, True, 1.0, norm.eps)
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(var, norm.momentum)
    norm.training = False
    count = x.numel() / x.shape[1]
    return normalised, mean, (var * (count - 1) / count + norm.eps).sqrt()


def _channels(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (like.ndim - 2))


def blended(norm: _BatchNorm, inputs: tuple[Tensor, ...]) -> tuple[Tensor] | None:
    """Normalise by the mean of stored and batch statistics."""
    if not norm.training:
        return None
    normalised, _, _ = _batch_statistics(norm, inputs[0])
    stored = _channels((norm.running_var + norm.eps).sqrt(), normalised)
    as_batch = normalised * stored + _channels(norm.running_mean, normalised)
    return ((inputs[0] + as_batch) / 2,)


def _back_to_training(norm: _BatchNorm, inputs: tuple, output: Tensor) -> None:
    # The pre-hook has put a training norm into eval mode for this call alone.
    norm.training = torch.is_grad_enabled()


@torch.no_grad()
def evaluate(model: ImageClassifier, task: Task) -> tuple[float, float]:
    """Return accuracy, or F2 at its best threshold, and the loss of the validation."""
    model.eval()
    logits = torch.cat([model(_middle(part, task.side)) for part in task.val.split(64)])
    loss = float(model.loss(logits, task.val_targets))
    if not torch.isfinite(logits).all():
        return 0.0, loss
    (metric,) = [
        m for n, m in model.phase_metrics["val_"].items() if n in ("val_accuracy", "val_f2")
    ][-1:]
    metric.reset()
    metric.update(model.probabilities(logits), model.metric_targets(task.val_targets))
    return float(metric.compute()), loss


@torch.no_grad()
def remeasure(model: ImageClassifier, task: Task) -> None:
    """Measure the backbone's statistics anew on the training images as they are, as a fit does."""
    model.eval()
    for norm in norms(model):
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for part in task.train.split(64):
        model(_middle(part, task.side))


@torch.no_grad()
def dead_share(model: ImageClassifier, task: Task) -> float:
    """Return the share of features that are the same for all validation images."""
    model.eval()
    features = model.forward_features(_middle(task.val[:128], task.side))
    return float((features.amax(0) - features.amin(0) < 1e-6).float().mean())


def _schedule(num_rows: int, cycles: tuple[int, ...]) -> Iterator[tuple[float, Tensor]]:
    """Yield the factor of the rate and the rows of every step, by cosine cycles."""
    per_epoch = num_rows // BATCH
    for epochs in cycles:
        total = epochs * per_epoch
        for step in range(total):
            if step % per_epoch == 0:
                order = torch.randperm(num_rows)
            start = step % per_epoch * BATCH
            yield 0.5 * (1 + math.cos(math.pi * step / total)), order[start : start + BATCH]


def _optimizer(model: ImageClassifier, rates: list[float]) -> torch.optim.Optimizer:
    parameters = dict(model.named_parameters())
    groups = optimizer_groups(parameters, model.layer_groups(), rates, model.optim.weight_decay)
    return build_optimizer(model.optim.optimizer, groups)


def _set_lrs(optimizer: torch.optim.Optimizer, rates: list[float]) -> None:
    by_name = dict(zip(("early", "late", "head"), rates, strict=True))
    for group in optimizer.param_groups:
        group["lr"] = by_name[group["name"].partition("/")[0]]


def _step(model, optimizer, inputs, targets, *, on_features=False, clip=None) -> float:
    logits = model.forward_head(inputs) if on_features else model(inputs)
    loss = model.loss(logits, targets)
    optimizer.zero_grad()
    loss.backward()
    if clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return float(loss.detach())


def _augmented(images: Tensor, side: int) -> Tensor:
    spare = images.shape[-1] - side
    top, left = torch.randint(spare + 1, (2,)).tolist()
    crop = images[..., top : top + side, left : left + side]
    flip = torch.rand(len(crop)) < 0.5
    return torch.where(flip.view(-1, 1, 1, 1), crop.flip(-1), crop)


def _middle(images: Tensor, side: int) -> Tensor:
    start = (images.shape[-1] - side) // 2
    return images[..., start : start + side, start : start + side]


def _photos(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jpg"))


def _pixels(source: Path | np.ndarray, side: int) -> Tensor:
    image = Image.fromarray(source) if isinstance(source, np.ndarray) else Image.open(source)
    resized = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


FIELDS = [
    "data", "backbone", "optimizer", "seed", "lr", "found", "factor", "policy", "head", "head_loss",
    "first", "score", "loss", "train_mode_loss", "dead", "score_remeasured", "loss_remeasured",
    "seconds",
]  # fmt: skip


def measure(options: argparse.Namespace) -> None:
    """Write one row for each policy and rate."""
    done = set()
    if options.out.exists():
        keys = ("data", "backbone", "optimizer", "seed", "factor", "policy")
        done = {tuple(row[k] for k in keys) for row in csv.DictReader(options.out.open())}
    with options.out.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if not done:
            writer.writeheader()
        for seed in options.seeds:
            for data in options.tasks:
                task = load_task(data, options.data, options.side, options.images, seed)
                for backbone, optimizer in product(options.backbones, options.optimizers):
                    for row in _rows(task, backbone, optimizer, seed, options, data, done):
                        writer.writerow(row)
                        file.flush()


def _rows(task, backbone, optimizer, seed, options, data, done) -> Iterator[dict]:
    torch.manual_seed(seed)
    name = backbone.partition("=")[0]
    wanted = [
        (factor, policy)
        for factor, policy in product(options.factors, options.policies)
        if (data, name, optimizer, str(seed), str(factor), policy) not in done
    ]
    if not wanted:
        return
    model = build(task, backbone, optimizer)
    model.eval()
    with torch.no_grad():
        parts = task.train.split(64)
        features = torch.cat([model.forward_features(_middle(part, task.side)) for part in parts])
    found = find_lr(model, features, task.train_targets, seed)
    lr = found or USUAL_LR[optimizer]
    train_head(model, lr, features, task.train_targets)
    score, loss = evaluate(model, task)
    for factor, policy in wanted:
        started = time.perf_counter()
        values = train_all(copy.deepcopy(model), task, POLICIES[policy], lr * factor, seed)
        yield {
            "data": data,
            "backbone": name,
            "optimizer": optimizer,
            "seed": seed,
            "lr": f"{lr:.2e}",
            "found": found is not None,
            "factor": factor,
            "policy": policy,
            "head": round(score, 4),
            "head_loss": round(loss, 4),
            **{key: round(value, 4) for key, value in values.items()},
            "seconds": round(time.perf_counter() - started, 1),
        }


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument(
        "--backbones", nargs="+", default=["tf_efficientnet_lite0=package:efficientnet-lite0"]
    )
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS))
    parser.add_argument("--factors", nargs="+", type=float, default=[1.0, 0.1, 0.01])
    parser.add_argument("--policies", nargs="+", default=list(POLICIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--images", type=int, default=320, help="of each split")
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
