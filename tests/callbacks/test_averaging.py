"""Averages of weights: what they are of, who sees them, and that training does not."""

import pytest
import pytorch_lightning as pl
import torch
from helpers.trainers import QUIET
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

import lightning_fastrecipes as fr
from lightning_fastrecipes._lightning import SetupError
from lightning_fastrecipes.errors import ConfigurationError

pytestmark = pytest.mark.both


class Trained(pl.Callback):
    """Keeps the weights before the fit, and as trained after each step; put it first."""

    def __init__(self) -> None:
        self.steps: list[dict[str, torch.Tensor]] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        if not self.steps:
            self.before = weights(pl_module)

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        self.steps.append(weights(pl_module))


class Validated(pl.Callback):
    """Keeps the weights at each validation of a fit."""

    def __init__(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, *_) -> None:
        if batch_idx == 0:
            self.seen.append(weights(pl_module))


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def assert_close(found, expected) -> None:
    torch.testing.assert_close(dict(found), dict(expected), rtol=1e-5, atol=1e-7)


def mean(states) -> dict[str, torch.Tensor]:
    return {name: torch.stack([one[name] for one in states]).mean(0) for name in states[0]}


def moving(states, decay: float) -> dict[str, torch.Tensor]:
    found = states[0]
    for count, state in enumerate(states[1:], start=1):
        stays = min(decay, (1 + count) / (10 + count))
        found = {k: stays * found[k] + (1 - stays) * state[k] for k in found}
    return found


def expected(kind: str, options: dict, trained: Trained, num_epochs: int):
    """Compute what the fit should hold after some epochs of five steps, in cycles of 1 and 2."""
    steps = trained.steps[: 5 * num_epochs]
    if kind == "ema":
        return moving(steps, options.get("decay", 0.999))
    if kind == "soup":
        return mean([steps[end * 5 - 1] for end in (1, 3) if end <= num_epochs])
    share, last = options.get("share", 0.5), steps[-1]
    return {k: (1 - share) * v + share * last[k] for k, v in trained.before.items()}


@pytest.mark.parametrize(
    ("kind", "options"),
    [("ema", {"decay": 0.6}), ("ema", {}), ("soup", {}), ("wise", {"share": 0.3}), ("wise", {})],
)
def test_what_each_kind_is_the_average_of(kind, options, fit) -> None:
    trained, seen, average = Trained(), Validated(), fr.Averaging(kind, **options)
    callbacks = [trained, average, fr.SGDR(1, 2), seen]
    done = fit(callbacks, max_epochs=3, num_sanity_val_steps=0)
    assert_close(done.weights, expected(kind, options, trained, 3))
    for count, found in enumerate(seen.seen, start=1):
        assert_close(found, expected(kind, options, trained, count))
    assert average.num_updates == (2 if kind == "soup" else 15)
    assert not torch.equal(done.weights["head.weight"], trained.steps[-1]["head.weight"])


def test_training_goes_on_as_without_it(fit, tiny_task) -> None:
    for kind, options in (("ema", {}), ("soup", {"cycle_len": 1}), ("wise", {})):
        alone, beside = Trained(), Trained()
        quick = {"max_epochs": 2, "val_check_interval": 2}
        torch.manual_seed(3)
        fit([alone], tiny_task(0.5), **quick)
        torch.manual_seed(3)
        fit([beside, fr.Averaging(kind, **options)], tiny_task(0.5), **quick)
        for found, step in zip(beside.steps, alone.steps, strict=True):
            torch.testing.assert_close(found, step, rtol=0, atol=0)


def test_nothing_is_validated_with_an_average_before_its_first_update(fit, tiny_task) -> None:
    trained, seen, task = Trained(), Validated(), tiny_task()
    start = weights(task)
    fit([trained, fr.Averaging("soup", cycle_len=2), seen], task, max_epochs=3)
    sanity, first, second, third = seen.seen
    assert_close(sanity, start)
    assert_close(first, trained.steps[4])
    assert_close(second, trained.steps[9])  # the mean of one
    assert_close(third, trained.steps[9])


def test_validations_within_an_epoch_see_it_too(fit) -> None:
    trained, seen = Trained(), Validated()
    options = {"max_epochs": 1, "val_check_interval": 2, "num_sanity_val_steps": 0}
    fit([trained, fr.Averaging("ema"), seen], **options)
    assert len(seen.seen) == 2
    for count, found in zip((2, 4), seen.seen, strict=True):
        assert_close(found, moving(trained.steps[:count], 0.999))


