"""Tags of photos in plain Lightning: what ``fastrecipes run fashion_tags`` does, to change."""

import argparse

import pytorch_lightning as pl

import lightning_fastrecipes as fr

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("csv", help="table with the columns file and label, labels side by side")
parser.add_argument("folder", help="folder that the files are in")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--fast-dev-run", action="store_true")


def main() -> None:
    options = parser.parse_args()
    pl.seed_everything(options.seed, workers=True)
    table = fr.LabelTable(folder=options.folder, labels=fr.Tags(separator=" "))
    images = fr.ImageCSVDataModule(
        options.csv,
        table=table,
        split=0.1,
        image_size=160,
        augmentation=fr.Augmentation(on_device=True),
    )
    images.prepare_data()
    images.setup("fit")
    model = fr.ImageClassifier(
        "tf_efficientnet_lite0",
        num_classes=len(images.classes),
        weights="package:efficientnet-lite0",
        head=fr.Head(layout="linear", dropout=0.2),
        norm_policy="eval",
    )

    def trainer(max_epochs: int, *callbacks: pl.Callback) -> pl.Trainer:
        trial = options.fast_dev_run
        return pl.Trainer(max_epochs=max_epochs, callbacks=list(callbacks), fast_dev_run=trial)

    # The head alone, on features that the frozen backbone computes once.
    model.freeze()
    model.set_learning_rates(2e-3)
    trainer(8, fr.SGDR(cycle_len=8)).fit(model, datamodule=fr.FeatureDataModule(images, model))
    # Augmented images that grow: everything while they are small, then all but the early layers.
    images.augmentation = "side_on"
    for size, freeze_to, lr, epochs in ((96, 0, 1e-3, 5), (128, 1, 7e-4, 4), (160, 1, 3e-4, 3)):
        images.image_size = size
        model.freeze_to(freeze_to)
        model.set_learning_rates(lr, lr_ratio=3)
        trainer(epochs, fr.SGDR(cycle_len=epochs)).fit(model, datamodule=images)
    # Validation tunes the thresholds that the test then counts labels with.
    views = fr.TestTimeAugmentation(n=4, preset="augmentation")
    trainer(0, views).validate(model, datamodule=images)
    trainer(0, views).test(model, datamodule=images)


if __name__ == "__main__":
    main()
