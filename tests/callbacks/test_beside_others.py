"""Beside Lightning's own callbacks, and in fits that are not as ours expect."""

import re
import warnings
from types import MappingProxyType

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from helpers.trainers import QUIET
from pytorch_lightning.callbacks import (
    BackboneFinetuning,
    BaseFinetuning,
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import lightning_fastrecipes as fr
from lightning_fastrecipes._lightning import SetupError

pytestmark = pytest.mark.both


class Module(pl.LightningModule):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lr = lr
        self.backbone, self.head = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(torch.relu(self.backbone(x)))

    def training_step(self, batch, batch_idx):
        return cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        trained = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.SGD(trained, lr=self.lr, momentum=0.9)


class Stream(IterableDataset):
    """Samples without a length."""

    def __iter__(self):
        return iter(loader().dataset)


class Rates(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.seen.append([group["lr"] for group in optimizer.param_groups])


class Unfreeze(BaseFinetuning):
    def __init__(self, lr: float | None = None) -> None:
        super().__init__()
        self.lr = lr

    def freeze_before_training(self, pl_module) -> None:
        self.freeze([pl_module.backbone])

    def finetune_function(self, pl_module, epoch, optimizer) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group([pl_module.backbone], optimizer, self.lr)


def loader(count: int = 40) -> DataLoader:
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(count, 8, generator=draw)
    return DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=4)


def fit(
    *callbacks: pl.Callback, module: pl.LightningModule | None = None, train=None, **options
) -> None:
    trainer = pl.Trainer(callbacks=list(callbacks), **(QUIET | {"max_epochs": 3} | options))
    trainer.fit(module or Module(), loader() if train is None else train, loader())


@pytest.mark.parametrize("schedule", [fr.SGDR(), fr.SGDR(3), fr.OneCycle(), fr.FlatCosine()])
def test_layers_unfrozen_in_mid_fit_get_a_tenth_of_the_peak(schedule) -> None:
    rates = Rates()
    fit(Unfreeze(), schedule, rates)
    alone = Rates()
    fit(type(schedule)(*([schedule.cycle_len] if isinstance(schedule, fr.SGDR) else [])), alone)
    for (head, unfrozen), (expected, *_) in zip(rates.seen[10:], alone.seen[10:], strict=True):
        assert head == pytest.approx(expected)
        assert unfrozen == pytest.approx(expected / 10)


def test_a_rate_that_is_given_to_unfrozen_layers_is_their_peak() -> None:
    rates = Rates()
    fit(Unfreeze(lr=0.05), fr.SGDR(), rates)
    assert rates.seen[10] == pytest.approx([0.1, 0.05])


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([fr.OneCycle()], "`SGDR` and `OneCycle`"),
        ([fr.SGDR(3)], "`SGDR` and `SGDR`. Leave all but one of them out"),
        ([StochasticWeightAveraging(0.02)], "`EMAWeightAveraging` averages weights beside"),
        ([BackboneFinetuning()], "both set the backbone's rates"),
    ],
)
def test_what_sets_the_rates_as_well_is_refused(others, message) -> None:
    with pytest.raises(SetupError, match=re.escape(message)):
        fit(fr.SGDR(), *others)


@pytest.mark.parametrize("order", [0, 1])
def test_averages_beside_the_best_weights_are_refused(order) -> None:
    both = [EMAWeightAveraging(decay=0.9), fr.OverfittingStop(cycle_len=1)]
    with pytest.raises(SetupError, match="the module ends with averages of many"):
        fit(*(both if order else both[::-1]))


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: fr.KeepBest(),
        lambda folder: fr.OverfittingStop(cycle_len=1),
        lambda folder: fr.CycleSnapshots(folder, cycle_len=1, which="best", keep=1),
    ],
)
def test_a_validation_before_the_end_of_an_epoch_is_refused(make, tmp_path) -> None:
    with pytest.raises(SetupError, match="`val_check_interval` has one after every 4 batches"):
        fit(make(tmp_path), val_check_interval=0.4)
    fit(make(tmp_path), val_check_interval=0.5)
    stream = DataLoader(Stream(), batch_size=4)
    with pytest.raises(SetupError, match="after every 4 batches, and an epoch has an unknown numb"):
        fit(make(tmp_path), train=stream, val_check_interval=4)
    fit(make(tmp_path), train=stream)


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: fr.KeepBest("valid_loss"),
        lambda folder: fr.OverfittingStop(monitor="valid_loss"),
        lambda folder: fr.CycleSnapshots(folder, which="best", keep=1, monitor="valid_loss"),
    ],
)
def test_a_monitor_that_nobody_logs_is_refused_after_the_first_epoch(make, tmp_path) -> None:
    rates = Rates()
    with pytest.raises(SetupError, match=r"'valid_loss' is none of \['val_loss'\]"):
        fit(fr.OneCycle(), make(tmp_path), rates)
    assert len(rates.seen) == 10


