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
    )
    weights, head = "package:efficientnet-lite0", fr.Head(kind="linear", dropout=0.0)
    model = fr.ImageClassifier("tf_efficientnet_lite0", num_classes=2, weights=weights, head=head)

    def fit(data: pl.LightningDataModule, max_epochs: int, schedule: fr.SGDR) -> pl.Trainer:
        trial = options.fast_dev_run
        trainer = pl.Trainer(max_epochs=max_epochs, callbacks=[schedule], fast_dev_run=trial)
        trainer.fit(model, datamodule=data)
        return trainer

    # 1: the head alone, on features that the frozen backbone computes once.
    model.freeze()
    model.set_learning_rates(2e-3)
    fit(fr.FeatureDataModule(images, model), max_epochs=6, schedule=fr.SGDR(cycle_len=6))
    # 2: the head on augmented pictures.
    images.augmentation = "top_down"
    model.set_learning_rates(2e-4)
    fit(images, max_epochs=1, schedule=fr.SGDR(cycle_len=1))
    # 3: the late layers too, three times slower than the head; then everything.
    model.freeze_to(1)
    model.set_learning_rates(5e-4, lr_ratio=3)
    fit(images, max_epochs=6, schedule=fr.SGDR(cycle_len=6))
    model.unfreeze()
    model.set_learning_rates(5e-5, lr_ratio=3)
    trainer = fit(images, max_epochs=1, schedule=fr.SGDR(cycle_len=1))
    trainer.test(model, datamodule=images)


if __name__ == "__main__":
    main()
