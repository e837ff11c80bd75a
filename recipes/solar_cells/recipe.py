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
        labels=fr.SoftLabels(["functional", "defective"], probability_column="probability"),
        stratify_by=["probability", "type"],
    )
    images = fr.ImageCSVDataModule(
        "package:elpv_dataset/data/labels.csv",
        table=table,
        split=fr.FractionSplit(0.05, 0.25),
        image_size=160,
        geometry=fr.Geometry(resize="squish"),
        augmentation=fr.Augmentation(max_zoom=1.0, max_angle=0.0, on_device=True),
    )
    weights, head = "package:efficientnet-lite0", fr.Head(layout="course", dropout=0.5)
    model = fr.ImageClassifier(
        "tf_efficientnet_lite0",
        2,
        weights=weights,
        head=head,
        num_groups=4,
        norm_policy="eval_if_frozen",
    )

    def trainer(max_epochs: int, *callbacks: pl.Callback) -> pl.Trainer:
        trial = options.fast_dev_run
        return pl.Trainer(max_epochs=max_epochs, callbacks=list(callbacks), fast_dev_run=trial)

    # 1: the head alone, on features that the frozen backbone computes once.
    model.freeze()
    model.set_learning_rates(2e-3)
    trainer(6, fr.SGDR(cycle_len=6)).fit(model, datamodule=fr.FeatureDataModule(images, model))
    # 2: the late layers, on what the frozen first group makes of each cell in its eight poses.
    images.augmentation = "top_down"
    model.freeze_to(1)
    model.set_learning_rates(2e-3, lr_ratio=3)
    cells = fr.FeatureDataModule(images, model, views="poses")
    trainer(10, fr.SGDR(cycle_len=10, warm_in=1)).fit(model, datamodule=cells)
    # Then images, through the whole network, as it predicts them.
    poses = fr.TestTimeAugmentation(7, "flips", plain_weight=0.125)
    trainer(0, poses).test(model, datamodule=images)


if __name__ == "__main__":
    main()
