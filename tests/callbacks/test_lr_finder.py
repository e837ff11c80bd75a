"""The LR finder: rates that reach training, ratios that stay, and no trace of the sweep."""

import copy
import json
import math
import os
import random
import signal
import warnings
from collections import Counter

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
from torchmetrics import MeanMetric

from lightning_fastrecipes import SGDR, ImageClassifier, LRFinder, life_signs, lr_find
from lightning_fastrecipes.callbacks import lr_finder
from lightning_fastrecipes.callbacks.engine import sweeping
from lightning_fastrecipes.callbacks.engine.lr_curve import LRCurve
from lightning_fastrecipes.errors import ConfigurationError

pytestmark = pytest.mark.both


class Probe(pl.Callback):
    """Note everything that a sweep must leave alone, right before or after the finder."""

    def __init__(self) -> None:
        self.found = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if batch_idx or trainer.current_epoch not in (0, 1):
            return
        optimizer = trainer.optimizers[0]
        self.found.append(
            {
                "tensors": {k: v.clone() for k, v in pl_module.state_dict().items()},
                "gradients": [p.grad is None for p in pl_module.parameters()],
                "optimizer": {
                    i: {k: v.clone() for k, v in state.items()}
                    for i, state in optimizer.state_dict()["state"].items()
                },
                "modes": [m.training for m in pl_module.modules()],
                "torch": torch.get_rng_state(),
                "numpy": np.random.get_state()[1].tolist(),
                "python": random.getstate(),
                "loops": (trainer.global_step, trainer.current_epoch, trainer.should_stop),
                "plain": (pl_module.num_calls, list(pl_module.outputs)),
                "metric": (pl_module.mean.mean_value.clone(), pl_module.mean._update_count),
                "callbacks": list(trainer.callbacks),
            }
        )


@pytest.fixture
def rich_task(tiny_task):
    """A task with everything that a sweep could leave its traces in."""

    class RichTask(tiny_task):
        def __init__(self, dropout: float = 0.1) -> None:
            super().__init__(dropout)
            self.norm = nn.BatchNorm1d(8)
            self.mean = MeanMetric()
            self.num_calls = 0
            self.outputs = []
            self.norm.weight.requires_grad_(False)

        def training_step(self, batch, batch_idx):
            inputs, targets = batch
            random.random()
            np.random.rand()
            self.num_calls += 1
            loss = nn.functional.cross_entropy(self.head(self.norm(self.backbone(inputs))), targets)
            self.mean.update(loss.detach())
            self.outputs.append(loss.detach())
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            return loss

    return RichTask


FINDER = {"min_lr": 1e-5, "max_lr": 1000.0, "num_steps": 60}


def assert_equal(before, after) -> None:
    assert before.keys() == after.keys()
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_sweep_leaves_no_trace(epoch, fit, rich_task):
    before, after = Probe(), Probe()
    finder = LRFinder(**FINDER, epochs=(epoch,))
    fit([before, finder, after], rich_task(), _loader(), max_epochs=2)
    assert len(finder.curves[epoch].losses) > 20
    ours, theirs = before.found[epoch], after.found[epoch]
    for name in ("tensors", "optimizer"):
        assert str(ours[name].keys()) == str(theirs[name].keys())
    assert_equal(ours["tensors"], theirs["tensors"])
    for index, state in ours["optimizer"].items():
        assert_equal(state, theirs["optimizer"][index])
    assert torch.equal(ours["torch"], theirs["torch"])
    assert torch.equal(ours["metric"][0], theirs["metric"][0])
    assert ours["metric"][1] == theirs["metric"][1]
    assert len(ours["plain"][1]) == len(theirs["plain"][1])
    for name in ("gradients", "modes", "numpy", "python", "loops", "callbacks"):
        assert ours[name] == theirs[name], name
    assert ours["plain"][0] == theirs["plain"][0]


