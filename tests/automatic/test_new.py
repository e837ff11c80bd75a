"""`fastrecipes new`: what it writes runs, and every decision is said with its figure."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from lightning_fastrecipes.automatic.looking import draft_recipe
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import DataError, DataNotFoundError
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run.checks import check_without_data
from lightning_fastrecipes.recipe.run.plan import build_parts

RNG = np.random.default_rng(0)


def table(rows: int = 400) -> pd.DataFrame:
    size, hour = RNG.normal(size=rows), np.resize(np.arange(4), rows)
    return pd.DataFrame(
        {
            "Unnamed: 0": np.arange(rows),
            "size": size,
            "hour": hour,
            "shop": np.resize(["a", "b", "c"], rows),
            "same": 1,
            "price of it": size + hour + RNG.normal(size=rows),
        }
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, count in (("cat", 30), ("dog", 24)):
        for number in range(count):
            path = tmp_path / "photos" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def test_lists_beside_images_are_read_as_the_datamodule_reads_them(tmp_path: Path, capsys) -> None:
    files = [f"images/{number}.png" for number in range(30)]
    for name in files:
        (tmp_path / "images").mkdir(exist_ok=True)
        pixels = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    for split, part in {"train": files[:18], "val": files[18:24], "test": files[24:]}.items():
        lines = [f"{name}, {place % 3}" for place, name in enumerate(part)]
        (tmp_path / f"{split}.txt").write_text("\n".join(lines))
    assert main(["new", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "data: 30 images that lists beside them name" in printed
    assert "task: 3 classes" in printed
    assert "split: as the data have it: 18 train, 6 val, 6 test." in printed


def test_a_table_gets_a_recipe_that_trains(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    frame = table()
    frame.loc[3, "price of it"] = None
    frame.to_csv("prices.csv", index=False)
    assert main(["new", "prices.csv"]) == 0
    printed = capsys.readouterr().out
    assert "data: a table of 400 rows and 6 columns." in printed
    assert "column 'Unnamed: 0': left out, counts or names the rows" in printed
    assert "column 'same': left out, '1' in all 399 rows." in printed
    assert "rows: 1 without 'price of it' are left out" in printed
    path = Path("recipes/prices/recipe.yaml")
    # Decisions are comments of the file.
    assert "# column 'same': left out" in path.read_text()
    columns = yaml.safe_load(path.read_text())["data"]["init_args"]["columns"]
    assert columns["continuous"] == ["size"]
    assert columns["categorical"] == ["hour", "shop"]
    assert main(["run", str(path), "--fast-dev-run", "--out", "run"]) == 0
    assert main(["new", "prices.csv", "--folds", "3", "--out", "folds"]) == 0
    assert load_recipe(Path("folds/recipe.yaml")).folds == 3
    assert main(["new", "prices.csv"]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_text_with_few_rows_each_is_left_out_and_how_to_keep_it_is_said(tmp_path: Path) -> None:
    frame = table().assign(
        name=[f"{n % 280}, Mr" for n in range(400)], deck=np.resize([*"ABC"], 400)
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    draft = draft_recipe(tmp_path / "t.csv", "price of it")
    assert draft.document["data"]["init_args"]["columns"]["categorical"] == [
        "hour", "shop", "deck",
    ]  # fmt: skip
    said = [str(decision) for decision in draft.decisions]
    few = "280 values in 400 rows, too few rows each to learn from."
    assert f"column 'name': left out, {few}" in said
    assert any(line.startswith("left out: a column is kept by its name under") for line in said)


def test_rules_show_in_the_recipe(tmp_path: Path) -> None:
    frame = table().assign(
        when=pd.date_range("2020-01-01", periods=400).strftime("%d.%m.%Y"),
        kind=np.resize(["x", "y", "y", "y"], 400),
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    draft = draft_recipe(tmp_path / "t.csv", "kind")
    data = draft.document["data"]["init_args"]
    assert data["split"] == {"column": "when", "val_last": 0.2}
    assert data["steps"][0]["date_parts"]["date_format"] == "%d.%m.%Y"
    assert data["columns"]["task"] == "classes"
    assert "when_Dayofyear_sin" in data["columns"]["continuous"]
    built, _ = build_parts(draft.recipe(tmp_path / "recipe.yaml"))
    assert built.num_rows("val") == 80


@pytest.mark.parametrize(
    ("added", "split"),
    [
        ({"patient": np.repeat(np.arange(40), 10)}, {"column": "patient", "val": 0.2}),
        ({"split": ["train"] * 300 + ["test"] * 100}, "split"),
        ({}, {"val": 0.2}),
    ],
)
def test_splits_follow_the_columns(tmp_path: Path, added, split) -> None:
    frame = table().assign(**added)
    frame.to_parquet(tmp_path / "t.parquet")
    draft = draft_recipe(tmp_path / "t.parquet", "price of it")
    data = draft.document["data"]["init_args"]
    assert data["split"] == split
    assert not {*added} & {*data["columns"]["categorical"], *data["columns"]["continuous"]}


def test_a_table_in_memory_is_written_beside_its_recipe(tmp_path: Path) -> None:
    draft = draft_recipe(table(), "price of it", tmp_path / "out")
    source = Path(draft.document["data"]["init_args"]["source"])
    assert source == tmp_path / "out" / "data.parquet"
    assert len(pd.read_parquet(source)) == 400


def test_a_folder_of_photos_gets_head_and_fine_tuning(photos: Path, tmp_path: Path) -> None:
    copy = photos / "cat" / "copy.png"
    copy.write_bytes((photos / "cat" / "0.png").read_bytes())
    draft = draft_recipe(photos)
    said = "\n".join(map(str, draft.decisions))
    assert "55 images in folders of their classes, of 50 x 40 pixels" in said
    assert "1 file repeats another" in said
    assert "'cat' in 31 images, 'dog' in 24" in said
    assert list(draft.document["stages"]) == ["head", "all"]
    assert draft.document["data"]["init_args"]["image_size"] == 64
    check_without_data(draft.recipe(tmp_path / "recipe.yaml"))


def test_too_few_photos_a_class_stay_with_the_head(tmp_path: Path, photos: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(6, 30):
            (photos / name / f"{number}.png").unlink(missing_ok=True)
    draft = draft_recipe(photos)
    assert list(draft.document["stages"]) == ["head"]
    assert "under 10 a class" in "\n".join(map(str, draft.decisions))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"tags": ["sun sea", "sea", "sun sky sea", "sky", "sky sun", "sun"] * 9}, "tags"),
        ({"age": RNG.normal(40, 5, 54)}, "lightning_fastrecipes.Numbers"),
        ({"sun": [0, 1] * 27, "sea": [1, 1, 0] * 18}, ["sun", "sea"]),
    ],
)
def test_tables_of_images_say_their_labels(photos: Path, tmp_path: Path, labels, expected) -> None:
    files = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*.png"))]
    pd.DataFrame({"photo": files, **labels}).to_csv(tmp_path / "labels.csv", index=False)
    draft = draft_recipe(tmp_path / "labels.csv")
    chosen = draft.document["data"]["init_args"]["table"]["labels"]
    named = chosen if isinstance(chosen, str) else chosen.get("class_path") or chosen["columns"]
    assert named == expected
    assert draft.document["data"]["init_args"]["table"]["folder"] == str(photos)
    recipe = draft.recipe(tmp_path / "recipe.yaml")
    check_without_data(recipe)


@pytest.mark.parametrize("given", [False, True], ids=["near", "named"])
def test_images_of_a_table_are_found_near_it_or_named(
    photos: Path, tmp_path: Path, given: bool, monkeypatch
) -> None:
    home = tmp_path / ("far/away/lists" if given else "lists")
    home.mkdir(parents=True)
    files = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*.png"))]
    tags = np.resize(["sun sea", "sea", "sun sky sea", "sky", "sky sun", "sun"], len(files))
    frame = pd.DataFrame({"photo": files, "tags": tags, "season": np.resize([*"ab"], len(files))})
    frame.to_csv(home / "tags.csv", index=False)
    monkeypatch.chdir(tmp_path)
    words = ["new", str(home / "tags.csv"), "--out", "recipe"]
    if given:
        assert main(words) == 1
        words += ["--images", "photos"]
    assert main(words) == 0
    written = yaml.safe_load(Path("recipe/recipe.yaml").read_text())["data"]["init_args"]
    assert written["table"] == {"file_column": "photo", "folder": str(photos), "labels": "tags"}
    assert "any number for an image" in Path("recipe/recipe.yaml").read_text()


@pytest.mark.parametrize("target", [None, "label"])
def test_a_list_without_a_header_is_said_to_be_one(photos: Path, target) -> None:
    files = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*.png"))]
    (photos / "list.txt").write_text("\n".join(f"{name}, {len(name)}" for name in files))
    said = "is no header: it names the image 'cat/0.png'.*`column_names: \\[file, label\\]`"
    with pytest.raises(DataError, match=said) as caught:
        draft_recipe(photos / "list.txt", target)
    assert "to read its lists" not in str(caught.value)
    (photos / "list.txt").rename(photos / "train.txt")
    with pytest.raises(DataError, match=f"name the folder '{photos}' without a target to"):
        draft_recipe(photos / "train.txt", target)


@pytest.mark.parametrize("kind", ["folders", "tags", "rows"])
def test_what_a_run_refuses_is_said_first_in_the_same_words(
    photos: Path, tmp_path: Path, capsys, kind
) -> None:
    files = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*.png"))]
    splits = ["train"] * 44 + ["val"] * 10
    rest = {"split": splits} if kind != "folders" else {}
    data, new = tmp_path / "data.csv", "moon"
    if kind == "folders":
        data, new = photos, "fox"
        for place, name in enumerate(files):
            split = "val" if place % 5 == 0 else "train"
            label = "fox" if place == 50 else name.partition("/")[0]
            target = photos / split / label / f"{place}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            (photos / name).rename(target)
        for name in ("cat", "dog"):
            (photos / name).rmdir()
    elif kind == "tags":
        tags = [*np.resize(["sun sea", "sea", "sun sky sea", "sky", "sky sun", "sun"], 53), "moon"]
        pd.DataFrame({"photo": files, "tags": tags, **rest}).to_csv(data, index=False)
    else:
        numbers = {"a": RNG.normal(size=54), "b": RNG.normal(size=54)}
        kinds = [*np.resize(["sun", "sea"], 53), "moon"]
        pd.DataFrame({**numbers, "kind": kinds, **rest}).to_csv(data, index=False)
    target = ["--target", "kind"] if kind == "rows" else []
    assert main(["new", str(data), "--out", str(tmp_path / "out"), *target]) == 1
    printed = capsys.readouterr()
    first = printed.out.splitlines()[0]
    assert first.startswith("refused: `fastrecipes run` will not train on these data. The")
    assert new in first
    assert "as the first line says" in " ".join(printed.err.split())
    path = tmp_path / "out" / "recipe.yaml"
    assert path.read_text().startswith("# refused: ")
    assert main(["run", str(path), "--out", str(tmp_path / "run")]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert first.partition("these data. ")[2] in said


def test_what_is_no_data_is_refused(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(DataNotFoundError, match="must name something that exists"):
        draft_recipe(tmp_path / "nothing.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no image and no table"):
        draft_recipe(tmp_path / "empty")
    with pytest.raises(DataError, match=r"classes of .* are its folders"):
        draft_recipe(photos, "label")
    table(5).to_csv(tmp_path / "few.csv", index=False)
    with pytest.raises(DataError, match="20 rows and two columns"):
        draft_recipe(tmp_path / "few.csv")
    pd.DataFrame({"a": 1, "y": range(50)}).to_csv(tmp_path / "nothing_said.csv", index=False)
    with pytest.raises(DataError, match=r"says anything about 'y'.*by hand\.$"):
        draft_recipe(tmp_path / "nothing_said.csv")
    # Images are looked for in folders beside, too, which are those of other tests.
    files = [f"nowhere_{row}.jpg" for row in range(50)]
    elsewhere = {"image": files, "tags": ["sea sun", "sea"] * 25}
    pd.DataFrame(elsewhere).to_csv(tmp_path / "tags.csv", index=False)
    with pytest.raises(
        DataError, match=r"'image' names images, such as 'nowhere_0.jpg', .* `--images`"
    ):
        draft_recipe(tmp_path / "tags.csv")
    table(50).to_csv(tmp_path / "rows.csv", index=False)
    for data in (photos, tmp_path / "rows.csv", tmp_path / "row*.csv"):
        with pytest.raises(DataError, match=r"is no such table\. Leave it out"):
            draft_recipe(data, images=photos)
        with pytest.raises(DataError, match=r"`images` must be a folder, but .* is a file"):
            draft_recipe(data, images=tmp_path / "rows.csv")


@pytest.mark.parametrize("sign", ["\u2028", "\x85", "\u2029", "\n", "\x1b[2J"], ids=ascii)
def test_names_of_columns_write_no_keys_into_the_recipe(tmp_path: Path, sign) -> None:
    name = f"shop{sign}trainer: {{max_steps: 1}} #"
    frame = table(80).rename(columns={"shop": name})
    frame.to_csv(tmp_path / "prices.csv", index=False)
    assert main(["new", str(tmp_path / "prices.csv"), "--out", str(tmp_path / "new")]) == 0
    text = (tmp_path / "new" / "recipe.yaml").read_text()
    assert "# categories:" in text
    document = yaml.safe_load(text)
    assert set(document) == {"description", "seed", "data", "model", "stages"}
    assert name in document["data"]["init_args"]["columns"]["categorical"]
