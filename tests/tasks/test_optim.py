"""Optimizers on the CPU: updated in one pass, unless somebody says otherwise."""

from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_fastrecipes import ImageClassifier, ImageRegressor, SmallMLP, TabularRegressor
from lightning_fastrecipes.tasks.optim import Optim, as_optim, build_optimizer

OPTIMIZERS = [
    ("torch.optim.AdamW", {}),
    ("torch.optim.Adam", {"amsgrad": True}),
    ("torch.optim.SGD", {"momentum": 0.9, "nesterov": True}),
]


def groups(device: str = "cpu") -> list[dict[str, Any]]:
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(7, 5, device=device)) for _ in range(2)]
    return [
        {"params": [weight], "lr": 0.1 * (i + 1), "weight_decay": 0.1 * i, "name": str(i)}
        for i, weight in enumerate(weights)
    ]


def trained(path: str, init_args: dict[str, Any]) -> list[torch.Tensor]:
    optimizer = build_optimizer({"class_path": path, "init_args": init_args}, groups())
    for _ in range(5):
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.grad = weight.detach().sin()
        optimizer.step()
    return [weight for group in optimizer.param_groups for weight in group["params"]]


@pytest.mark.parametrize(("path", "init_args"), OPTIMIZERS)
def test_one_pass_trains_the_same(path: str, init_args: dict[str, Any]) -> None:
    assert all(group["fused"] for group in build_optimizer(path, groups()).param_groups)
    one_pass, one_by_one = trained(path, init_args), trained(path, init_args | {"foreach": False})
    for ours, expected in zip(one_pass, one_by_one, strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("chosen", [{"foreach": False}, {"foreach": True}, {"fused": False}])
def test_what_a_user_chooses_stands(chosen: dict[str, bool]) -> None:
    spec = {"class_path": "torch.optim.AdamW", "init_args": chosen}
    assert not any(group["fused"] for group in build_optimizer(spec, groups()).param_groups)


def test_elsewhere_than_on_the_processor_nothing_changes() -> None:
    optimizer = build_optimizer("torch.optim.AdamW", groups("meta"))
    assert {group["fused"] for group in optimizer.param_groups} == {None}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_may_still_be_clipped(precision: str, tmp_path) -> None:
    """Lightning refuses it in mixed precision where a constructor was told ``fused``."""
    network = {
        "class_path": "lightning_fastrecipes.nn.small.SmallMLP",
        "init_args": {"image_size": 12},
    }
    model = ImageClassifier(network, 2, head="linear", num_groups=2)
    before = {name: value.clone() for name, value in model.named_parameters()}
    images = torch.randint(256, (8, 3, 12, 12), dtype=torch.uint8)
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        gradient_clip_val=0.1, precision=precision,
    )  # fmt: skip
    trainer.fit(model, DataLoader(TensorDataset(images, torch.arange(8) % 2), batch_size=4))
    assert all(group["fused"] for group in trainer.optimizers[0].param_groups)
    assert any(not torch.equal(v, before[name]) for name, v in model.named_parameters())


@pytest.mark.parametrize(
    ("lr", "lr_ratio", "message"),
    [
        ([1e-5, 1e-3], 3.0, "`lr_ratio` must be 1 when `lr` names several rates, got 3"),
        ((1e-3, 1e-5), 1.0, "range of rates must rise"),
        (1e-3, 0.5, "`lr_ratio` must be at least 1"),
        (-1e-3, 1.0, "`lr` must be above 0"),
    ],
)
def test_rates_that_fit_no_model_are_refused_where_they_are_given(lr, lr_ratio, message) -> None:
    model = ImageClassifier(SmallMLP(8), 2, head="linear")
    with pytest.raises(ValueError, match=message):
        model.set_learning_rates(lr, lr_ratio)
    assert model.optim == Optim()
    with pytest.raises(ValueError, match=message):
        ImageClassifier(SmallMLP(8), 2, head="linear", lr=lr, lr_ratio=lr_ratio)


def test_both_rates_replace_those_of_the_options_at_once() -> None:
    chosen = as_optim(Optim(lr=1e-2, lr_ratio=3.0), [1e-5, 1e-3], 1.0)
    assert (chosen.lr, chosen.lr_ratio) == ([1e-5, 1e-3], 1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda lr: ImageClassifier(SmallMLP(8), 2, lr=lr),
        lambda lr: ImageRegressor(SmallMLP(8), [{"name": "weight"}], lr=lr),
        lambda lr: TabularRegressor(lr=lr),
    ],
)
def test_rates_may_be_an_array_of_numpy(make) -> None:
    """As the course has them, ``lrs = np.array([1e-4, 1e-3, 1e-2])``."""
    model = make(np.array([1e-4, 1e-3, 1e-2]))
    assert model.optim.lr == model.hparams["optim"]["lr"] == [1e-4, 1e-3, 1e-2]