def test_where_nothing_is_logged_the_cause_is_named() -> None:
    rates = Rates()
    trainer = pl.Trainer(barebones=True, max_epochs=3, accelerator="cpu", devices=1)
    trainer.callbacks += [fr.KeepBest(), rates]
    with pytest.raises(SetupError, match=r"nothing was logged, nor 'val_loss'.*leave `barebones`"):
        trainer.fit(Module(), loader(), loader())
    assert len(rates.seen) == 10


def test_steps_without_a_loss_are_left_out_of_a_sweep() -> None:
    class Skips(Module):
        def training_step(self, batch, batch_idx):
            return None if batch_idx == 2 else super().training_step(batch, batch_idx)

    assert fr.lr_find(Skips(), loader(), num_steps=40).losses

    class Never(Module):
        def training_step(self, batch, batch_idx):
            return None

    with pytest.raises(SetupError, match="`training_step` must give a loss"):
        fr.lr_find(Never(), loader(), num_steps=40)


def test_a_sweep_may_validate_on_a_stream() -> None:
    finder = fr.LRFinder(num_steps=20, on="val", on_refusal="ignore")
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=[finder])
    trainer.fit(Module(), loader(), DataLoader(Stream(), batch_size=4))
    with_length = fr.LRFinder(num_steps=20, on="val", on_refusal="ignore")
    fit(with_length, max_epochs=1)
    assert finder.curves[0].losses == with_length.curves[0].losses != []


def test_a_module_without_an_optimizer_is_refused() -> None:
    class Still(Module):
        def configure_optimizers(self):
            return None

    with pytest.raises(SetupError, match="needs one optimizer and no scheduler, but got 0 and 0"):
        fit(fr.SGDR(), module=Still())


def test_the_loss_may_stand_in_any_mapping() -> None:
    class Maps(Module):
        def training_step(self, batch, batch_idx):
            return MappingProxyType({"loss": super().training_step(batch, batch_idx)})

    assert fr.lr_find(Maps(), loader(), num_steps=40).losses


def test_several_of_one_class_keep_states_of_their_own(tmp_path) -> None:
    def callbacks() -> list[pl.Callback]:
        return [
            fr.CycleSnapshots(tmp_path / "all", cycle_len=1),
            fr.CycleSnapshots(tmp_path / "best", cycle_len=1, which="best", keep=1),
            ModelCheckpoint(tmp_path, save_last=True),
        ]

    first = callbacks()
    fit(*first, enable_checkpointing=True, max_epochs=2)
    assert (len(first[0].paths), len(first[1].paths)) == (2, 1)
    again = callbacks()
    trainer = pl.Trainer(**(QUIET | {"enable_checkpointing": True}), max_epochs=2, callbacks=again)
    trainer.fit(Module(), loader(), loader(), ckpt_path=tmp_path / "last.ckpt")
    assert [one.paths for one in again[:2]] == [one.paths for one in first[:2]]


def test_two_augmentations_of_one_prediction_are_refused() -> None:
    two = [fr.TestTimeAugmentation(preset=preset) for preset in ("flips", "five_crops")]
    with pytest.raises(SetupError, match="Validate or predict with each of them in turn"):
        pl.Trainer(**QUIET, callbacks=two).validate(Module(), loader(), verbose=False)
    fit(fr.RisingLossCheck(3), fr.RisingLossCheck(9), max_epochs=1)


def test_snapshots_of_two_callbacks_in_one_folder_are_refused(tmp_path) -> None:
    two = [fr.CycleSnapshots(tmp_path, keep, cycle_len=1) for keep in (1, 2)]
    with pytest.raises(SetupError, match=r"folder of its own, but two write to .*`dirpath`"):
        fit(*two)


def test_two_that_choose_the_last_weights_are_refused() -> None:
    two = [fr.OverfittingStop(patience, cycle_len=1) for patience in (1, 2)]
    with pytest.raises(SetupError, match=r"trainer has several. Give one of them both `patience`"):
        fit(*two)


def test_a_second_one_that_a_module_brings_is_refused() -> None:
    class Brings(Module):
        def configure_callbacks(self):
            return [fr.RisingLossCheck(), fr.RisingLossCheck()]

    with pytest.raises(SetupError, match="one `RisingLossCheck`, but has 2"):
        fit(module=Brings())


class SlashNames(Module):
    """Logs as `val/loss`, and with several loaders under one name for each."""

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("val/loss", cross_entropy(self(batch[0]), batch[1]))


@pytest.mark.parametrize("num_loaders", [1, 2])
@pytest.mark.parametrize("has_train_metrics", [False, True])
def test_losses_of_other_names_are_watched(num_loaders, has_train_metrics) -> None:
    name = "val/loss" if num_loaders == 1 else "val/loss/dataloader_idx_1"
    clean = [fr.TrainMetrics(8, loader())] if has_train_metrics else []
    options = {"gap_patience": 9, "train_loader": loader(), "cycle_len": 1}
    stop = fr.OverfittingStop(9, monitor=name, loss_name=name, **options)
    usual = fr.OverfittingStop(9, **options)
    trainer = pl.Trainer(**QUIET, max_epochs=2, callbacks=[*clean, stop])
    trainer.fit(SlashNames(), loader(), [loader(24), loader()][-num_loaders:])
    fit(*clean, usual, max_epochs=2)
    assert stop.history == usual.history != []