def test_a_sweep_that_raises_leaves_no_trace_either(fit, rich_task):
    class Failing(rich_task):
        fails = True

        def training_step(self, batch, batch_idx):
            if self.num_calls == 13 and self.fails:
                raise RuntimeError("the disk is full")
            return super().training_step(batch, batch_idx)

    task, preserved_state = Failing(), Failing()
    before = {name: value.clone() for name, value in preserved_state.state_dict().items()}
    state = random.getstate()
    with pytest.raises(RuntimeError, match="the disk is full"):
        lr_find(task, _loader(), accelerator="cpu", **FINDER)
    assert_equal(before, dict(task.state_dict()))
    assert (task.num_calls, task.outputs) == (0, [])
    assert random.getstate() == state
    assert "log" not in vars(task)


def _loader(num_samples=160, batch_size=32, shuffle=True) -> DataLoader:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(num_samples, 4, generator=generator)
    targets = inputs[:, :3].argmax(dim=1)
    return DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size, shuffle=shuffle)


def test_training_after_a_sweep_is_training_with_the_found_rates(fit, rich_task, tiny_loader):
    """The whole fit after the sweep is, bit for bit, the one configured with its rates."""
    torch.manual_seed(0)
    finder = LRFinder(**FINDER)
    found = fit([finder, SGDR()], rich_task(), _loader(), max_epochs=2)
    lr = finder.curve.suggestion

    class Configured(rich_task):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            for group in optimizer.param_groups:
                group["lr"] *= lr / 0.1
            return optimizer

    torch.manual_seed(0)
    configured = fit([SGDR()], Configured(), _loader(), max_epochs=2)
    assert found.lrs == configured.lrs
    assert_equal(configured.weights, found.weights)


def one_cycle(optimizer):
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=[0.01, 0.1], total_steps=15, pct_start=1 / 3
    )


def cyclic(optimizer):
    return torch.optim.lr_scheduler.CyclicLR(optimizer, [0.001, 0.01], [0.01, 0.1], step_size_up=3)


def warmed_cosine(optimizer):
    schedulers = torch.optim.lr_scheduler
    parts = [schedulers.LinearLR(optimizer, 0.1, total_iters=3)]
    parts.append(schedulers.CosineAnnealingLR(optimizer, 12))
    return schedulers.SequentialLR(optimizer, parts, milestones=[3])


SCHEDULERS = {
    "lambda": lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 0.9**s),
    "step": lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5),
    "cosine": lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 15),
    "restarts": lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 5),
    "one-cycle": one_cycle,
    "cyclic": cyclic,
    "sequence": warmed_cosine,
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_highest_rate_in_training_is_the_suggestion_under_any_schedule(name, fit, rich_task):
    class Scheduled(rich_task):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            scheduler = {"scheduler": SCHEDULERS[name](optimizer), "interval": "step"}
            return {"optimizer": optimizer, "lr_scheduler": scheduler}

    finder = LRFinder(**FINDER)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*scheduler.*")
        done = fit([finder], Scheduled(), _loader(), max_epochs=3)
    heads = [lrs[1] for lrs in done.lrs]
    assert max(heads) == pytest.approx(finder.curve.suggestion, rel=1e-6)
    for backbone, head in done.lrs:
        assert head / backbone == pytest.approx(10, rel=1e-9)


def test_without_a_schedule_every_step_takes_the_suggestion_and_ratios_stay(fit, tiny_task):
    finder = LRFinder(**FINDER)
    done = fit([finder], tiny_task(), _loader(), max_epochs=1)
    lr = finder.curve.suggestion
    assert done.lrs == [pytest.approx([lr / 10, lr])] * 5
    assert finder.curve.group_lrs == pytest.approx({"backbone": lr / 10, "head": lr})


def test_the_sweep_scales_all_groups_by_one_factor(fit, tiny_task):
    swept = []

    class Watched(tiny_task):
        def on_before_optimizer_step(self, optimizer):
            swept.append([group["lr"] for group in optimizer.param_groups])

    finder = LRFinder(1e-4, 1.0, num_steps=30, on_refusal="ignore")
    fit([finder], Watched(), _loader(), max_epochs=1)
    sweep = np.array(swept[: len(finder.curve.lrs)])
    np.testing.assert_allclose(sweep[:, 1], finder.curve.lrs)
    np.testing.assert_allclose(sweep[:, 0] * 10, sweep[:, 1])


