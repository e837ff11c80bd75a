"""Training metrics as validation measures them, and nothing else of the training."""

import pytest
import pytorch_lightning as pl
import torch
from helpers.trainers import quiet_trainer
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader, Subset, TensorDataset

from lightning_fastrecipes import SGDR, ImageClassifier, OverfittingStop, TrainMetrics


class Logged(pl.Callback):
    """Note the metrics of each epoch."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.rows.append({k: float(v) for k, v in trainer.callback_metrics.items()})


def noisy(num_samples: int = 22) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (num_samples, 3, 32, 32), generator=generator)
    return TensorDataset(images.to(torch.uint8), torch.arange(num_samples) % 2)


@pytest.fixture
def classifier():
    """Return a function that fits a classifier with dropout, from the same random numbers."""

    def start(*callbacks, max_epochs=2, **options):
        pl.seed_everything(0, verbose=False)
        model = ImageClassifier("test_resnet.r160_in1k", 2, head={"hidden": 4}, lr=1e-2)
        trainer = quiet_trainer(*callbacks, max_epochs=max_epochs)
        loaders = [DataLoader(noisy(), 4, shuffle=True), DataLoader(noisy(9), 4)]
        trainer.fit(model, *loaders, **options)
        return trainer, model

    return start


def test_they_are_what_validation_says_of_the_same_samples(classifier):
    chosen = [0, 5, 10, 16, 21]  # spread evenly over 22
    logged = Logged()
    _, model = classifier(TrainMetrics(5, DataLoader(noisy(), 4)), logged)
    found = quiet_trainer().validate(model, DataLoader(Subset(noisy(), chosen), 5), verbose=False)
    expected = {name.replace("val_", "train_clean_"): value for name, value in found[0].items()}
    assert set(expected) == {"train_clean_loss", "train_clean_accuracy"}
    last = logged.rows[-1]
    assert {name: last[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert last["train_clean_loss"] != logged.rows[0]["train_clean_loss"]
    assert last["train_clean_loss"] != pytest.approx(last["train_loss"])


def test_training_and_its_random_numbers_stay_as_they_are(classifier):
    plain, measured = Logged(), Logged()
    _, without = classifier(plain)
    after = torch.rand(3)
    _, model = classifier(TrainMetrics(9, DataLoader(noisy(), 4)), measured)
    assert torch.equal(torch.rand(3), after)
    for name, value in without.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    kept = [{k: v for k, v in row.items() if "clean" not in k} for row in measured.rows]
    assert kept == plain.rows


def test_overfitting_stop_takes_its_gap_from_them(fit):
    clean = DataLoader(noisy(), 4)

    class Losing(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch, batch_idx):
            return self.layer(torch.ones(1, 1)).sum()

        def validation_step(self, batch, batch_idx):
            # The clean batches have four images, those of validation nine.
            self.log("val_loss", torch.tensor(1.0 if len(batch[0]) == 9 else 0.5))

        def val_dataloader(self):
            return DataLoader(noisy(9), 9)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    stop = OverfittingStop(patience=9, gap_patience=9, monitor="train_clean_loss")
    fit([SGDR(), TrainMetrics(8, clean), stop], Losing(), DataLoader(noisy(), 4), max_epochs=2)
    values = [(row["value"], row["train_loss"], row["gap"]) for row in stop.history]
    assert values == [(0.5, 0.5, 0.5)] * 2
    with pytest.raises(MisconfigurationException, match="`TrainMetrics` must come before"):
        fit([SGDR(), stop, TrainMetrics(8, clean)], Losing(), max_epochs=1)


def test_without_clean_samples_it_is_refused_before_anything_runs(fit):
    with pytest.raises(MisconfigurationException, match=r"`TrainMetrics` needs clean training"):
        fit([TrainMetrics()], max_epochs=1)
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        TrainMetrics(0)
