"""Cats and dogs in plain Lightning: what ``fastrecipes run cats_dogs`` does, to read and change."""

import argparse

import pytorch_lightning as pl

from lightning_fastrecipes import SGDR, FeatureDataModule, ImageClassifier, ImageFolderDataModule

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("root", help="folder of photos, one folder per class")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--fast-dev-run", action="store_true")


def main() -> None:
    options = parser.parse_args()
    pl.seed_everything(options.seed, workers=True)
    images = ImageFolderDataModule(options.root, valid_fraction=0.05, test_fraction=0.25)
    images.prepare_data()
    images.setup("fit")
    model = ImageClassifier(
        "tf_efficientnet_lite0",
        num_classes=len(images.classes),
        weights="package:efficientnet-lite0",
    )

    def fit(data: pl.LightningDataModule, max_epochs: int, schedule: SGDR) -> pl.Trainer:
        trial = options.fast_dev_run
        trainer = pl.Trainer(max_epochs=max_epochs, callbacks=[schedule], fast_dev_run=trial)
        trainer.fit(model, datamodule=data)
        return trainer

    # 1: the head alone, on features that the frozen backbone computes once.
    model.freeze()
    model.set_learning_rates(3e-4)
    fit(FeatureDataModule(images, model), max_epochs=8, schedule=SGDR(cycle_len=8))
    # 2: the head on augmented pictures.
    images.augmentation = "side_on"
    model.set_learning_rates(5e-5)
    fit(images, max_epochs=1, schedule=SGDR(cycle_len=1))
    # 3: everything, each earlier group ten times slower, on photos as they are evaluated.
    images.augmentation = "none"
    model.unfreeze()
    model.set_learning_rates(1e-5, lr_ratio=10)
    trainer = fit(images, max_epochs=1, schedule=SGDR(cycle_len=1))
    trainer.test(model, datamodule=images)


if __name__ == "__main__":
    main()