def test_frozen_groups_stay_frozen_and_the_last_trained_one_counts(fit, tiny_task):
    class HeadFrozen(tiny_task):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            self.head.requires_grad_(False)
            return optimizer

    finder = LRFinder(**FINDER)
    done = fit([finder], HeadFrozen(), _loader(), max_epochs=1)
    assert finder.curve.group_ratios == {"backbone": 1.0, "head": 0.0}
    assert done.lrs[0][0] == pytest.approx(finder.curve.suggestion)


@pytest.mark.parametrize(
    ("lrs", "expected"),
    [
        pytest.param((0.1, 0.1), {"net": 1.0}, id="one-layer-group"),
        pytest.param((0.01, 0.1), {"net/a": 0.1, "net/b": 1.0}, id="names-of-the-users-own"),
    ],
)
def test_groups_that_share_a_layer_and_a_rate_are_told_as_one(lrs, expected, tiny_task):
    class Named(tiny_task):
        def configure_optimizers(self):
            parts = zip(("net/a", "net/b"), (self.backbone, self.head), lrs, strict=True)
            groups = [{"name": n, "params": p.parameters(), "lr": lr} for n, p, lr in parts]
            return torch.optim.SGD(groups)

    curve = lr_find(Named(), _loader(), accelerator="cpu", **FINDER)
    assert curve.group_ratios == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:`lr_find` cannot suggest")
def test_a_short_loader_is_cycled_whatever_the_number_of_epochs(fit, tiny_task):
    curve = lr_find(tiny_task(), _loader(64), accelerator="cpu", num_steps=50, max_lr=1.0)
    assert len(curve.lrs) == 50


def test_a_curve_without_a_suggestion_is_warned_of_and_sets_no_rates(tiny_task):
    model = tiny_task()
    with pytest.warns(UserWarning, match="`lr_find` cannot suggest a learning rate: .*20 points"):
        curve = lr_find(model, _loader(64), accelerator="cpu", num_steps=20, max_lr=1e9)
    assert curve.suggestion is None
    classifier = ImageClassifier("test_resnet.r160_in1k", 2)
    before = classifier.optim.lr
    with pytest.raises(ConfigurationError, match=r"got None\. A curve without a suggestion"):
        classifier.set_learning_rates(curve.suggestion, lr_ratio=3)
    assert classifier.optim.lr == before


def test_one_point_is_one_optimizer_step_under_accumulation(fit, tiny_task, tiny_loader):
    plain, halves = LRFinder(**FINDER), LRFinder(**FINDER)
    fit([plain], tiny_task(), _loader(shuffle=False), max_epochs=1)
    fit(
        [halves],
        tiny_task(),
        _loader(160, 16, shuffle=False),
        max_epochs=1,
        accumulate_grad_batches=2,
    )
    assert len(plain.curve.losses) == len(halves.curve.losses)
    np.testing.assert_allclose(halves.curve.losses, plain.curve.losses, rtol=1e-4)


def test_a_step_that_the_scaler_skips_adds_no_point(fit, tiny_task, monkeypatch):
    class Scaler:
        """Skips every second step, as a scaler does that meets an overflow."""

        scale, calls = 1024.0, 0

        def get_scale(self):
            self.calls += 1
            if self.calls % 4 == 0:
                self.scale /= 2
            return self.scale

    class Skipping(LRFinder):
        def on_train_batch_start(self, trainer, *rest):
            trainer.precision_plugin.scaler = Scaler()
            super().on_train_batch_start(trainer, *rest)
            del trainer.precision_plugin.scaler

    swept = []

    class Watched(tiny_task):
        def on_before_optimizer_step(self, optimizer):
            swept.append(optimizer.param_groups[1]["lr"])

    finder = Skipping(1e-5, 0.1, num_steps=30, on_refusal="ignore")
    fit([finder], Watched(), _loader(), max_epochs=1)
    assert len(finder.curve.losses) == 30
    assert swept[1:4] == pytest.approx([finder.lrs[1], finder.lrs[1], finder.lrs[2]])


