"""The table of epochs: what it shows, where, and of which modules."""

import sys
import types

import pytest
import torch
from helpers.trainers import QUIET
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_fastrecipes import SGDR, EpochTable
from lightning_fastrecipes import _lightning as pl


class Module(pl.LightningModule):
    """Logs what people call things, not what this package does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        loss = self.layer(batch[0]).square().mean()
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/acc", self.layer(batch[0]).mean() * 0 + 0.25)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(*callbacks: pl.Callback, epochs: int = 3, **options) -> None:
    loader = DataLoader(TensorDataset(torch.ones(8, 2)), batch_size=4)
    trainer = pl.Trainer(**QUIET, max_epochs=epochs, callbacks=list(callbacks), **options)
    trainer.fit(Module(), loader, loader)


def test_every_epoch_is_one_line_under_the_names(capsys) -> None:
    fit(EpochTable())
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["epoch", "loss", "val/acc", "lr", "seconds"]
    assert [line.split()[0] for line in lines] == ["1/3", "2/3", "3/3"]
    assert {line.split()[2] for line in lines} == {"0.25"}
    # Columns stand under their names.
    assert {len(line) for line in [head, *lines]} == {len(head)}


def test_the_rate_is_the_highest_of_the_epoch() -> None:
    table = EpochTable()
    fit(SGDR(cycle_len=1), table, epochs=1)
    assert table.rows[0]["lr"] == pytest.approx(0.1)


def test_names_are_written_anew_where_columns_change(capsys) -> None:
    fit(EpochTable(), check_val_every_n_epoch=2, epochs=2)
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["epoch", "1/2", "epoch", "2/2"]


def test_the_rows_of_a_second_fit_are_its_own() -> None:
    table = EpochTable()
    fit(table)
    fit(table, epochs=1)
    assert [row["epoch"] for row in table.rows] == [0]


def test_a_notebook_shows_one_table_that_grows(monkeypatch, capsys) -> None:
    shown = []

    class Handle:
        def update(self, content) -> None:
            shown[-1] = content

    def display(content, display_id):
        shown.append(content)
        return Handle()

    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    ipython.display = types.ModuleType("IPython.display")
    ipython.display.HTML, ipython.display.display = str, display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    fit(EpochTable(), check_val_every_n_epoch=2)

    (content,) = shown
    assert content.count("<tr>") == 4
    assert "<th>val/acc</th>" in content
    assert "<td>2/3</td>" in content
    assert capsys.readouterr().out == ""