def test_a_loss_that_nobody_logs_is_refused_after_the_first_epoch() -> None:
    rates = Rates()
    stop = fr.OverfittingStop(monitor="val/loss", gap_patience=1, train_loader=loader())
    trainer = pl.Trainer(**QUIET, max_epochs=3, callbacks=[fr.OneCycle(), stop, rates])
    with pytest.raises(SetupError, match=r"`val_loss` is none of \['val/loss'\].*`loss_name`"):
        trainer.fit(SlashNames(), loader(), loader())
    assert len(rates.seen) == 10


def test_the_guard_compares_a_loss_of_another_name() -> None:
    for name, module in (("val/loss", SlashNames()), ("val_loss", Module())):
        guard = fr.ValidationGuard(loss_name=name)
        fit(guard, module=module, max_epochs=1)
        assert guard.results[0].message.startswith(f"{name} is 0.")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"val_check_interval": 15, "check_val_every_n_epoch": None}, "after every 15 batches"),
        ({"val_check_interval": "00:00:10:00"}, "after a given time"),
    ],
)
def test_validations_that_miss_the_end_of_a_cycle_are_refused(options, said) -> None:
    with pytest.raises(SetupError, match=f"`val_check_interval` has one {said}"):
        fit(fr.OverfittingStop(cycle_len=1), **options)


def test_validations_counted_over_epochs_may_meet_the_ends_of_cycles() -> None:
    stop = fr.OverfittingStop(9, cycle_len=3)
    fit(stop, val_check_interval=15, check_val_every_n_epoch=None)
    assert len(stop.history) == 1


def test_a_state_under_the_name_of_the_class_alone_is_found(tmp_path) -> None:
    first = fr.CycleSnapshots(tmp_path / "a", cycle_len=1, keep=1)
    saver = ModelCheckpoint(tmp_path, save_last=True)
    fit(first, saver, enable_checkpointing=True, max_epochs=2)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=False)
    checkpoint["callbacks"]["CycleSnapshots"] = checkpoint["callbacks"].pop(first.state_key)
    torch.save(checkpoint, tmp_path / "old.ckpt")
    second = fr.CycleSnapshots(tmp_path / "a", cycle_len=1, keep=1)
    trainer = pl.Trainer(**QUIET, max_epochs=2, callbacks=[second])
    trainer.fit(Module(), loader(), loader(), ckpt_path=tmp_path / "old.ckpt", weights_only=False)
    assert second.paths == first.paths


def test_an_epoch_that_ends_early_is_said() -> None:
    class Short(Module):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if batch_idx == 5 else None

    with pytest.warns(UserWarning, match=r"ended after \d batches, .* announced 10"):
        fit(fr.SGDR(), module=Short())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "`SGDR`: the epoch ended")
        fit(fr.SGDR())
        fit(fr.SGDR(), EarlyStopping("val_loss", patience=1))


@pytest.mark.parametrize("task", [fr.TabularClassifier, fr.TabularRegressor])
def test_averaged_weights_of_a_model_that_is_built_for_its_data(task, tmp_path) -> None:
    frame = pd.DataFrame({"c": list("xyzx") * 20, "v": torch.randn(80).numpy()})
    is_classes = task is fr.TabularClassifier
    frame["y"] = ["u", "w"] * 40 if is_classes else torch.randn(80).numpy()
    kind = "classes" if is_classes else "regression"
    columns = fr.TableColumns("y", ["c"], ["v"], task=kind)
    data = fr.TabularDataModule(frame, columns, split=0.2, batch_size=16, cache="off")
    average = EMAWeightAveraging(decay=0.5)
    saver = ModelCheckpoint(tmp_path, save_last=True)
    options = QUIET | {"enable_checkpointing": True, "max_epochs": 2}
    model = task()
    pl.Trainer(**options, callbacks=[average, saver]).fit(model, datamodule=data)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert saved.keys() == model.state_dict().keys()
    loaded = task.load_from_checkpoint(tmp_path / "last.ckpt")
    assert len(list(loaded.parameters())) == len(list(model.parameters())) > 0


def test_averages_that_copy_an_unbuilt_model_are_refused() -> None:
    frame = pd.DataFrame({"c": list("xyzx") * 20, "y": torch.randn(80).numpy()})
    data = fr.TabularDataModule(frame, fr.TableColumns("y", ["c"], []), split=0.2, cache="off")
    trainer = pl.Trainer(**QUIET, max_epochs=2, callbacks=[StochasticWeightAveraging(0.01)])
    with pytest.raises(ValueError, match="copies the TabularRegressor before it is built"):
        trainer.fit(fr.TabularRegressor(), datamodule=data)
