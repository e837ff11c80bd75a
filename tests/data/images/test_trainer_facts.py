"""What a datamodule must know of its trainer is read in one place, and nothing without one."""

import pytest
import pytorch_lightning as pl

from lightning_fastrecipes import ImageFolderDataModule, ProgressiveResizing
from lightning_fastrecipes.data.images import trainer_facts
from lightning_fastrecipes.data.images.trainer_facts import TrainerFacts, read_trainer
from lightning_fastrecipes.protocols import InputSpec

SPEC = InputSpec(interpolation="bicubic")


class Normalising(pl.LightningModule):
    input_spec = SPEC

    def validation_step(self, *_):
        pass


def test_without_a_trainer_nothing_is_expected() -> None:
    assert read_trainer(None) == TrainerFacts()


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize(("trial", "splits"), [(False, ("val",)), (True, ())])
def test_module_callbacks_and_task_are_read(squares, monkeypatch, trial, splits) -> None:
    seen = []
    monkeypatch.setattr(
        "lightning_fastrecipes.data.images.module.read_trainer",
        lambda trainer: seen.append(trainer_facts.read_trainer(trainer)) or seen[-1],
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        callbacks=[ProgressiveResizing({0: 16, 1: 48})],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        fast_dev_run=trial,
    )
    data = ImageFolderDataModule(squares, image_size=16, num_workers=0, split=0.3)
    trainer.validate(Normalising(), data, verbose=False)

    facts = TrainerFacts(
        input_spec=SPEC, largest_image_size=48, splits=splits, is_attached=True, on_cpu=True
    )
    assert set(seen) == {facts}
    assert data.input_spec == SPEC
