"""Flights in plain Lightning, beside the mean and gradient boosting on the same columns."""

import argparse
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import yaml
from sklearn.ensemble import HistGradientBoostingRegressor

import lightning_fastrecipes as fr

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--fast-dev-run", action="store_true")


def load_table() -> fr.TabularDataModule:
    recipe = yaml.safe_load(Path(__file__).with_name("recipe.yaml").read_text())
    said = dict(recipe["data"]["init_args"])
    columns, split = fr.TableColumns(**said.pop("columns")), fr.DateSplit(**said.pop("split"))
    return fr.TabularDataModule(said.pop("source"), columns, split=split, **said)


def compare(table: fr.TabularDataModule, seed: int) -> None:
    """Print the errors of the mean, and of gradient boosting, in minutes."""
    train, test = table.encoded("train"), table.encoded("test")
    features = [np.hstack([part.codes, part.continuous]) for part in (train, test)]
    columns = list(range(train.codes.shape[1]))
    trees = HistGradientBoostingRegressor(categorical_features=columns, random_state=seed)
    trees.fit(features[0], train.target)
    guesses = {"mean": np.full(len(test.target), train.target.mean())}
    guesses["gradient boosting"] = trees.predict(features[1])
    for name, guess in guesses.items():
        errors = guess - test.target
        print(f"{name}: mae {np.abs(errors).mean():.3f}, rmse {np.sqrt((errors**2).mean()):.3f}")


def main() -> None:
    options = parser.parse_args()
    pl.seed_everything(options.seed, workers=True)
    table = load_table()
    table.seed = options.seed
    network = fr.TabularNetwork([200, 100], dropout=[0.001, 0.01], embedding_dropout=0.04)
    model = fr.TabularRegressor(network=network, lr=1e-3)
    schedule = fr.SGDR(cycle_len=1)
    trial = options.fast_dev_run
    trainer = pl.Trainer(max_epochs=1, callbacks=[schedule], fast_dev_run=trial)
    trainer.fit(model, datamodule=table)
    trainer.test(model, datamodule=table)
    compare(table, options.seed)


if __name__ == "__main__":
    main()
