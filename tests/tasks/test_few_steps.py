"""A fit on a table that is over before anything is learned is warned of, in Python and recipes."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.trainers import quiet_trainer

from lightning_fastrecipes import SGDR, TableColumns, TabularDataModule, TabularRegressor, lr_find

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame({"x": RNG.normal(0, 1, 234)}).assign(y=lambda t: 3 * t["x"] + 1)
TABLE["y"] += RNG.normal(0, 0.3, 234)


def fit(*, batch_size=512, **options) -> list[str]:
    data = TabularDataModule(
        TABLE, TableColumns("y", [], ["x"]), batch_size=batch_size, cache="off"
    )
    model = TabularRegressor(network={"layers": [4], "dropout": 0.0})
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        quiet_trainer(limit_val_batches=0, **options).fit(model, data)
    return [str(one.message) for one in found if "optimizer step" in str(one.message)]


def test_a_few_steps_are_counted_with_sizes_that_learn() -> None:
    [sentence] = fit(max_epochs=4)
    assert sentence == (
        "This fit takes 4 optimizer steps in all, in which a table is hardly learned; 500 or more"
        " are usual. Take smaller batches or more epochs, such as `batch_size=16` and"
        " `max_epochs=42`."
    )
    assert "This fit takes 1 optimizer step in all" in fit(max_epochs=1)[0]
    assert "takes 24 optimizer steps" in fit(max_epochs=4, batch_size=32)[0]
    assert "takes 12 optimizer" in fit(max_epochs=4, batch_size=32, accumulate_grad_batches=2)[0]
    assert "takes 99 optimizer steps" in fit(max_steps=99, batch_size=8)[0]


@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 17, "batch_size": 32},  # 102 steps
        {"fast_dev_run": True},
        {"max_epochs": 1, "limit_train_batches": 1},
        {"max_epochs": 2, "overfit_batches": 1},
    ],
)
def test_enough_steps_and_trials_are_not_warned_of(options) -> None:
    assert fit(**options) == []


def test_a_sweep_of_rates_is_no_fit() -> None:
    data = TabularDataModule(TABLE, TableColumns("y", [], ["x"]), cache="off")
    model = TabularRegressor(network={"layers": [4], "dropout": 0.0})
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        lr_find(model, data, num_steps=30, accelerator="cpu")
    assert not [one for one in found if "optimizer step" in str(one.message)]


def test_a_table_of_few_rows_is_trained_as_well_by_the_finder_as_by_a_good_rate() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(0, 1, (240, 2)), columns=["a", "b"])
    table["k"] = rng.choice([*"abcd"], 240)
    table["y"] = 3 * table["a"] - 2 * table["b"] + 2 * (table["k"] == "a")
    table["y"] += rng.normal(0, 0.3, 240)
    losses = {}
    for lr in (None, 3e-3, 3e-5):
        torch.manual_seed(0)
        data = TabularDataModule(table, TableColumns("y", ["k"], ["a", "b"]), cache="off")
        model = TabularRegressor()
        model.set_learning_rates(lr or lr_find(model, data).suggestion)
        trainer = quiet_trainer(SGDR(30), max_epochs=30)
        trainer.fit(model, datamodule=data)
        losses[lr] = float(trainer.callback_metrics["val_loss"])
    assert losses[None] <= 1.1 * losses[3e-3]
    assert losses[None] < 0.5 * losses[3e-5]
