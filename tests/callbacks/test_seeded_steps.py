"""The random numbers that a training batch meets."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from lightning_fastrecipes.callbacks.seeded_steps import SeededSteps


def draw() -> tuple[float, float, float]:
    return torch.rand(1, dtype=torch.float64).item(), float(np.random.rand()), random.random()


def draw_at(seed: int = 1, rank: int = 0, epoch: int = 0, batch_idx: int = 0):
    trainer = SimpleNamespace(global_rank=rank, current_epoch=epoch)
    SeededSteps(seed).on_train_batch_start(trainer, None, None, batch_idx)
    return draw()


class Draws(pl.Callback):
    """Note what each generator gives in each batch, and use up more on the way."""

    def __init__(self, wasted: int = 0) -> None:
        self.wasted = wasted
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.seen.append(draw())
        for _ in range(self.wasted):
            draw()


def test_every_batch_of_every_epoch_draws_its_own_numbers(fit):
    draws = Draws()
    fit([SeededSteps(seed=1), draws], max_epochs=3, accumulate_grad_batches=2)
    for numbers in zip(*draws.seen, strict=True):
        assert len(set(numbers)) == 15


def test_draws_do_not_depend_on_what_was_drawn_before(fit):
    once, again = Draws(), Draws(wasted=3)
    fit([SeededSteps(seed=1), once], max_epochs=2)
    draw()
    fit([SeededSteps(seed=1), again], max_epochs=2)
    assert once.seen == again.seen
    assert once.seen[7] == draw_at(epoch=1, batch_idx=2)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"seed": 2}, id="seed"),
        pytest.param({"rank": 1}, id="process"),
        pytest.param({"epoch": 1}, id="epoch"),
        pytest.param({"batch_idx": 1}, id="batch"),
    ],
)
def test_another_place_in_training_draws_other_numbers(other):
    assert draw_at() == draw_at()
    assert all(one != two for one, two in zip(draw_at(), draw_at(**other), strict=True))


def test_place_in_training_is_not_confused_with_its_mirror():
    places = [(1, 2, 3), (1, 3, 2), (2, 1, 3), (2, 3, 1), (3, 1, 2), (3, 2, 1)]
    assert len({draw_at(1, *place) for place in places}) == 6


def test_dropout_masks_are_those_of_the_seed(fit, tiny_task):
    first, same, other = (
        fit([SeededSteps(seed)], tiny_task(dropout=0.5), max_epochs=1) for seed in (1, 1, 2)
    )
    assert torch.equal(first.weights["head.weight"], same.weights["head.weight"])
    assert not torch.equal(first.weights["head.weight"], other.weights["head.weight"])


def test_generators_are_left_as_they_are_after_the_fit(fit):
    fit([SeededSteps(seed=1)], max_epochs=1, limit_val_batches=0)
    after_fit = draw()
    assert after_fit == draw_at(batch_idx=4)


@pytest.mark.parametrize("in_use", [True, False], ids=["cuda-in-use", "cuda-not-in-use"])
def test_cuda_is_seeded_only_while_it_is_in_use(in_use, monkeypatch):
    seeds = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: in_use)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    draw_at()
    assert seeds == ([torch.initial_seed()] if in_use else [])