@pytest.mark.parametrize("on", ["train", "val"])
@pytest.mark.parametrize("accumulated", [1, 3])
def test_every_batch_is_asked_at_the_weights_of_the_start_too(
    on, accumulated, rich_task, monkeypatch
):
    """At rates that change nothing both losses are the same, dropout and draws included."""
    found = []

    def recorded(*arguments):
        found.append(sweeping.sweep(*arguments))
        return found[-1]

    monkeypatch.setattr(lr_finder, "sweep", recorded)
    loader = _loader(num_samples=96, batch_size=8)
    arguments = {"val_dataloaders": _loader(), "accelerator": "cpu"}
    arguments |= {"accumulate_grad_batches": accumulated, "on": on}
    curve = lr_find(rich_task(dropout=0.5), loader, **FINDER | {"min_lr": 1e-12}, **arguments)
    losses, at_start = map(np.array, found[0])
    assert losses[:25] == pytest.approx(at_start[:25], abs=1e-5)
    assert np.ptp(losses[:25]) > 0.01
    assert np.ptp(curve.losses[:25]) < 1e-4
    # As the weights move away, the start stays where it was.
    assert abs(losses[-1] - at_start[-1]) > 0.5
    assert abs(at_start[-5:].mean() - at_start[:25].mean()) < 0.4


def test_validation_loss_is_that_of_the_validation_batches(fit, tiny_task):
    class Validated(tiny_task):
        def training_step(self, batch, batch_idx):
            assert self.trainer.training
            return super().training_step(batch, batch_idx)

        def __init__(self, returns: bool) -> None:
            super().__init__(dropout=0.9)
            self.returns = returns
            self.mean = MeanMetric()

        def validation_step(self, batch, batch_idx):
            assert not self.training
            # Datamodules augment by this on the device.
            assert self.trainer.validating
            loss = nn.functional.cross_entropy(self.head(self.backbone(batch[0])), batch[1])
            if self.returns:
                return loss
            self.mean.update(loss)
            self.log("val_loss", self.mean)
            return None

    def find(task, **options):
        torch.manual_seed(0)
        arguments = {"val_dataloaders": _loader(64), "accelerator": "cpu", **FINDER, **options}
        return lr_find(task, _loader(), **arguments)

    returned, logged = (find(Validated(returns), on="val") for returns in (True, False))
    assert returned.losses == logged.losses
    assert returned.on == "val"
    assert returned.losses != find(Validated(True)).losses


def test_hooks_that_change_batches_are_called(fit, tiny_task):
    class Data(pl.LightningDataModule):
        def train_dataloader(self):
            return _loader()

        def on_before_batch_transfer(self, batch, dataloader_idx):
            return [batch[0] * 0, batch[1]]

        def on_after_batch_transfer(self, batch, dataloader_idx):
            return [batch[0] + 7, batch[1]]

    class Witness(tiny_task):
        def training_step(self, batch, batch_idx):
            assert batch[0].unique().tolist() == [7.0]
            return super().training_step(batch, batch_idx)

    assert len(lr_find(Witness(), Data(), accelerator="cpu", **FINDER).lrs) > 10


def test_other_callbacks_and_loggers_hear_nothing_of_the_sweep(fit, tiny_task, tmp_path):
    class Witness(pl.Callback):
        steps = 0
        loads = 0

        def on_before_zero_grad(self, *_):
            self.steps += 1

        def load_state_dict(self, state):
            self.loads += 1

    class Logging(tiny_task):
        def training_step(self, batch, batch_idx):
            self.logger.log_metrics({"step": 1.0})
            self.log_dict({"a": 1.0}, on_step=True)
            return super().training_step(batch, batch_idx)

    witness, logger = Witness(), CSVLogger(tmp_path)
    trainer = pl.Trainer(
        max_epochs=1,
        callbacks=[LRFinder(**FINDER), witness],
        logger=logger,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
        limit_val_batches=0,
    )
    trainer.fit(Logging(), _loader())
    assert (witness.steps, witness.loads) == (5, 0)
    rows = (tmp_path / "lightning_logs/version_0/metrics.csv").read_text().splitlines()
    assert sum("lr_finder/midway" in row for row in rows) == 1
    assert len(rows) <= 2 + 2 * 5


