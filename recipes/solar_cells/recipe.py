"""Solar cells in plain Lightning: what ``fastrecipes run solar_cells`` does, to read and change."""

import argparse

import pytorch_lightning as pl

import lightning_fastrecipes as fr

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--fast-dev-run", action="store_true")


def main() -> None:
    options = parser.parse_args()
    pl.seed_everything(options.seed, workers=True)
    table = fr.LabelTable(
        column_names=["file", "probability", "type"],
        probability_column="probability",
        classes=["functional", "defective"],
        stratify_by=["probability", "type"],
    )
    images = fr.ImageCSVDataModule(
        "package:elpv_dataset/data/labels.csv",
        table=table,
        test_fraction=0.25,
        valid_fraction=0.05,
        geometry=fr.Geometry(resize="squish", max_zoom=1.0, max_angle=0.0),
        augment_on="device",
    )
    weights, head = "package:efficientnet-lite0", fr.Head(kind="linear", dropout=0.0)
    model = fr.ImageClassifier("tf_efficientnet_lite0", num_classes=2, weights=weights, head=head)

    def trainer(max_epochs: int, *callbacks: pl.Callback) -> pl.Trainer:
        trial = options.fast_dev_run
        return pl.Trainer(max_epochs=max_epochs, callbacks=list(callbacks), fast_dev_run=trial)

    # 1: the head alone, on features that the frozen backbone computes once.
    model.freeze()
    model.set_learning_rates(2e-3)
    trainer(6, fr.SGDR(cycle_len=6)).fit(model, datamodule=fr.FeatureDataModule(images, model))
    # 2: the head on augmented pictures.
    images.augmentation = "top_down"
    model.set_learning_rates(2e-4)
    trainer(1, fr.SGDR(cycle_len=1)).fit(model, datamodule=images)
    # 3: the late layers too, three times slower than the head, on pictures that grow.
    model.freeze_to(1)
    model.set_learning_rates(5e-4, lr_ratio=3)
    sizes = fr.ProgressiveResizing({0: 160, 3: 224, 6: 288})
    trainer(8, fr.SGDR(cycle_len=8), sizes).fit(model, datamodule=images)
    # 4: everything, gently.
    model.unfreeze()
    model.set_learning_rates(5e-5, lr_ratio=3)
    images.image_size = 288
    trainer(1, fr.SGDR(cycle_len=1)).fit(model, datamodule=images)
    trainer(0, fr.TestTimeAugmentation(n=4)).test(model, datamodule=images)


if __name__ == "__main__":
    main()
