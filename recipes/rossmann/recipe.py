"""Rossmann in plain Lightning: what ``fastrecipes run rossmann`` does, to read and change."""

import argparse
from pathlib import Path

import pytorch_lightning as pl
import yaml

import lightning_fastrecipes as fr

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("source", help="path of train_open.csv.gz or train.csv, side tables beside it")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--fast-dev-run", action="store_true")


def main() -> None:
    options = parser.parse_args()
    pl.seed_everything(options.seed, workers=True)
    # Columns and steps are long: they stand in the recipe.
    recipe = yaml.safe_load(Path(__file__).with_name("recipe.yaml").read_text())
    said = recipe["data"]["init_args"] | {"source": options.source, "seed": options.seed}
    columns, split = fr.TableColumns(**said.pop("columns")), fr.TableSplit(**said.pop("split"))
    table = fr.TabularDataModule(said.pop("source"), columns, split=split, **said)
    model = fr.TabularRegressor(
        layers=[1000, 500],
        dropout=[0.001, 0.01],
        embedding_dropout=0.04,
        y_range="auto",
        lr=1e-3,
    )
    trainer = pl.Trainer(
        max_epochs=7,
        precision="bf16-mixed",
        callbacks=[fr.SGDR(cycle_len=1, cycle_mult=2)],
        fast_dev_run=options.fast_dev_run,
    )
    trainer.fit(model, datamodule=table)
    exact = pl.Trainer(precision="32-true", logger=False, fast_dev_run=options.fast_dev_run)
    exact.validate(model, datamodule=table)


if __name__ == "__main__":
    main()