def test_persistent_workers_and_generators_of_loaders_are_left_alone(fit, tiny_task):
    def loader():
        generator = torch.Generator().manual_seed(3)
        dataset = _loader().dataset
        return DataLoader(
            dataset,
            32,
            shuffle=True,
            generator=generator,
            num_workers=1,
            persistent_workers=True,
            multiprocessing_context="fork",
        )

    def seen(*callbacks):
        batches = []

        class Watch(pl.Callback):
            def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
                batches.append(batch[0].clone())

        torch.manual_seed(0)
        fit([*callbacks, Watch()], tiny_task(), loader(), max_epochs=2)
        return batches

    plain, swept = seen(), seen(LRFinder(**FINDER))
    assert len(plain) == len(swept) == 10
    assert all(torch.equal(a, b) for a, b in zip(plain, swept, strict=True))


def test_several_loaders_at_once_give_the_batches_that_training_gets(tiny_task):
    class Two(tiny_task):
        def training_step(self, batch, batch_idx):
            assert set(batch) == {"a", "b"}
            return super().training_step(batch["a"], batch_idx)

    curve = lr_find(Two(), {"a": _loader(), "b": _loader(64)}, accelerator="cpu", **FINDER)
    assert len(curve.lrs) > 20


def test_a_resumed_fit_is_not_swept(fit, tiny_task, tmp_path):
    keeper = ModelCheckpoint(tmp_path)
    finder = LRFinder(**FINDER)
    first = fit([finder, keeper], loader=_loader(), max_epochs=1, enable_checkpointing=True)
    again = LRFinder(**FINDER)
    with pytest.warns(UserWarning, match=r"skipped for the epochs \[0\], since the fit resumes"):
        second = fit([again], loader=_loader(), max_epochs=2, ckpt_path=keeper.best_model_path)
    assert again.curves == {}
    assert len(second.lrs) == 5
    assert second.lrs[0] == first.lrs[-1]


def test_a_sweep_of_a_later_epoch_happens_in_a_resumed_fit_too(fit, tiny_task, tmp_path):
    keeper = ModelCheckpoint(tmp_path)
    fit([keeper], tiny_task(), _loader(shuffle=False), max_epochs=1, enable_checkpointing=True)
    finder, whole = LRFinder(**FINDER, epochs=(2,)), LRFinder(**FINDER, epochs=(2,))
    path = keeper.best_model_path
    resumed = fit([finder], tiny_task(), _loader(shuffle=False), path, max_epochs=3)
    uninterrupted = fit([whole], tiny_task(), _loader(shuffle=False), max_epochs=3)
    assert finder.curve == whole.curve
    assert resumed.lrs == uninterrupted.lrs[5:]


def test_a_later_sweep_sets_the_rate_of_the_moment_under_a_falling_schedule(fit, tiny_task):
    class Falling(tiny_task):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)]

    finder = LRFinder(**FINDER, epochs=(2,))
    done = fit([finder], Falling(), _loader(), max_epochs=3)
    assert done.lrs[-1][1] == pytest.approx(finder.curve.suggestion)


def test_a_later_sweep_sets_the_peak_of_our_own_cycles(fit, tiny_task):
    finder = LRFinder(**FINDER, epochs=(1,))
    done = fit([SGDR(cycle_len=2), finder], tiny_task(), _loader(), max_epochs=4)
    assert max(head for _, head in done.lrs[10:]) == pytest.approx(finder.curve.suggestion)


def test_lr_find_says_how_far_it_is_and_refuses_a_path(tiny_task, monkeypatch, capsys):
    monkeypatch.setattr(life_signs, "FIRST_LINE", 0.0)
    monkeypatch.setattr(life_signs, "NEXT_LINES", 0.0)
    with pytest.warns(UserWarning, match="`lr_find` cannot suggest"):
        lr_find(tiny_task(), _loader(), num_steps=20, accelerator="cpu")
    assert "Trying learning rates: 2 of 20, about " in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match=r"`datamodule` must be .*, got 'photos'"):
        lr_find(tiny_task(), "photos")


