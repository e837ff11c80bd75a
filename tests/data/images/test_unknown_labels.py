"""Labels that are unknown: empty or -1 in columns of 0 and 1, of probabilities, and in arrays."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch

from lightning_fastrecipes import (
    ImageArrayDataModule,
    ImageCSVDataModule,
    LabelTable,
    SoftLabels,
    Tags,
)
from lightning_fastrecipes.errors import DataError

NAMES = ["edema", "nodule", "scar"]
CELLS = [
    [1, 0, 1],
    [0, 1, None],
    [-1, 1, 0],
    [0, 0, 0],
    [None, -1, None],
    [1, None, 1],
]


def write(tmp_path, draw, cells=CELLS, names=NAMES) -> pd.DataFrame:
    for number in range(len(cells)):
        draw(tmp_path / f"{number}.png")
    frame = pd.DataFrame(cells, columns=names, dtype=object)
    frame.insert(0, "file", [f"{number}.png" for number in range(len(cells))])
    return frame.assign(split=["train"] * (len(cells) - 2) + ["val"] * 2)


def read(source, tmp_path, labels=None, **options) -> ImageCSVDataModule:
    table = LabelTable(str(tmp_path), labels=labels or Tags(columns=NAMES))
    data = ImageCSVDataModule(source, table=table, split="split", image_size=8, cache="off")
    data.setup()
    return data


@pytest.mark.parametrize("form", ["frame", "csv", "blank csv", "float csv"])
def test_unknown_labels_are_nan_and_counted(tmp_path, draw, caplog, form) -> None:
    frame = write(tmp_path, draw)
    source = frame
    if form != "frame":
        source = tmp_path / "labels.csv"
        if form == "float csv":
            frame[NAMES] = frame[NAMES].astype(float)
        text = frame.to_csv(index=False)
        source.write_text(text.replace(",,", ", ,") if form == "blank csv" else text)
    with caplog.at_level(logging.INFO):
        data = read(source, tmp_path)
    assert "6 of 18 labels are unknown and are left out, with 1 images that have no known" in (
        caplog.text
    )
    assert data.classes == NAMES
    nan = float("nan")
    wanted = torch.tensor([[1, 0, 1], [0, 1, nan], [nan, 1, 0], [0, 0, 0]])
    torch.testing.assert_close(data.train_targets, wanted, equal_nan=True)
    # The image without any known label is in no split.
    dataset = data.eval_dataset("val")
    assert [name[-5:] for name in dataset.files] == ["5.png"]
    torch.testing.assert_close(dataset.targets, torch.tensor([[1, nan, 1]]), equal_nan=True)


def test_nothing_is_said_where_all_is_known(tmp_path, draw, caplog) -> None:
    frame = write(tmp_path, draw, [[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0]] * 2)
    with caplog.at_level(logging.INFO):
        data = read(frame, tmp_path)
    assert "unknown" not in caplog.text
    assert bool(data.train_targets.isfinite().all())


@pytest.mark.parametrize("odd", [2, -2, 0.5, "x"])
def test_other_values_are_refused_by_their_rows(tmp_path, draw, odd) -> None:
    frame = write(tmp_path, draw, [*CELLS[:3], [odd, 1, 0], *CELLS[4:]])
    with pytest.raises(DataError, match=r"else than 0 and 1 .*: '3.png \(row 3\)'. Correct them\."):
        read(frame, tmp_path)


def test_columns_that_are_not_named_may_not_have_gaps(tmp_path, draw) -> None:
    frame = write(tmp_path, draw)
    keys = r"has no column 'label'.*--data.table.file_column=NAME`, `--data.table.labels.column="
    with pytest.raises(DataError, match=keys):
        read(frame, tmp_path, labels="label")


def test_soft_labels_fill_one_gap_and_leave_rows_without_any_out(tmp_path, draw, caplog) -> None:
    cells = [[0.2, 0.3, None], [1, 0, 0], [-1, 0.5, 0.5], [0.1, 0.1, 0.8], [None] * 3, [0, 1, 0]]
    frame = write(tmp_path, draw, cells)
    with caplog.at_level(logging.INFO):
        data = read(frame, tmp_path, labels=SoftLabels(NAMES))
    assert "5 of 18 labels are unknown" in caplog.text
    wanted = torch.tensor([[0.2, 0.3, 0.5], [1, 0, 0], [0, 0.5, 0.5], [0.1, 0.1, 0.8]])
    torch.testing.assert_close(data.train_targets, wanted)
    assert len(data.eval_dataset("val")) == 1
    frame.loc[0, "edema"] = None
    with pytest.raises(DataError, match=r"no probabilities .* sum to 1: '0.png \(row 0\)'"):
        read(frame, tmp_path, labels=SoftLabels(NAMES))


def test_a_probability_that_is_unknown_leaves_its_row_out(tmp_path, draw) -> None:
    frame = write(tmp_path, draw, [[0.2], [0.9], [None], [0.4], [-1], [0.7]], ["p"])
    data = read(frame, tmp_path, labels=SoftLabels(["no", "yes"], probability_column="p"))
    torch.testing.assert_close(data.train_targets[:, 1], torch.tensor([0.2, 0.9, 0.4]))
    assert np.allclose(data.eval_dataset("val").targets[:, 1], [0.7])


def arrays(cells) -> dict:
    pixels = np.random.default_rng(0).integers(0, 256, (len(cells), 8, 8), dtype=np.uint8)
    cells = np.array(cells, dtype=np.float64)
    return {
        "x_train": pixels[:4], "y_train": cells[:4], "x_val": pixels[4:], "y_val": cells[4:],
        "x_test": pixels[:2] + 1,
    }  # fmt: skip


def test_arrays_may_have_several_labels_some_unknown(caplog) -> None:
    nan = float("nan")
    cells = [[nan if cell is None else cell for cell in row] for row in CELLS]
    options = {"image_size": 8, "labels": Tags(columns=NAMES)}
    data = ImageArrayDataModule(arrays(cells), **options)
    with caplog.at_level(logging.INFO):
        data.setup()
    assert "6 of 18 labels are unknown and are left out, with 1 images that have no" in caplog.text
    assert (data.classes, data.label_kind) == (NAMES, "multi")
    wanted = torch.tensor([[1, 0, 1], [0, 1, nan], [nan, 1, 0], [0, 0, 0]])
    torch.testing.assert_close(data.train_targets, wanted, equal_nan=True)
    dataset = data.eval_dataset("val")
    torch.testing.assert_close(dataset.targets, torch.tensor([[1, nan, 1]]), equal_nan=True)
    # The images that are left belong to their labels still.
    whole = ImageArrayDataModule(arrays(np.nan_to_num(cells, nan=1).clip(0)), **options)
    whole.setup()
    assert torch.equal(dataset[0][0], whole.eval_dataset("val")[1][0])
    assert not torch.equal(dataset[0][0], whole.eval_dataset("val")[0][0])
    assert len(data.eval_dataset("predict")) == 2
    known = arrays([[1, 0, 1], [0, 1, 1], [0, 0, 0], [1, 1, 1]] * 2)
    known |= {name: known[name].astype(bool) for name in ("y_train", "y_val")}
    data = ImageArrayDataModule(known, **options)
    data.setup()
    assert data.train_targets[1].tolist() == [0.0, 1.0, 1.0]
    for labels, wrong, match in (
        (Tags(columns=NAMES[:2]), cells, "must name each of the 3 columns of `y_train`, but na"),
        (Tags(columns=NAMES), [[0, 2, 1], *cells[1:]], "those of 'train/0' are not"),
    ):
        with pytest.raises(DataError, match=match):
            ImageArrayDataModule(arrays(wrong), image_size=8, labels=labels).setup()
