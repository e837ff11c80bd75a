"""The report of a run: what is on the page, and that it is one safe file."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import lightning_fastrecipes as fr
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.cli.report_commands import report_on_run
from lightning_fastrecipes.errors import DataNotFoundError
from lightning_fastrecipes.recipe.loading import load_recipe


class _Page(HTMLParser):
    """Collect tags, attributes and the data of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside = ""
        self.texts: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = dict(attrs).get("id", tag)

    def handle_data(self, data) -> None:
        self.texts[self.inside] = self.texts.get(self.inside, "") + data


def read_page(path: Path) -> dict:
    return json.loads(_Page(path.read_text()).texts["data"])


def section(page: dict, name: str) -> dict:
    return next(one for one in page["sections"] if one["name"] == name)


def block(page: dict, name: str, start: str) -> dict:
    return next(one for one in section(page, name)["blocks"] if one["title"].startswith(start))


def test_a_run_ends_with_a_page_of_all_that_is_promised(run) -> None:
    page = read_page(run / "report.html")
    names = [one["name"] for one in page["sections"]]
    assert names[:2] == ["results", "next"]
    assert set(names) >= {
        "classes", "calibration", "galleries", "map", "curves", "time", "recipe"
    }  # fmt: skip
    results = json.loads((run / "results.json").read_text())
    rows = section(page, "results")["blocks"][0]["rows"]
    measured = {(row[0], row[2]): row for row in rows}
    for split in ("val", "test"):
        for name, value in results[split].items():
            assert measured[split, name][3] == pytest.approx(value, rel=1e-5)
    # Half of the images, or nearly so, are of the commonest class.
    row = measured["test", "accuracy"]
    low, high = (float(end) for end in row[4].split(" to "))
    assert low <= row[3] <= high
    assert row[5] == pytest.approx(0.5, abs=0.2)


def test_images_carry_thumbnails_truth_and_heat(run, evil) -> None:
    page = read_page(run / "report.html")
    assert len(page["images"]) == 14
    assert {image["split"] for image in page["images"]} == {"val", "test"}
    for image in page["images"]:
        assert image["thumb"]
        assert image["truth"] in evil
        assert image["right"] == (image["truth"] == image["prediction"])
        assert image["name"].startswith(f"{image['truth']}/")
    assert any(image["heat"] for image in page["images"])
    wrong = block(page, "galleries", "Surest")["images"]
    assert all(page["images"][place]["right"] for place in wrong)
    sure = [page["images"][place]["sure"] for place in wrong]
    assert sure == sorted(sure, reverse=True)
    assert {place for place, *_ in section(page, "map")["blocks"][1]["points"]} == set(range(14))


def test_the_confusion_matrix_is_that_of_the_predictions(run) -> None:
    page = read_page(run / "report.html")
    matrix = block(page, "classes", "Confusion matrix, test")
    images = [image for image in page["images"] if image["split"] == "test"]
    for row, truth in enumerate(matrix["classes"]):
        for column, taken in enumerate(matrix["classes"]):
            found = sum((i["truth"], i["prediction"]) == (truth, taken) for i in images)
            assert matrix["counts"][row][column] == found


def test_nothing_comes_from_elsewhere(run) -> None:
    page = _Page((run / "report.html").read_text())
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert not {"src", "href", "srcset", "action"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    script = "".join(v for k, v in page.texts.items() if k == "script")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", script)
    assert not re.search(r"\bfetch\(|XMLHttpRequest|WebSocket|import\(", script)
    urls = set(re.findall(r"https?://[^\"'\s]+", script + page.texts["style"]))
    assert urls == {"http://www.w3.org/2000/svg"}  # a name, which nothing is fetched from


def test_names_are_text_whatever_they_contain(run, evil) -> None:
    text = (run / "report.html").read_text()
    assert "onerror=alert" in text
    assert text.isascii()
    page = _Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert not [tag for tag, _ in page.tags if tag in ("img", "b")]
    assert "<img" not in text
    assert "<!--" not in text
    assert {image["truth"] for image in read_page(run / "report.html")["images"]} == set(evil)


def test_without_its_images_a_report_says_so(run, tmp_path, monkeypatch) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("results.json", "metrics.csv", "predictions_val.csv", "predictions_test.csv"):
        (moved / name).write_text((run / name).read_text())
    (moved / "export").symlink_to(run / "export")
    document = yaml.safe_load((run / "recipe.yaml").read_text())
    document["data"]["init_args"]["root"] = str(tmp_path / "gone")
    (moved / "recipe.yaml").write_text(yaml.safe_dump(document))
    page = read_page(fr.report(moved))
    assert "not to be had" in section(page, "galleries")["blocks"][0]["text"]
    assert not any(image["thumb"] for image in page["images"])
    assert block(page, "classes", "Confusion matrix, test")["counts"]


def test_other_images_in_the_splits_are_not_shown_as_those_of_the_run(run, tmp_path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("recipe.yaml", "results.json", "metrics.csv"):
        (moved / name).write_text((run / name).read_text())
    for name in ("predictions_val.csv", "predictions_test.csv"):
        (moved / name).write_text((run / name).read_text().replace(".png", ".jpg"))
    (moved / "export").symlink_to(run / "export")
    page = read_page(fr.report(moved))
    assert "no longer those" in section(page, "galleries")["blocks"][0]["text"]
    assert not any(image["thumb"] for image in page["images"])


def test_a_folder_of_no_run_is_refused(tmp_path) -> None:
    with pytest.raises(DataNotFoundError, match="must be the folder of a finished run"):
        fr.report(tmp_path)
    assert main(["report", str(tmp_path)]) == 1


def test_a_failing_report_leaves_the_run_finished(run, monkeypatch, capsys) -> None:
    def fail(*_, **__):
        raise ValueError("no page")

    monkeypatch.setattr("lightning_fastrecipes.reporting.reports.read_run", fail)
    report_on_run(SimpleNamespace(report=True), run, ())
    assert "no report: no page" in capsys.readouterr().err


def test_a_recipe_may_do_without(run, shared_recipe_file, monkeypatch) -> None:
    monkeypatch.setattr("lightning_fastrecipes.reporting.reports.read_run", pytest.fail)
    recipe = load_recipe(shared_recipe_file, ["report=false"])
    assert load_recipe(shared_recipe_file).report
    report_on_run(recipe, run, ())


def test_a_report_is_the_same_twice(run) -> None:
    before = (run / "report.html").read_text()
    fr.report(run)
    assert (run / "report.html").read_text() == before