def test_checkpoints_and_snapshots_of_an_epochs_end_hold_it(fit, tmp_path) -> None:
    trained, saved = Trained(), ModelCheckpoint(tmp_path, save_on_train_epoch_end=True)
    snapshots = fr.CycleSnapshots(tmp_path / "cycles", cycle_len=1)
    callbacks = [trained, fr.Averaging("ema"), snapshots, saved]
    done = fit(callbacks, max_epochs=2, enable_checkpointing=True)
    for path in (saved.best_model_path, snapshots.paths[-1]):
        held = torch.load(path, weights_only=True)["state_dict"]
        torch.testing.assert_close(held, done.weights, rtol=0, atol=0)
    assert_close(done.weights, moving(trained.steps, 0.999))


@pytest.mark.parametrize("make", [fr.KeepBest, lambda: fr.OverfittingStop(9, cycle_len=1)])
def test_the_best_of_the_averages_is_kept(make, fit, tiny_task) -> None:
    seen, keep = Validated(), make()
    task = tiny_task()
    task.configure_optimizers = lambda: torch.optim.SGD(task.parameters(), lr=3.0)
    done = fit(
        [fr.Averaging("ema", decay=0.5), keep, seen], task, max_epochs=5, num_sanity_val_steps=0
    )
    best = min(range(5), key=lambda epoch: keep.history[epoch]["value"])
    assert best < 4
    torch.testing.assert_close(done.weights, seen.seen[best], rtol=0, atol=0)
    measured = done.trainer.validate(done.task, verbose=False)[0]["val_loss"]
    assert measured == pytest.approx(keep.history[best]["value"])


def test_the_same_trainer_trains_on_from_the_weights_as_trained(fit, tiny_loader) -> None:
    def twice(*extra: pl.Callback) -> list[dict[str, torch.Tensor]]:
        trained = Trained()
        done = fit([trained, *extra], max_epochs=1)
        done.trainer.fit_loop.max_epochs = 3
        done.trainer.fit(done.task, tiny_loader())
        return [*trained.steps, weights(done.task)]

    *alone, _ = twice()
    *beside, end = twice(fr.Averaging("ema"))
    for found, step in zip(beside, alone, strict=True):
        torch.testing.assert_close(found, step, rtol=0, atol=0)
    assert_close(end, moving(alone, 0.999))


class Normed(pl.LightningModule):
    """Batch norm behind a layer, in a module that knows nothing of this package."""

    def __init__(self, *, has_validation: bool = True) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layer, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)
            self.drop, self.head = nn.Dropout(0.5), nn.Linear(6, 3)
        if has_validation:
            self.validation_step = self.step

    def step(self, batch, batch_idx):
        inputs, targets = batch
        loss = nn.functional.cross_entropy(self(inputs), targets)
        self.log("loss", loss)
        return loss

    def forward(self, inputs):
        return self.head(self.drop(self.norm(self.layer(inputs))))

    def training_step(self, batch, batch_idx):
        return self.step(batch, batch_idx)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)


@pytest.mark.parametrize("kind", ["ema", "wise"])
def test_batch_norm_is_measured_anew_with_the_averaged_weights(kind, fit, tiny_loader) -> None:
    torch.manual_seed(1)
    trained = Trained()
    done = fit([trained, fr.Averaging(kind)], Normed(), loader=tiny_loader(), max_epochs=2)
    samples = tiny_loader().dataset.tensors[0]
    with torch.no_grad():
        seen = done.task.layer(samples)
    norm = done.task.norm
    # Batches of four: the mean of their variances is a little below that of all.
    torch.testing.assert_close(norm.running_mean, seen.mean(0), rtol=1e-4, atol=1e-5)
    assert ((norm.running_var / seen.var(0)) - 1).abs().max() < 0.35
    assert not torch.equal(norm.running_mean, trained.steps[-1]["norm.running_mean"])
    alone = Trained()
    torch.manual_seed(1)
    fit([alone], Normed(), loader=tiny_loader(), max_epochs=2)
    for found, step in zip(trained.steps, alone.steps, strict=True):
        torch.testing.assert_close(found, step, rtol=0, atol=0)