def test_lr_find_leaves_the_numbers_of_the_script_and_its_loaders_alone(tiny_task):
    class Noisy(TensorDataset):
        def __init__(self, *tensors):
            super().__init__(*tensors)
            self.numpy_draws = np.random.RandomState(0)
            self.draws = np.random.default_rng(0)
            self.python_draws = random.Random(0)
            self.torch_draws = torch.Generator().manual_seed(0)

        def __getitem__(self, index):
            self.numpy_draws.rand()
            self.draws.random()
            self.python_draws.random()
            torch.rand(1, generator=self.torch_draws)
            return super().__getitem__(index)

        def states(self):
            held = self.numpy_draws.get_state()[1].tolist(), self.draws.bit_generator.state
            return *held, self.python_draws.getstate(), self.torch_draws.get_state().tolist()

    data = Noisy(*_loader().dataset.tensors)
    generator = torch.Generator().manual_seed(3)
    loader = DataLoader(data, 32, shuffle=True, generator=generator)
    before = (torch.get_rng_state(), random.getstate(), generator.get_state())
    held = data.states()
    lr_find(tiny_task(), loader, accelerator="cpu", **FINDER)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert torch.equal(generator.get_state(), before[2])
    assert data.states() == held


def test_whatever_a_module_holds_is_put_back(tiny_task):
    class Holding(tiny_task):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.zeros(()))
            self.counter = Counter()
            self.array = np.zeros(1)
            self.draws = torch.Generator().manual_seed(0)
            self.metrics = {"a": MeanMetric()}
            self.pair = (torch.zeros(1), [0])
            self.itself = [self.pair]
            self.itself.append(self.itself)

        def training_step(self, batch, batch_idx):
            self.steps = self.steps + 1
            self.counter["steps"] += 1
            self.array += 1
            torch.rand(1, generator=self.draws)
            self.metrics["a"].update(1.0)
            self.pair[0].add_(1)
            self.pair[1].append(1)
            return super().training_step(batch, batch_idx)

    task = Holding()
    state = task.draws.get_state()
    lr_find(task, _loader(), accelerator="cpu", **FINDER)
    assert (int(task.steps), task.counter, task.array.tolist()) == (0, {}, [0.0])
    assert torch.equal(task.draws.get_state(), state)
    assert float(task.metrics["a"].weight) == 0
    assert (task.pair[0].tolist(), task.pair[1]) == ([0.0], [0])
    assert task.itself[1] is task.itself


def test_data_that_comes_only_once_is_refused(tiny_task):
    class Once(IterableDataset):
        def __init__(self) -> None:
            self.rest = iter(range(99))

        def __iter__(self):
            return self

        def __next__(self):
            return torch.ones(4) * next(self.rest), torch.tensor(0)

    with pytest.raises(MisconfigurationException, match="Once gives its samples only once"):
        lr_find(tiny_task(), DataLoader(Once(), 4), accelerator="cpu", **FINDER)


def test_ordinary_modules_and_loaders_are_swept(tiny_task):
    class Ordinary(tiny_task):
        def on_train_batch_start(self, batch, batch_idx):
            self.current = batch

        def on_train_batch_end(self, outputs, batch, batch_idx):
            del self.current

        def training_step(self, batch, batch_idx):
            return super().training_step(self.current, batch_idx)

        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            loss = nn.functional.cross_entropy(self.head(self.backbone(batch[0])), batch[1])
            self.log_dict(dictionary={"val_loss": loss})

    two = [_loader(64, shuffle=False), _loader(64, shuffle=False)]
    options = {"accelerator": "cpu", "on": "val", **FINDER}
    curve = lr_find(Ordinary(), _loader(), val_dataloaders=two, **options)
    assert len(curve.lrs) > 20
    rare = {"check_val_every_n_epoch": 2, "max_epochs": 2}
    again = lr_find(Ordinary(), _loader(), val_dataloaders=two[0], **options, **rare)
    assert again.losses == curve.losses


