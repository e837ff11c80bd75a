import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from lightning_fastrecipes.callbacks.epoch_table import EpochRows
from lightning_fastrecipes.cli import browsing, loading
from lightning_fastrecipes.cli.main import RUN_FOLDER_VARIABLE, main
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.config import catalog
from lightning_fastrecipes.recipe.config.catalog import find_recipe, recipe_rows, recipes_folder
from lightning_fastrecipes.recipe.config.documents import read_document
from lightning_fastrecipes.recipe.run.runner import Run


@pytest.fixture(autouse=True)
def _no_run_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(RUN_FOLDER_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


def test_ls_names_every_recipe_with_its_description(capsys) -> None:
    assert main(["ls"]) == 0
    printed = capsys.readouterr().out
    found = {row["name"]: row["description"] for row in recipe_rows()}
    for name, description in found.items():
        assert re.search(rf"{name}\s+{re.escape(description)}", printed)
    assert set(found) >= {"solar_cells", "cats_dogs"}


def test_show_prints_card_and_file(capsys) -> None:
    assert main(["show", "cats_dogs"]) == 0
    printed = capsys.readouterr().out
    assert (recipes_folder() / "cats_dogs" / "recipe.yaml").read_text().strip() in printed
    assert "## " in printed


def test_show_lays_the_card_out_on_a_terminal_and_names_the_file(monkeypatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(browsing, "out", Console(file=written, force_terminal=True, width=120))
    monkeypatch.setattr(loading, "out", browsing.out)
    assert main(["show", "cats_dogs"]) == 0
    printed = re.sub(r"\x1b\[[\d;]*m", "", written.getvalue())
    assert printed.startswith(f"Recipe: {recipes_folder() / 'cats_dogs' / 'recipe.yaml'}"[:100])
    assert "## " not in printed
    assert "|---|" not in printed


def test_copy_makes_a_folder_to_edit_and_never_overwrites_one(tmp_path: Path, capsys) -> None:
    assert main(["copy", "cats_dogs", str(tmp_path)]) == 0
    assert (tmp_path / "cats_dogs" / "recipe.yaml").is_file()
    assert main(["copy", "cats_dogs", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_recipe_of_any_name_is_copied_but_not_into_itself(tmp_path, monkeypatch, capsys) -> None:
    home = tmp_path / "home"
    shutil.copytree(recipes_folder() / "cats_dogs", home)
    (home / "recipe.yaml").rename(home / "mine.yaml")
    monkeypatch.chdir(home)
    assert main(["copy", "mine.yaml", "inner/copy"]) == 2
    assert "inner/copy must not lie in" in capsys.readouterr().err
    assert not (home / "inner").exists()
    assert main(["copy", "mine.yaml", "../copy"]) == 0
    assert "fastrecipes run ../copy/mine.yaml" in capsys.readouterr().out
    assert (tmp_path / "copy" / "mine.yaml").is_file()


def test_a_copy_goes_before_the_recipe_of_the_package(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["copy", "flights", "."]) == 0
    assert "fastrecipes run flights/recipe.yaml" in capsys.readouterr().out
    copy = tmp_path / "flights" / "recipe.yaml"
    copy.write_text(copy.read_text().replace("description: ", "description: Mine. "))
    for word in ("flights", "./flights", "flights/", "flights/recipe.yaml"):
        assert main(["show", word]) == 0
        assert "description: Mine." in capsys.readouterr().out
    assert main(["check", "flights"]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert (
        said == f"Recipe: flights/recipe.yaml, not {recipes_folder() / 'flights' / 'recipe.yaml'}"
    )
    # A folder of photos that is called like a recipe is none.
    (tmp_path / "cats_dogs").mkdir()
    assert find_recipe("cats_dogs") == recipes_folder() / "cats_dogs" / "recipe.yaml"
    with pytest.raises(RecipeError, match="There is no recipe"):
        find_recipe("./cats_dogs")


@pytest.mark.parametrize(
    "words", [["nosuch.yaml"], ["flights", "--stages.al.lr=1"], ["flights", "--dta.x=1"]]
)
def test_plain_mistakes_are_named_without_torch(words) -> None:
    code = f"""
import sys
from lightning_fastrecipes.cli.main import main
assert main(["check", *{words!r}]) == 2
assert not {{"torch", "pandas", "matplotlib", "timm"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=100)


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "nowhere", "a.png"], ["predict", ".", "a.png", "--with", "nowhere"],
        ["report", "nowhere"], ["clean", "nowhere", "--apply", "a.csv"],
        ["new", "nowhere"], ["auto", "nowhere"],
    ],
)  # fmt: skip
def test_folders_that_are_not_there_are_named_without_torch(words, tmp_path) -> None:
    code = f"""
import sys
from lightning_fastrecipes.cli.main import main
assert main({words!r}) == 1
assert not {{"torch", "pandas", "matplotlib", "timm"}} & set(sys.modules)
"""
    said = subprocess.run(
        [sys.executable, "-c", code],
        check=True, capture_output=True, timeout=100, cwd=tmp_path, text=True,
    ).stderr  # fmt: skip
    assert "'nowhere'" in said
    assert str(tmp_path / "nowhere") in said


def test_an_interrupted_run_says_where_it_stands_and_how_to_go_on(
    recipe_file, monkeypatch, capsys
) -> None:
    begin = EpochRows.on_train_epoch_start

    def interrupt(self, trainer, module) -> None:
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt
        begin(self, trainer, module)

    monkeypatch.setattr(EpochRows, "on_train_epoch_start", interrupt)
    assert main(["run", str(recipe_file), "--out", "run"]) == 130
    said = capsys.readouterr().err
    assert re.search(r"interrupted after epoch 1 of the stage \w+\. Go on with: ", said)
    assert "fastrecipes run --resume run" in said


def test_check_passes_a_good_recipe_and_names_a_mistake(recipe_file: Path, capsys) -> None:
    assert main(["check", str(recipe_file)]) == 0
    assert main(["check", str(recipe_file), "--model.lr_ration=3"]) == 2
    assert "Did you mean `lr_ratio`?" in capsys.readouterr().err


def test_check_refuses_what_the_layers_of_a_stage_do_not_take(recipe_file: Path, capsys) -> None:
    for words, message in {
        "--stages.all.precompute=true": "stages.all: Precomputed outputs need layers that are",
        "--stages.all.image_size=20": "stages.all: `image_size` must be a multiple of 16",
    }.items():
        model = ["--model.backbone=test_vit.r160_in1k"] if "size" in words else []
        assert main(["check", str(recipe_file), words, *model]) == 2
        assert message in " ".join(capsys.readouterr().err.split())


def test_explain_shows_groups_rates_size_and_steps_without_training(
    recipe_file: Path, tmp_path: Path, capsys
) -> None:
    before = set(tmp_path.rglob("*"))
    assert main(["explain", str(recipe_file)]) == 0
    printed = capsys.readouterr().out
    assert "Stage all: 3 epochs of 4 steps (12), 32 px, batches of 4" in printed
    assert "SGDR(cycle_len=1)" in printed
    for text in ("early", "late", "head", "frozen", "3.33e-04", "1.00e-03", "3.00e-03"):
        assert text in printed
    assert set(tmp_path.rglob("*")) == before


def test_summary_prints_layers_as_a_stage_freezes_them(
    recipe_file: Path, tmp_path: Path, capsys
) -> None:
    before = set(tmp_path.rglob("*"))
    counts = {}
    for stage in ("head", "all"):
        assert main(["summary", str(recipe_file), "--stage", stage]) == 0
        printed = capsys.readouterr().out
        assert f"Model as in stage {stage}" in printed
        assert "Linear" in printed
        found = re.search(r"([\d,]+) parameters, ([\d,]+) of them frozen", printed)
        counts[stage] = [int(number.replace(",", "")) for number in found.groups()]
    assert counts["all"][1] == 0
    assert counts["all"][0] == counts["head"][0] > counts["head"][1] > 0
    assert set(tmp_path.rglob("*")) == before
    assert main(["summary", str(recipe_file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["model"] == "Model as in stage head"
    assert {group["group"]: group["lr"] for group in told["groups"]}["early"] == 0
    assert sum(layer["parameters"] for layer in told["layers"]) == counts["all"][0]
    assert main(["summary", str(recipe_file), "--stage", "al"]) == 2
    assert "there is no stage 'al'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], "Name a recipe"),
        (["run", "cats_dog"], "Did you mean `cats_dogs`"),
        (["run", "cats_dogs", "--data.rot=x"], "Did you mean `root`"),
        (["run", "cats_dogs", "--seed"], "`--seed` needs a value"),
        (["run", "--resume", "nowhere"], "is no run folder"),
        (["ls", "--seed=1"], "takes no overrides"),
        (["run", "cats_dogs", "--fast"], "Did you mean `--fast-dev-run`?"),
        (["run", "cats_dogs", "--dta.root=x"], "Did you mean `--data.root`?"),
        (["run", "cats_dogs", "-data.root=x"], "Did you mean `--data.root`?"),
        (["run", "cats_dogs", "--xyz.root=x"], "Sections of a recipe are data, model"),
        (["run", "--epochs", "3", "cats_dogs"], "`--stages.NAME.max_epochs=N`"),
        (["run", "cats_dogs", "more"], "`run` takes no 'more' here"),
        (["run", "cats_dogs", "--stages.haed.lr=1"], "there is no stage 'haed'"),
        (["walk"], "invalid choice"),
        ([], "List the recipes."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage_ends_with_2_and_says_what_to_do(words, message, capsys) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_missing_data_ends_with_1(recipe_file: Path, capsys) -> None:
    assert main(["run", str(recipe_file), "--data.root", "nowhere", "--out", "run"]) == 1
    assert "'nowhere'" in capsys.readouterr().err


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize(
    "wrong",
    [
        "--data.root=nowhere", "--stages.head.lr=-1", "--trainer.accelerator=tpu",
        "--model.labels.loss=torch.nn.BCELoss", "--model.optim.optimizer=torch.optim.LBFGS",
        "--stages.head.lr=1e30",
    ],
)  # fmt: skip
def test_a_run_that_is_refused_leaves_nothing(
    recipe_file, wrong, is_there, tmp_path, capsys
) -> None:
    words = ["run", str(recipe_file), "--fast-dev-run", "--out", "runs/again"]
    if is_there:
        Path("runs/again").mkdir(parents=True)
        Path("runs/again/log.txt").write_text("before\n")
    before = {*tmp_path.rglob("*")}
    assert main([*words, wrong]) in (1, 2)
    assert {*tmp_path.rglob("*")} == before


@pytest.mark.parametrize("precision", ["16-true", "bf16-true"])
def test_a_trial_of_the_speed_is_in_the_precision_of_the_model(
    recipe_file, precision, tmp_path, capsys
) -> None:
    words = [f"--trainer.precision={precision}", "--stages.head.lr=1e-4", "--stages.all.lr=1e-5"]
    assert main(["run", str(recipe_file), "--fast-dev-run", "--out", "half", *words]) == 0


def test_a_folder_may_be_named_again_if_the_run_had_no_data(recipe_file, tmp_path, capsys) -> None:
    words = ["run", str(recipe_file), "--fast-dev-run", "--out", "again"]
    assert main([*words, "--data.root=nowhere"]) == 1
    # What runs is said before its data are read, which may take long.
    assert "tiny: " in capsys.readouterr().out
    assert not (tmp_path / "again").exists()
    assert main(words) == 0
    assert main(words) == 2
    assert "again is not empty" in capsys.readouterr().err


def test_a_recipe_names_its_runs_by_one_rule(recipe_file, tmp_path) -> None:
    mine = recipe_file.rename(recipe_file.with_name("mine.yaml"))
    assert main(["run", str(mine), "--fast-dev-run"]) == 0
    assert Path("runs/mine/log.txt").is_file()


def test_data_in_place_of_a_recipe_are_said_to_be_data(tmp_path, capsys) -> None:
    Path("photos").mkdir()
    Path("rows.csv").touch()
    for words, hint in (
        (["photos"], "`fastrecipes new photos` .* `fastrecipes auto photos` .*--data.root=photos"),
        (["rows.csv"], "`fastrecipes new rows.csv` .* `fastrecipes auto rows.csv`"),
        (["course", "photos"], "`--data.root=photos`"),
    ):
        assert main(["run", *words]) == 2
        assert re.search(hint, capsys.readouterr().err)


def test_a_run_and_its_predictions(recipe_file: Path, squares: Path, tmp_path, capsys) -> None:
    words = ["run", str(recipe_file), "--stages.all.max_epochs", "1", "--out", "run"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "Stage all took" in printed
    assert "accuracy" in printed
    assert "Stage head begins" in (tmp_path / "run" / "log.txt").read_text()
    assert main(words) == 2
    assert "is not empty" in capsys.readouterr().err

    (squares / "red" / "broken.png").write_bytes(b"no image")
    assert main(["predict", "run", str(squares), "--out", "preds.csv"]) == 1
    assert "broken.png" in capsys.readouterr().err
    assert main(["predict", "run", str(squares / "red" / "0.png")]) == 0
    name, *lines = capsys.readouterr().out.splitlines()
    assert name.startswith(f"{squares / 'red' / '0.png'}  ")
    assert {line.split(":")[0].strip() for line in lines} == {"red", "blue"}
    assert main(["predict", "run", str(squares / "red" / "broken.png")]) == 1
    assert capsys.readouterr().out == ""
    assert main(["predict", "run", str(squares)]) == 1
    assert "28 predictions in all: `--out FILE.csv` writes them" in capsys.readouterr().out
    table = pd.read_csv("preds.csv")
    assert table.columns.tolist() == ["file", "prediction", "blue", "red"]
    assert len(table) == 28
    good = str(squares / "red" / "0.png")
    assert main(["predict", "run", good, "--out", "one.csv"]) == 0
    expected = table[table["file"] == good].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_csv("one.csv"), expected, atol=2e-6, rtol=0)


def test_a_trial_run_goes_through_every_stage(recipe_file: Path, tmp_path: Path) -> None:
    assert main(["run", str(recipe_file), "--fast-dev-run", "--out", "trial"]) == 0
    stages = pd.read_csv(tmp_path / "trial" / "metrics.csv")["stage"].tolist()
    assert stages == ["head", "augmented", "all"]
    assert (tmp_path / "trial" / "results.json").is_file()


def test_predicting_without_an_export_ends_with_1(tmp_path: Path, capsys) -> None:
    assert main(["predict", str(tmp_path), str(tmp_path), "--out", "preds.csv"]) == 1
    assert "no exported model" in capsys.readouterr().err


def test_a_killed_run_resumes_from_the_command_line(recipe_file: Path, tmp_path: Path) -> None:
    killer = tmp_path / "killer.py"
    killer.write_text(
        "import os, signal\n"
        "import pytorch_lightning as pl\n"
        "class Kill(pl.Callback):\n"
        "    def on_train_batch_start(self, trainer, *_):\n"
        "        if trainer.current_epoch == 1 and not os.path.exists('killed'):\n"
        "            open('killed', 'w').close()\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    text = recipe_file.read_text()
    recipe_file.write_text(text + "  - class_path: killer.Kill\n")
    assert recipe_file.read_text().rstrip().endswith("killer.Kill")
    command = [sys.executable, "-m", "lightning_fastrecipes", "run", "--trust", "killer"]
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 300}
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    options["env"] = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    cut = subprocess.run([*command, str(recipe_file), "--out", "cut"], **options)
    assert cut.returncode == -9, cut.stderr
    resumed = subprocess.run([*command, "--resume", "cut"], **options)
    assert resumed.returncode == 0, resumed.stderr
    titles = re.findall(r"Stage (\w+)(:| is finished)", resumed.stdout)
    assert titles == [("head", " is finished"), ("augmented", " is finished"), ("all", ":")]
    history = pd.read_csv(tmp_path / "cut" / "metrics.csv")
    assert history["epoch"].tolist() == [0, 1, 0, 0, 1, 2]


def test_ls_names_data_result_and_time_as_text_and_as_json(capsys) -> None:
    assert main(["ls"]) == 0
    told = capsys.readouterr().out
    assert "data: 2,624 cells, 160 px; result: accuracy" in told
    assert main(["ls", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == {path.parent.name for path in recipes_folder().glob("*/recipe.yaml")}
    assert rows["course"]["variants"] == ["tags"]
    assert rows["flights"]["result"].startswith("16.73 min rmse")


def test_ls_reads_each_recipe_of_the_package_once_and_no_copy(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["copy", "course", "."]) == 0
    copy = tmp_path / "course" / "recipe.yaml"
    copy.write_text(copy.read_text().replace("  tags:", "  mine:"))
    read: list[Path] = []

    def note(path: Path) -> dict:
        read.append(path)
        return read_document(path)

    monkeypatch.setattr(catalog, "read_document", note)
    [course] = [row for row in recipe_rows() if row["name"] == "course"]
    assert course["variants"] == ["tags"]
    assert read == sorted(recipes_folder().glob("*/recipe.yaml"))


def test_check_says_what_it_found_as_json(recipe_file, capsys) -> None:
    assert main(["check", str(recipe_file), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["recipe"] == str(recipe_file)
    assert values["stages"] == ["head", "augmented", "all"]


def test_a_shell_completes_the_commands_or_is_told_what_is_missing(capsys) -> None:
    try:
        import shtab  # noqa: F401
    except ImportError:
        assert main(["completion", "bash"]) == 1
        assert "lightning-fastrecipes[completion]" in capsys.readouterr().err
    else:
        assert main(["completion", "bash"]) == 0
        assert "lr-find" in capsys.readouterr().out


def test_resuming_a_finished_run_shows_it_and_computes_nothing(
    recipe_file, tmp_path, monkeypatch, capsys
) -> None:
    words = [f"--stages.{name}.max_epochs=1" for name in ("head", "augmented", "all")]
    assert main(["run", str(recipe_file), "--out", "run", *words]) == 0
    reached = re.findall("(?:Test|Validation) split.*", capsys.readouterr().out)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    monkeypatch.setattr(Run, "prepare", pytest.fail)
    assert main(["run", "--resume", "run"]) == 0
    said = capsys.readouterr().out
    assert re.findall("(?:Test|Validation) split.*", said) == reached
    assert "run is finished, and stays as it is" in said
    assert "fastrecipes run --continue run --stages.NAME.max_epochs=N" in said
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_a_finished_series_is_resumed_run_by_run(tmp_path, capsys) -> None:
    Path("rows.csv").write_text("x,y\n" + "\n".join(f"{i},{i % 2}.5" for i in range(40)) + "\n")
    Path("recipe.yaml").write_text(
        "description: Rows.\nreport: false\nseries: cumulative\n"
        "validation_guard: false\ninitial_checks: false\n"
        "data: {class_path: lightning_fastrecipes.TabularDataModule, init_args: {source: rows.csv,"
        " columns: {target: y, categorical: [], continuous: [x]}, batch_size: 8}}\n"
        "model: {class_path: lightning_fastrecipes.TabularRegressor}\ntrainer: {accelerator: cpu}\n"
        "stages: {all: {max_epochs: 1, lr: 0.01}}\n"
        "variants: {first: {}, second: {stages.all.max_epochs: 2}}\n"
    )
    assert main(["run", "recipe.yaml", "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["run", "--resume", "run"]) == 0
    assert "Variants, val split" in capsys.readouterr().out