def test_norms_behind_dropout_are_measured_as_in_training(fit, tiny_loader) -> None:
    class Dropped(Normed):
        backbone = "a name"  # and no module

        def forward(self, inputs):
            return self.head(self.norm(self.drop(self.layer(inputs))))

    torch.manual_seed(1)
    done = fit([fr.Averaging("ema")], Dropped(), tiny_loader(), max_epochs=2)
    with torch.no_grad():
        clean = done.task.layer(tiny_loader().dataset.tensors[0])
    # What dropout leaves is twice as large, and half of it is 0.
    dropped = clean.var(0) + clean.square().mean(0)
    assert (done.task.norm.running_var / dropped).mean() == pytest.approx(1.0, abs=0.35)
    assert (done.task.norm.running_var / clean.var(0)).mean() > 1.4


def test_a_lazy_layer_that_is_never_called_is_left_alone(tiny_task, tiny_loader) -> None:
    task = tiny_task()
    task.idle = nn.LazyLinear(3)
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=[fr.Averaging("wise")])
    trainer.fit(task, tiny_loader())
    assert trainer.global_step == 5


class Stream(IterableDataset):
    def __iter__(self):
        draw = torch.Generator().manual_seed(0)
        for _ in range(12):
            yield torch.randn(4, generator=draw), 1


def test_where_batch_norm_cannot_be_measured_its_statistics_are_averaged(fit) -> None:
    trained = Trained()
    with pytest.warns(UserWarning, match="Batch norm could not be measured .*: neither the data"):
        done = fit([trained, fr.Averaging("ema")], Normed(), DataLoader(Stream(), 4), max_epochs=1)
    expected = moving([{"n": one["norm.running_var"]} for one in trained.steps], 0.999)["n"]
    torch.testing.assert_close(done.task.norm.running_var, expected)
    assert done.task.norm.num_batches_tracked == 3


def test_a_step_that_fails_on_training_samples_is_told(fit, tiny_loader) -> None:
    task = Normed()
    task.validation_step = lambda batch, batch_idx: {}["no such key"]
    with pytest.warns(UserWarning, match="a step failed on training samples: KeyError"):
        done = fit([fr.Averaging("ema")], task, tiny_loader(), max_epochs=1, limit_val_batches=0)
    assert done.trainer.global_step == 5


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("mean", {}, "`kind` must be"),
        ("soup", {"decay": 0.9}, "`decay` belongs to `ema`, but `kind` is `soup`"),
        ("ema", {"share": 0.5}, "`share` belongs to `wise`"),
        ("ema", {"cycle_mult": 2}, "`cycle_mult` belongs to `soup`"),
        ("ema", {"decay": 1.0}, "`decay` must be at least 0 and below 1, got 1.0"),
        ("ema", {"decay": float("nan")}, "`decay` must be at least 0 and below 1, got nan"),
        ("wise", {"share": 0.0}, "`share` must be above 0 and at most 1, got 0.0"),
        ("soup", {"cycle_len": 0}, "`cycle_len` must be"),
    ],
)
def test_arguments_that_say_nothing_are_refused(kind, options, said) -> None:
    with pytest.raises((ConfigurationError, ValueError), match=said):
        fr.Averaging(kind, **options)


def test_fits_that_it_cannot_average_are_refused_before_a_step(fit, tmp_path) -> None:
    average = fr.Averaging("soup")
    with pytest.raises(SetupError, match="`Averaging` needs to know where cycles end"):
        fit([average], max_epochs=1)
    snapshots = fr.CycleSnapshots(tmp_path, cycle_len=1)
    for one in fr.KeepBest(), fr.OverfittingStop(9, cycle_len=1), snapshots:
        with pytest.raises(SetupError, match=f"must come before `{type(one).__name__}`"):
            fit([one, fr.Averaging("ema")], max_epochs=1)


def test_a_checkpoint_of_another_kind_is_refused(fit, tmp_path) -> None:
    saved = ModelCheckpoint(tmp_path)
    fit([fr.Averaging("ema"), saved], max_epochs=1, enable_checkpointing=True)
    with pytest.raises(SetupError, match="averages by `ema`, but `Averaging` by `wise`"):
        fit([fr.Averaging("wise")], max_epochs=2, ckpt_path=saved.best_model_path)


def test_a_fit_without_a_cycle_end_says_that_there_was_nothing_to_average(fit) -> None:
    trained = Trained()
    with pytest.warns(UserWarning, match="nothing to average, since no cycle has ended"):
        done = fit([trained, fr.Averaging("soup", cycle_len=5)], max_epochs=1)
    torch.testing.assert_close(done.weights, trained.steps[-1], rtol=0, atol=0)