def test_a_sweep_starts_from_norms_that_the_first_step_sets_to_the_data(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8, generator=generator)
    loader = DataLoader(TensorDataset(images, torch.arange(64) % 2), 16)
    block = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    block[1].running_mean.fill_(2.0)  # far from these images
    seen, found = [], []

    class Seen(ImageClassifier):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            seen.append(block[1].weight.detach().clone())
            return loss

    def sweep(*arguments, **options):
        found.extend(real(*arguments, **options))
        return found

    real = sweeping.sweep
    monkeypatch.setattr(lr_finder, "sweep", sweep)
    model = Seen(nn.Sequential(block), 2, pretrained=True)
    model.unfreeze()
    assert model.norm_policy == "calibrated"
    with pytest.warns(UserWarning, match="cannot suggest"):
        lr_find(model, loader, accelerator="cpu", min_lr=1e-9, max_lr=1e-8, num_steps=20)
    losses, at_start = found
    assert not torch.equal(seen[0], torch.ones(4))
    for weight in seen:
        torch.testing.assert_close(weight, seen[0], rtol=0, atol=1e-5)
    assert losses == pytest.approx(at_start, abs=1e-5)
    assert torch.equal(block[1].weight, torch.ones(4))


def test_sigterm_ends_a_sweep(tiny_task):
    steps = []

    class Ended(tiny_task):
        def training_step(self, batch, batch_idx):
            steps.append(batch_idx)
            if len(steps) == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().training_step(batch, batch_idx)

    task = Ended()
    before = copy.deepcopy(task.state_dict())
    with pytest.raises(SIGTERMException):
        lr_find(task, _loader(), accelerator="cpu", **FINDER)
    assert len(steps) < 10
    assert_equal(before, task.state_dict())


def test_no_file_is_written(tiny_task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lr_find(tiny_task(), _loader(), accelerator="cpu", **FINDER)
    assert list(tmp_path.iterdir()) == []


def test_a_flat_curve_keeps_the_rates_and_says_why(fit, tiny_task):
    class Flat(tiny_task):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) * 0 + 1

    finder = LRFinder(**FINDER)
    with pytest.warns(UserWarning, match="cannot suggest a learning rate: the loss falls by"):
        done = fit([finder], Flat(), _loader(), max_epochs=1)
    assert done.lrs == [[0.01, 0.1]] * 5
    assert finder.curve.suggestion is None
    with pytest.raises(MisconfigurationException, match="cannot suggest a learning rate"):
        fit([LRFinder(**FINDER, on_refusal="raise")], Flat(), _loader(), max_epochs=1)


class Stream(IterableDataset):
    def __iter__(self):
        for step in range(12):
            yield torch.ones(4) * step, torch.tensor(step % 3)


def test_loaders_without_length_are_swept(tiny_task):
    curve = lr_find(tiny_task(), DataLoader(Stream(), 2), accelerator="cpu", **FINDER)
    assert len(curve.lrs) > 10


class Empty(Dataset):
    def __len__(self):
        return 0

    def __getitem__(self, index):
        raise IndexError


def no_rate(task):
    return torch.optim.SGD(task.parameters(), lr=0.0)


@pytest.mark.parametrize(
    ("change", "loader", "options", "message"),
    [
        pytest.param(
            {"configure_optimizers": no_rate},
            None,
            {},
            r"must have a rate above 0, but they are \[0.0\]. Configure any rate",
            id="rates-of-zero",
        ),
        pytest.param(
            {"training_step": lambda self, batch, batch_idx: self.head.weight.sum() * math.nan},
            None,
            {},
            "must be finite at the smallest rate, 1e-05, but is nan",
            id="loss-not-a-number",
        ),
        pytest.param(
            {"training_step": lambda self, batch, batch_idx: None},
            None,
            {},
            "`training_step` must give a loss for steps that leave no trace",
            id="no-loss",
        ),
        pytest.param({}, DataLoader(Empty()), {}, "at least one training batch", id="no-batches"),
        pytest.param(
            {"val_dataloader": lambda self: []},
            None,
            {"on": "val"},
            "needs a validation loader",
            id="no-validation",
        ),
        pytest.param(
            {
                "configure_optimizers": lambda self: [
                    torch.optim.SGD(part.parameters(), 0.1) for part in (self.backbone, self.head)
                ],
                "automatic_optimization": False,
            },
            None,
            {},
            "one optimizer that Lightning steps by itself, but got 2",
            id="two-optimizers",
        ),
    ],
)
def test_what_cannot_be_swept_is_refused_with_the_cure(change, loader, options, message, tiny_task):
    task = type("Changed", (tiny_task,), change)()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*returned `None`|.*zero length|.*0 length")
        with pytest.raises(MisconfigurationException, match=message):
            lr_find(
                task,
                _loader() if loader is None else loader,
                accelerator="cpu",
                **FINDER,
                **options,
            )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"min_lr": 1.0, "max_lr": 0.1}, "below `max_lr`", id="reversed"),
        pytest.param({"on": "test"}, "`on` must be 'train' or 'val', got 'test'", id="on"),
        pytest.param({"rule": "best"}, "`rule` must be 'midway', .* got 'best'", id="rule"),
        pytest.param(
            {"on_refusal": "ask"},
            "`on_refusal` must be 'warn', 'raise' or 'ignore'",
            id="on-refusal",
        ),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LRFinder(**arguments)


