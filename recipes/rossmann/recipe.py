"""Rossmann in plain Lightning: what ``fastrecipes run rossmann`` does, to read and change."""

import argparse

import pytorch_lightning as pl
import torch
from tables import CATEGORICAL, CONTINUOUS, STEPS  # beside this file

import lightning_fastrecipes as fr

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("source", help="path of train_open.csv.gz or train.csv, side tables beside it")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--fast-dev-run", action="store_true")


def main() -> None:
    options = parser.parse_args()
    pl.seed_everything(options.seed, workers=True)
    table = fr.TabularDataModule(
        options.source,
        fr.TableColumns("Sales", CATEGORICAL, CONTINUOUS, log_target=True),
        split=fr.DateSplit("Date", val_from="2014-08-01", val_until="2014-09-17"),
        steps=STEPS,
        where="Sales > 0",
        batch_size=256,
        seed=options.seed,
    )
    model = fr.TabularRegressor(
        network=fr.TabularNetwork([1000, 500], dropout=[0.05, 0.1], embedding_dropout=0.1),
        y_range="auto",
        point_estimate="min_rmspe",
        optim=fr.Optim(lr=4e-3, weight_decay=0.1),
    )
    snapshots = fr.CycleSnapshots(f"rossmann/seed-{options.seed}")
    trainer = pl.Trainer(
        max_epochs=10,
        precision="bf16-mixed",
        callbacks=[fr.SGDR(cycle_len=5, warm_in=1), snapshots],
        fast_dev_run=options.fast_dev_run,
    )
    trainer.fit(model, datamodule=table)
    if options.fast_dev_run:  # trains one batch, which ends no cycle
        return
    rows = table.eval_dataloader("val")
    predictions = fr.Ensemble(snapshots.paths, task=fr.TabularRegressor).predict(rows)
    sales = torch.cat([table.spec.invert_target(targets) for _, targets in rows])
    print(f"rmspe of the snapshots' mean: {fr.RMSPE()(predictions, sales):.4f}")


if __name__ == "__main__":
    main()
