"""Cats and dogs in plain Lightning: what ``fastrecipes run cats_dogs`` does, to read and change."""

import argparse

import pytorch_lightning as pl

import lightning_fastrecipes as fr

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("root", help="folder of photos, one folder per class")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--fast-dev-run", action="store_true")


def main() -> None:
    options = parser.parse_args()
    pl.seed_everything(options.seed, workers=True)
    images = fr.ImageFolderDataModule(
        options.root,
        split=fr.FractionSplit(0.05, 0.25),
        augmentation=fr.Augmentation(max_zoom=1.25, on_device=True),
    )
    images.prepare_data()
    images.setup("fit")
    model = fr.ImageClassifier(
        "tf_efficientnet_lite0",
        num_classes=len(images.classes),
        weights="package:efficientnet-lite0",
        norm_policy="eval",
    )

    def trainer(max_epochs: int, *callbacks: pl.Callback) -> pl.Trainer:
        trial = options.fast_dev_run
        return pl.Trainer(max_epochs=max_epochs, callbacks=list(callbacks), fast_dev_run=trial)

    # 1: the head alone, on features that the frozen backbone computes once.
    model.freeze()
    model.set_learning_rates(3e-4)
    trainer(8, fr.SGDR(cycle_len=8)).fit(model, datamodule=fr.FeatureDataModule(images, model))
    # 2: the head on augmented images.
    images.augmentation = "side_on"
    model.set_learning_rates(5e-5)
    trainer(1, fr.SGDR(cycle_len=1)).fit(model, datamodule=images)
    # 3: everything, each earlier group ten times slower, on the middle of photos as they are.
    images.augmentation = "none"
    model.unfreeze()
    model.set_learning_rates(1e-5, lr_ratio=10)
    sizes = fr.ProgressiveResizing({0: 160, 1: 224})
    trainer(2, fr.SGDR(cycle_len=2), sizes).fit(model, datamodule=images)
    # The whole shorter side of photos, with the animals as large as in training.
    images.image_size, images.geometry = 256, fr.Geometry(crop_fraction=1.0)
    trainer(0).test(model, datamodule=images)


if __name__ == "__main__":
    main()