def curve(**changes) -> LRCurve:
    lrs = LRFinder(min_lr=1e-6, max_lr=1.0, num_steps=100).lrs
    losses = [2 - 1 / (1 + (1e-3 / lr) ** 2) + (3 * lr) ** 3 for lr in lrs]
    arguments = {"lrs": tuple(lrs), "losses": tuple(losses)}
    return LRCurve(
        **arguments | {"group_ratios": {"early": 0.0, "late": 0.1, "head": 1.0}} | changes
    )


def test_curve_gives_table_rates_and_json():
    found = curve()
    assert list(found.table()) == ["lr", "loss", "average_loss"]
    assert len(found.table()) == 100
    lr = found.suggestion
    assert found.group_lrs == {"early": 0.0, "late": lr * 0.1, "head": lr}
    content = json.loads(found.to_json())
    assert content["suggestion"] == lr == content["picks"]["midway"]
    assert content["refusal"] is None
    other = curve(rule="steepest")
    assert other.suggestion == other.picks["steepest"] == found.picks["steepest"]


def test_json_of_a_refused_curve_has_no_number_that_json_lacks():
    found = curve(losses=(1.0,) * 50 + (math.nan,) * 49 + (math.inf,))
    content = json.loads(found.to_json(), parse_constant=pytest.fail)
    assert (content["suggestion"], content["agreement"]) == (None, None)
    assert content["losses"][-1] is None


def test_plot_marks_the_suggestion_on_a_log_axis(tmp_path):
    figure = curve().plot(tmp_path / "lr.png")
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    expected = f"Suggested learning rate: {curve().suggestion:.1e} (midway)"
    assert figure.get_suptitle() == expected
    assert (tmp_path / "lr.png").read_bytes().startswith(b"\x89PNG")
    refused = curve(losses=(1.0,) * 100).plot()
    assert refused.get_suptitle().startswith("No suggestion: the loss falls by")


def test_image_goes_to_tensorboard_and_numbers_to_every_logger(tmp_path):
    class Board(TensorBoardLogger):
        def __init__(self, folder):
            super().__init__(folder)
            self.figures = []

        @property
        def experiment(self):
            board = self

            class Experiment:
                def add_figure(self, name, figure, global_step):
                    board.figures.append((name, isinstance(figure, Figure), global_step))

            return Experiment()

        def log_metrics(self, metrics, step):
            self.numbers = metrics

    pytest.importorskip("tensorboard")
    board = Board(tmp_path)
    curve().send([board], step=7)
    assert board.figures == [("lr_finder", True, 7)]
    assert board.numbers["lr_finder/midway"] == curve().suggestion
    curve().send([], step=7)


def test_asking_for_a_curve_before_there_is_one_is_refused():
    with pytest.raises(RuntimeError, match=r"There is no curve yet\. Run"):
        LRFinder().curve  # noqa: B018


def test_private_names_that_the_sweep_relies_on_are_there():
    assert hasattr(pl.LightningModule, "_on_before_batch_transfer")
    assert "_iterator" in vars(_loader())
