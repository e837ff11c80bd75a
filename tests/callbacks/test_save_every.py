"""A fit goes on exactly from a checkpoint that was written within an epoch."""

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import CatMetric, MaxMetric, MeanMetric

from lightning_fastrecipes import SGDR, FiniteLossCheck, SaveEvery
from lightning_fastrecipes.callbacks.engine.epoch_state import (
    _metrics,
    put_back_before_training,
    state_of_process,
)
from lightning_fastrecipes.callbacks.epoch_table import EpochTable
from lightning_fastrecipes.data.common.epoch_place import ResumableLoader
from lightning_fastrecipes.data.common.samplers import ShuffleSampler, upcoming_epoch
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.training.save_interval import save_interval


class KilledError(Exception):
    """Ends a fit as a kill would."""


class StopAt(pl.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            raise KilledError


@pytest.fixture
def fit_tiny(fit):
    return fit


class Seen(pl.Callback):
    """Note what is logged at the end of an epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.epochs.append({k: float(v) for k, v in trainer.callback_metrics.items()})


def logging_task(base):
    class Task(base):
        """Logs every kind of sum of an epoch, and draws random numbers of torch."""

        def __init__(self) -> None:
            super().__init__(dropout=0.5)
            self.mean = MeanMetric()

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            for how in ("mean", "sum", "max", "min"):
                self.log(how, loss, on_step=False, on_epoch=True, reduce_fx=how, batch_size=4)
            self.mean.update(loss.detach())
            self.log("metric", self.mean, on_step=False, on_epoch=True)
            return loss

    return Task


def killed_at(step: int, fit, callbacks, task, **options) -> None:
    with pytest.raises(KilledError):
        fit([*callbacks, StopAt(step)], task, **options)


@pytest.mark.parametrize("step", [3, 8])
def test_what_an_epoch_has_logged_is_whole_after_a_resume(
    step, fit_tiny, tiny_task, tiny_loader, tmp_path
) -> None:
    make, samples = logging_task(tiny_task), tiny_loader().dataset

    def fit(*arguments, **options):
        return fit_tiny(*arguments, loader=ResumableLoader(samples, batch_size=4), **options)

    seen = Seen()
    torch.manual_seed(0)
    whole = fit([seen], make(), max_epochs=2)
    saving = SaveEvery(2, tmp_path / "begun.ckpt")
    torch.manual_seed(0)
    killed_at(step, fit, [saving], make(), max_epochs=2)
    again = Seen()
    resumed = fit([again, SaveEvery(2, tmp_path / "other.ckpt")], make(),
                  ckpt_path=str(saving.path), max_epochs=2)  # fmt: skip
    assert again.epochs == seen.epochs[-len(again.epochs) :]
    torch.testing.assert_close(resumed.weights, whole.weights, rtol=0, atol=0)


def test_nothing_is_saved_where_a_fit_could_not_go_on(fit, tmp_path, monkeypatch) -> None:
    steps = []
    monkeypatch.setattr(
        "lightning_fastrecipes.callbacks.save_every.save_as_a_whole",
        lambda trainer, path: steps.append(trainer.fit_loop.total_batch_idx + 1),
    )
    fit([SaveEvery(1, tmp_path / "a.ckpt")], max_epochs=2)
    assert steps == [1, 2, 3, 4, 6, 7, 8, 9]  # not at the ends of epochs
    steps.clear()
    fit([SaveEvery(1, tmp_path / "a.ckpt")], max_epochs=1, accumulate_grad_batches=2)
    assert steps == [2, 4]
    steps.clear()
    fit([SaveEvery(1, tmp_path / "a.ckpt")], max_epochs=1, val_check_interval=2)
    assert steps == [1, 3]
    steps.clear()
    fit([SaveEvery("1h", tmp_path / "a.ckpt")], max_epochs=1)
    assert steps == []


def test_a_limit_of_time_stands_behind_it(fit, tmp_path) -> None:
    """Lightning puts the `Timer` of `max_time` behind all callbacks, and nobody can change that."""
    saver = SaveEvery(2, tmp_path / "begun.ckpt")
    whole = fit([saver], max_epochs=1, max_time="00:01:00:00")
    resumed = fit([], max_epochs=1, max_time="00:01:00:00", ckpt_path=str(saver.path))
    assert resumed.lrs == whole.lrs[4:]
    torch.testing.assert_close(resumed.weights, whole.weights, rtol=0, atol=0)


def test_weights_that_are_no_numbers_do_not_replace_the_last_good_ones(
    fit, tiny_task, tmp_path
) -> None:
    class Ruined(tiny_task):
        def on_train_batch_start(self, batch, batch_idx) -> None:
            if self.trainer.global_step == 2:
                self.head.weight.data.fill_(torch.nan)

    saving = SaveEvery(1, tmp_path / "begun.ckpt")
    with pytest.raises(ConfigurationError, match="must be a finite number"):
        fit([saving, FiniteLossCheck()], Ruined(), max_epochs=1)
    assert torch.load(saving.path, weights_only=True)["global_step"] == 2
    fit([saving], Ruined(), max_epochs=1)
    state = torch.load(saving.path, weights_only=True)
    assert state["global_step"] == 2
    assert all(torch.isfinite(tensor).all() for tensor in state["state_dict"].values())


def test_a_loader_that_cannot_go_on_is_refused(fit, tmp_path) -> None:
    plain = DataLoader(TensorDataset(torch.zeros(8, 4), torch.zeros(8, dtype=torch.int64)), 4)
    with pytest.raises(ConfigurationError, match="but got DataLoader"):
        fit([SaveEvery(1, tmp_path / "a.ckpt")], loader=plain, max_epochs=1)


class Stateful(DataLoader):
    """Says how far it has come, but not in what order over several processes."""

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        pass


def test_a_loader_of_unknown_order_is_refused_where_there_were_other_processes(
    fit, tiny_loader, tmp_path
) -> None:
    saving, samples = SaveEvery(2, tmp_path / "begun.ckpt"), tiny_loader().dataset
    fit([saving], loader=Stateful(samples, batch_size=4), max_epochs=1)
    checkpoint = torch.load(saving.path, weights_only=True)
    checkpoint["fastrecipes_begun_epoch"] *= 2
    torch.save(checkpoint, saving.path)
    with pytest.raises(ConfigurationError, match=r"several processes .* but got Stateful"):
        fit([saving], loader=Stateful(samples, batch_size=4), ckpt_path=saving.path, max_epochs=1)
    known = type("Known", (Stateful,), {"samples_per_step": 4})
    fit([saving], loader=known(samples, batch_size=4), ckpt_path=saving.path, max_epochs=1)


def test_a_write_that_fails_leaves_the_last_file_and_no_other(fit, tmp_path, monkeypatch) -> None:
    saving = SaveEvery(1, tmp_path / "begun.ckpt")
    fit([saving], max_epochs=1)
    before = saving.path.read_bytes()

    def fail(trainer, path, **_) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", fail)
    with pytest.raises(OSError, match="No space"):
        fit([SaveEvery(1, saving.path)], max_epochs=1)
    assert saving.path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [saving.path]


def test_the_highest_rate_of_a_resumed_epoch_is_that_of_all_of_it(fit, tmp_path) -> None:
    saving, table = SaveEvery(4, tmp_path / "begun.ckpt"), EpochTable()
    killed_at(4, fit, [SGDR(), saving], None, max_epochs=1)
    fit([SGDR(), table, SaveEvery(9, tmp_path / "b.ckpt")], ckpt_path=saving.path, max_epochs=1)
    assert table.rows[0]["seconds"] < 100
    whole = EpochTable()
    fit([SGDR(), whole], max_epochs=1)
    # The table was not in the fit that was killed; with it the rate would be that of the start.
    killed_at(4, fit, [SGDR(), EpochTable(), saving], None, max_epochs=1)
    resumed = EpochTable()
    fit([SGDR(), resumed, SaveEvery(9, tmp_path / "b.ckpt")], ckpt_path=saving.path, max_epochs=1)
    assert resumed.rows[0]["lr"] == whole.rows[0]["lr"] > table.rows[0]["lr"]


def test_another_number_of_processes_takes_the_sums_of_all() -> None:
    def state(total: float, count: float) -> dict:
        return {"logged": {"loss": torch.tensor([total, count])}, "metrics": {}, "random": {"a": 1}}

    both = [state(3.0, 4.0), state(5.0, 2.0)]
    assert [state_of_process(both, rank, 2) for rank in (0, 1)] == both
    one = state_of_process(both, 0, 1)
    assert one["logged"]["loss"].tolist() == [8.0, 6.0]
    assert "random" not in one
    assert not any({"logged", "random"} & {*state_of_process(both, rank, 3)} for rank in (1, 2))


def test_another_number_of_processes_takes_the_metrics_of_all() -> None:
    class Measures(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.mean, self.highest, self.all = MeanMetric(), MaxMetric(), CatMetric()

    def state(*values: float) -> dict:
        module = Measures()
        for metric in module.children():
            for value in values:
                metric.update(value)
        return {"logged": {}, "metrics": _metrics(module)}

    module, trainer = Measures(), pl.Trainer(logger=False, accelerator="cpu")
    both = [state(1.0, 2.0, 6.0), state(5.0)]
    put_back_before_training(state_of_process(both, 0, 1), trainer, module)
    assert module.mean.compute() == 3.5
    assert module.highest.compute() == 6
    assert module.all.compute().tolist() == [1, 2, 6, 5]
    assert module.mean.update_count == 4
    put_back_before_training(state_of_process(both, 1, 2), trainer, second := Measures())
    assert second.all.compute() == 5


class Numbered(TensorDataset):
    """Takes indices that carry their epoch."""

    def __getitem__(self, index: int):
        return super().__getitem__(index % len(self))


class ShuffledData(pl.LightningDataModule):
    """The tiny samples in an order of each epoch, from a new loader whenever one is asked for."""

    def __init__(self, tensors, batch_size: int = 4) -> None:
        super().__init__()
        self.samples, self.batch_size = Numbered(*tensors), batch_size

    def train_dataloader(self) -> ResumableLoader:
        sampler = ShuffleSampler(self.samples, seed=3)
        sampler.set_epoch(upcoming_epoch(self.trainer))
        return ResumableLoader(self.samples, batch_size=self.batch_size, sampler=sampler)


class Batches(pl.Callback):
    """Note what is trained on, and stop before one of them."""

    def __init__(self, stop: int = -1) -> None:
        self.seen: list[float] = []
        self.stop = stop

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if len(self.seen) == self.stop:
            raise KilledError
        self.seen.append(float(batch[0].sum()))


@pytest.mark.filterwarnings("ignore:`max_epochs` should end")
@pytest.mark.parametrize("stop", [4, 7, 8])
@pytest.mark.parametrize(
    "options",
    [
        {"accumulate_grad_batches": 2},
        {"limit_train_batches": 3},
        {"limit_train_batches": 0.8},
        {"max_steps": 11, "max_epochs": -1},
        {"reload_dataloaders_every_n_epochs": 1},
        {"val_check_interval": 2},
        {"accumulate_grad_batches": 3, "limit_train_batches": 4, "max_steps": 5},
    ],
    ids=str,
)
def test_other_ways_to_count_go_on_with_the_same_batches(
    options, stop, fit_tiny, tiny_loader, tmp_path
) -> None:
    options = {"max_epochs": 3} | options
    data = ShuffledData(tiny_loader().dataset.tensors)

    def fit(*callbacks, **more):
        every = SaveEvery(1, tmp_path / "begun.ckpt")
        return fit_tiny([SGDR(cycle_len=1), *callbacks, every], datamodule=data, **options, **more)

    whole, killed, resumed = Batches(), Batches(stop), Batches()
    expected = fit(whole)
    (tmp_path / "begun.ckpt").unlink()
    with pytest.raises(KilledError):
        fit(killed)
    found = fit(resumed, ckpt_path=str(tmp_path / "begun.ckpt"))
    again = len(killed.seen) + len(resumed.seen) - len(whole.seen)
    assert 0 <= again <= 5
    assert killed.seen + resumed.seen[again:] == whole.seen
    assert killed.seen[stop - again :] == resumed.seen[:again]
    torch.testing.assert_close(found.weights, expected.weights, rtol=0, atol=0)
    assert found.trainer.global_step == expected.trainer.global_step
    assert found.lrs == expected.lrs[-len(found.lrs) :]


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "5", "often", "0min", "5 weeks", None])
def test_other_intervals_are_refused(every) -> None:
    with pytest.raises(ConfigurationError, match="must be a number of steps"):
        SaveEvery(every)


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("5 min", 300), ("1.5h", 5400)])
def test_times_are_read(text, seconds) -> None:
    assert save_interval(text).seconds == seconds
