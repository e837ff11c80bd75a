"""Where a run reads and writes: read-only folders, a file, links in circles, the longest names."""

import os
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import draw_squares
from helpers.kills import image_document, run_forked
from helpers.permissions import read_only
from helpers.run_content import assert_same_content, run_content

from lightning_fastrecipes.cli.main import main

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.mark.parametrize("fresh_victim", ["images"], indirect=True)
def test_a_run_needs_nothing_but_its_own_folder(victim, monkeypatch, tmp_path) -> None:
    cache, temporary = victim.home / "cache", tmp_path / "temporary"
    for place in (cache, temporary):
        place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with read_only(cache, victim.home / "data", temporary):
        ended = victim.start()
    assert ended.code == 0, ended.said[-3000:]
    assert "The feature cache must be written to" in ended.said
    assert "Until then features are computed at every start" in ended.said
    assert "Traceback" not in ended.said
    assert_same_content(run_content(victim.folder), victim.expected)


@pytest.mark.parametrize("words", [["--out"], ["--resume"]], ids=lambda words: words[0])
def test_a_run_folder_that_is_read_only_is_refused(recipe_file, tmp_path, capsys, words) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    if words == ["--resume"]:
        (folder / "recipe.yaml").write_bytes(recipe_file.read_bytes())
    else:
        words = [str(recipe_file), *words]
    with read_only(folder):
        assert main(["run", *words, str(folder)]) == 2
    said = capsys.readouterr().err
    assert "must name a folder that can be written" in said
    assert "Permission denied" in said
    assert len(said.splitlines()) == 1


def test_a_file_in_place_of_a_run_folder_is_refused(recipe_file, tmp_path, capsys) -> None:
    (tmp_path / "run").write_text("mine")
    for words in ([str(recipe_file), "--out"], ["--resume"]):
        assert main(["run", *words, str(tmp_path / "run")]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert (tmp_path / "run").read_text() == "mine"


def test_images_of_odd_and_the_longest_names_in_a_circle_of_links(tmp_path) -> None:
    odd = """a, 'b' "c" [d] {e} %s; ä 日本 """
    root, class_name = draw_squares(tmp_path / "data"), odd + "c" * (255 - len(odd.encode()))
    (root / "red").rename(root / class_name)
    for number, path in enumerate(sorted((root / class_name).iterdir())):
        path.rename(path.with_name("x" * min(237 + number, 249) + f"{number:02}.png"))
    (root / "blue" / "0.png").rename(root / "blue" / f"{odd}.png")
    for name, target in (("again", ".."), (odd, "../..")):
        (root / "blue" / name).symlink_to(target, target_is_directory=True)
    names = {path.name for path in (root / class_name).glob("*.png")}
    assert {len(name) for name in names} >= {243, 250, 255}
    document = image_document(root)
    document["stages"] = {"head": document["stages"]["head"]}
    document["evaluation"] = {}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    folder = tmp_path / (odd + "r" * (255 - len(odd.encode())))
    words = ["run", str(tmp_path / "recipe.yaml"), "--out", str(folder)]
    ended = run_forked(words, tmp_path)
    assert ended.code == 0, ended.said[-3000:]
    rows = pd.concat(pd.read_csv(folder / f"predictions_{split}.csv") for split in ("val", "test"))
    assert set(rows["target"]) == {"blue", class_name}
    assert len(rows) == 14
    out = tmp_path / ("ä" * 125 + ".csv")
    assert main(["predict", str(folder), str(root / class_name), "--out", str(out)]) == 0
    assert {Path(file).name for file in pd.read_csv(out)["file"]} == names
