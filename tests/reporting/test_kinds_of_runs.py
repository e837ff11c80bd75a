"""Reports of every kind of run, from run folders that an earlier version wrote."""

import json
import re
import shutil
from pathlib import Path

import pytest

import lightning_fastrecipes as fr

WRITTEN = Path(__file__).parents[1] / "fixtures" / "house_one"


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Report on a copy of a run folder, whose data are where its recipe says; return the page."""

    def make(name: str) -> dict:
        folder = tmp_path / name
        shutil.copytree(WRITTEN / "run_folders" / name, folder)
        for table in folder.rglob("predictions_*.csv"):
            table.write_text(table.read_text().replace("/tmp/house_one", str(WRITTEN)))
        monkeypatch.chdir(WRITTEN)
        path = fr.report(folder)
        found = re.search(r'id="data">(.*?)</script>', path.read_text(), re.S)
        return json.loads(found.group(1))

    return make


def blocks(page: dict, name: str) -> dict[str, dict]:
    section = next(one for one in page["sections"] if one["name"] == name)
    return {one.get("title", one["type"]): one for one in section["blocks"]}


def result(page: dict, split: str, metric: str) -> list:
    table = blocks(page, "results")["Results, with 95 % confidence intervals"]
    row = next(row for row in table["rows"] if (row[0], row[2]) == (split, metric))
    return dict(zip(table["columns"], row, strict=True))


def test_soft_labels_have_images_and_classes(page) -> None:
    found = page("soft")
    assert all(image["thumb"] for image in found["images"])
    assert set(blocks(found, "classes")["Confusion matrix, val split"]["classes"]) == {"no", "yes"}
    assert "Parts of the data" not in [one["title"] for one in found["sections"]]


def test_tags_have_curves_thresholds_and_cooccurrence(page) -> None:
    found = page("tags")
    labels = blocks(found, "labels")
    assert {"Labels, val split, the commonest first", "Labels that go together, val split"} <= set(
        labels
    )
    curves = labels["Precision and recall by threshold, val split"]["series"]
    assert {one["name"] for one in curves} <= {"blue", "even", "late", "red"}
    assert all(image["thumb"] for image in found["images"])
    row = result(found, "val", "f2")
    base = next(name for name in row if name.endswith("commonest labels always"))
    assert 0 <= row[base] <= 1


def test_numbers_of_a_table_have_baselines_residuals_and_columns(page) -> None:
    found = page("sales")
    row = result(found, "val", "rmse")
    low, high = (float(end) for end in row["95 % interval"].split(" to "))
    assert low <= row["value"] <= high
    assert {"the mean always", "linear", "gradient boosting"} <= set(row)
    worst = blocks(found, "target-0-rows")["Worst rows, test split"]
    errors = [one[-1] for one in worst["rows"]]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == pytest.approx(abs(worst["rows"][0][1] - worst["rows"][0][2]), rel=1e-4)
    assert {"Importance", "Partial dependence on Noise"} <= set(blocks(found, "columns"))
    # The test split is of later days alone.
    drift = blocks(found, "drift")["Columns"]
    assert {row[0] for row in drift["rows"]} >= {"Shop", "Km"}
    assert any(title.startswith("Embedding of") for title in blocks(found, "embeddings"))


def test_classes_of_a_table_have_a_confusion_matrix_and_calibration(page) -> None:
    found = page("kinds")
    names = blocks(found, "target-0")
    assert names["Confusion matrix, val split"]["classes"] == ["big", "small"]
    assert "Expected calibration error" in names
    assert result(found, "test", "accuracy")["the commonest class always"] > 0
    assert "Worst rows, test split" in blocks(found, "target-0-rows")


def test_a_series_has_a_report_of_each_variant(page, tmp_path) -> None:
    found = page("digits")
    reports = sorted(path.parent.name for path in tmp_path.rglob("report.html"))
    assert reports == ["hidden", "linear", "two"]
    assert found["images"]
