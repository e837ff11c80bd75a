"""The course's eight steps in plain Lightning: ``fastrecipes run course``, to read and change."""

import argparse

import pytorch_lightning as pl

import lightning_fastrecipes as fr

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("root", help="folder of photos, one folder per class")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--fast-dev-run", action="store_true")

OTHERWISE = 1e-4  # where a curve cannot be read


def main() -> None:
    options = parser.parse_args()
    pl.seed_everything(options.seed, workers=True)
    # 1: augmentation is on.
    images = fr.ImageFolderDataModule(
        options.root,
        split=fr.FractionSplit(0.2, 0.2),
        image_size=160,
        augmentation=fr.Augmentation("side_on", on_device=True),
    )
    images.prepare_data()
    images.setup("fit")
    model = fr.ImageClassifier(
        "tf_efficientnet_lite0", len(images.classes), weights="package:efficientnet-lite0"
    )

    def fit(data: pl.LightningDataModule, max_epochs: int, *callbacks: pl.Callback) -> None:
        trial = options.fast_dev_run
        pl.Trainer(max_epochs=max_epochs, callbacks=list(callbacks), fast_dev_run=trial).fit(
            model, datamodule=data
        )

    # 2 and 3: the highest rate at which the loss still clearly falls; the head on features.
    finder = fr.LRFinder()
    model.freeze()
    model.set_learning_rates(OTHERWISE)
    fit(fr.FeatureDataModule(images, model), 2, fr.SGDR(cycle_len=1), finder)
    # 4: the head on augmented images, three cycles of one epoch.
    model.set_learning_rates((finder.curves and finder.curve.suggestion) or OTHERWISE)
    fit(images, 3, fr.SGDR(cycle_len=1))
    # 5 to 8: everything, earlier groups ten times slower, the rate found again; until it over-fits.
    model.unfreeze()
    model.set_learning_rates(OTHERWISE, lr_ratio=10)
    cycles = fr.SGDR(cycle_len=1, cycle_mult=2)
    fit(images, 15, cycles, fr.LRFinder(), fr.OverfittingStop())
    # The mean of the image and of four random augmentations of it.
    pl.Trainer(callbacks=[fr.TestTimeAugmentation(n=4)]).test(model, datamodule=images)


if __name__ == "__main__":
    main()
