"""Digits in plain Lightning: what ``fastrecipes run mnist_ladder`` does, to read and change."""

import argparse
from collections.abc import Callable
from functools import partial

import pytorch_lightning as pl
import torch
from torchmetrics.functional.classification import multiclass_accuracy

from lightning_fastrecipes import Ensemble, Head, ImageArrayDataModule, ImageClassifier, OneCycle
from lightning_fastrecipes.nn.small import SmallCNN, SmallMLP

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("source", help=".npz with x_train, y_train, x_test, y_test, or a folder")
parser.add_argument("--fast-dev-run", action="store_true")


def main() -> None:
    trial = parser.parse_args().fast_dev_run
    digits = ImageArrayDataModule(
        parser.parse_args().source, image_size=28, batch_size=128, split=0.05
    )

    def train(
        network: Callable[[], torch.nn.Module],
        lr: float = 1e-3,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> ImageClassifier:
        pl.seed_everything(seed, workers=True)
        head = Head("linear", dropout=dropout)
        model = ImageClassifier(network(), num_classes=10, head=head, num_groups=2, lr=lr)
        digits.seed = seed
        trainer = pl.Trainer(max_epochs=10, callbacks=[OneCycle()], fast_dev_run=trial)
        trainer.fit(model, datamodule=digits)
        trainer.test(model, datamodule=digits)
        return model

    # Each variant is the one before it with one change; the third to fifth are side steps.
    train(SmallMLP)
    train(partial(SmallMLP, hidden=[512]))
    train(partial(SmallMLP, hidden=[512], activation="none"))
    train(partial(SmallMLP, hidden=[512, 512]))
    train(partial(SmallMLP, hidden=[623]))
    network = partial(SmallCNN, convolution={"padding": "same"})
    train(network)
    digits.augmentation = "basic"
    train(network)
    network = partial(network, batch_norm=True)
    train(network)
    train(network, lr=5e-3)
    six = [train(network, lr=5e-3, dropout=0.5, seed=seed) for seed in range(6)]
    found = Ensemble(six).predict(digits.test_dataloader())
    targets = digits.eval_dataset("test").targets
    print(f"Mean of six: {multiclass_accuracy(found, targets, 10, average='micro'):.2%}")


if __name__ == "__main__":
    main()
