"""Where the command writes: odd places are refused before any work, and names steer no terminal."""

import io
from pathlib import Path

import pytest
from PIL import Image
from rich.table import Table

from lightning_fastrecipes.cli import main as cli_main
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.cli.output import PlainConsole
from lightning_fastrecipes.data.common.files import atomic_path, copy_folder, write_atomically
from lightning_fastrecipes.errors import ConfigurationError, DataNotFoundError, RecipeError
from lightning_fastrecipes.messages import name_some, shown

HOUSE_ONE = Path(__file__).parent / "fixtures" / "house_one"
PHOTOS = ["predict", str(HOUSE_ONE / "run_folders" / "photos")]
ODD = ["/etc/passwd/x", "/dev/null/x", "/proc/x", "x" * 300, "a" * 5000, "nul\0byte"]


@pytest.mark.parametrize("place", [*ODD, "", ".", "folder", "/dev/null", "gone"])
@pytest.mark.parametrize("command", ["predict", "show-batch"])
def test_an_odd_file_is_refused_before_any_work(tmp_path, monkeypatch, capsys, command, place):
    words = [*PHOTOS, "a.png", "--out"] if command == "predict" else [command, "cats_dogs", "--out"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "gone").symlink_to("nowhere")
    before = sorted(tmp_path.iterdir())
    has_suffix = words[0] == "show-batch" and place not in ("", ".", "folder", "gone", "/dev/null")
    assert main([*words, f"{place}.png" if has_suffix else place]) in (1, 2)
    said = capsys.readouterr().err
    if words[0] == "predict" or has_suffix:
        assert "must name a file that can be written" in said
    assert len(said) < 800
    if place in ("folder", "/dev/null"):
        assert "it is a folder or a device" in said
    assert sorted(tmp_path.iterdir()) == before
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("place", [*ODD, "/etc/passwd", "file"])
@pytest.mark.parametrize(
    ("command", "option"), [("run", ["--out"]), ("copy", []), ("lr-find", ["--stage=all", "--out"])]
)
def test_an_odd_folder_is_refused_before_any_work(
    tmp_path, monkeypatch, capsys, command, option, place
) -> None:
    words = [command, "cats_dogs", *option]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert main([*words, place]) in (1, 2)
    said = capsys.readouterr().err
    assert "must name a folder that can be written" in said
    assert len(said) < 800
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_figures_have_an_ending_of_figures(tmp_path, capsys) -> None:
    assert main(["show-batch", "cats_dogs", "--out", str(tmp_path / "x.zz")]) == 2
    assert "`--out` must end in .png" in capsys.readouterr().err


def test_predictions_of_an_empty_folder_are_refused(tmp_path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    assert main([*PHOTOS, str(tmp_path / "empty"), "--out", str(tmp_path / "o.csv")]) == 1
    assert "holds no file" in capsys.readouterr().err
    assert not (tmp_path / "o.csv").exists()


def test_a_resumed_run_writes_through_no_link_out_of_its_folder(tmp_path, capsys) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    run.mkdir()
    other.mkdir()
    (run / "recipe.yaml").write_text("description: x\n")
    (run / "inner").mkdir()
    (run / "own").symlink_to("inner")
    assert main(["run", "--resume", str(run)]) == 2
    assert "link" not in capsys.readouterr().err
    (run / "inner" / "checkpoints").symlink_to(other)
    assert main(["run", "--resume", str(run)]) == 2
    assert "must not lead out of the run folder" in capsys.readouterr().err


def test_atomic_files_replace_no_device_and_no_folder(tmp_path) -> None:
    for path in (tmp_path, Path("/dev/null")):
        with pytest.raises(FileExistsError, match="must be a file"), atomic_path(path):
            pass
    write_atomically(tmp_path / "a" / "b.txt", "old")
    with pytest.raises(UnicodeEncodeError, match="surrogates"):
        write_atomically(tmp_path / "a" / "b.txt", "new \ud800")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]
    assert (tmp_path / "a" / "b.txt").read_text() == "old"


def test_a_folder_is_copied_as_a_whole_or_not_at_all(tmp_path) -> None:
    for name in ("source/a.txt", "source/runs/b.txt", "target/old.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    copy_folder(tmp_path / "source", tmp_path / "target", ("runs",))
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["a.txt"]
    with pytest.raises(FileNotFoundError, match="gone"):
        copy_folder(tmp_path / "gone", tmp_path / "target")
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["a.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_names_steer_no_terminal() -> None:
    written = io.StringIO()
    console = PlainConsole(file=written, force_terminal=True, color_system=None, width=80)
    name = "\x1b[2J[red]x[/y] :smile: \x9b31m\u202e"
    console.print(name)
    table = Table(title=name)
    table.add_column(name)
    table.add_row(name)
    console.print(table)
    said = written.getvalue()
    assert "\x1b[2J" not in said
    assert "\x9b" not in said
    assert "\u202e" not in said
    assert said.count(r"\x1b[2J[red]x[/y] :smile:") == 4


@pytest.mark.parametrize("kind", [RecipeError, ConfigurationError, DataNotFoundError])
def test_messages_are_short_and_steer_nothing(kind) -> None:
    said = str(kind("begin \x1b[2J\n" + "x" * 1_000_000 + " Do this."))
    assert len(said) < 5000
    assert said.startswith("begin \\x1b[2J\n")
    assert said.endswith(" Do this.")
    assert len(shown(["x" * 10_000] * 10_000)) < 500
    assert len(shown({"a": {"b": {"c": ["x" * 10_000]}}})) < 500
    assert len(name_some(["x" * 10_000] * 10_000)) < 20 * 500


def test_the_command_prints_names_of_files_as_they_are(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["copy", "cats_dogs", "[red]a"]) == 0
    assert "Copied to [red]a/cats_dogs." in capsys.readouterr().out
    assert (tmp_path / "[red]a" / "cats_dogs" / "recipe.yaml").is_file()


def test_a_full_disk_is_one_line(tmp_path, capsys, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "x.csv")

    monkeypatch.setitem(cli_main._COMMANDS, "ls", full)
    assert main(["ls"]) == 1
    assert capsys.readouterr().err == "fastrecipes: No space left on device: x.csv\n"


def test_the_list_of_skipped_files_is_a_table(tmp_path) -> None:
    import pandas as pd

    from lightning_fastrecipes.recipe.images.modality import Images

    class Data:
        skipped_files = [('a "b",\n.png', "no image")]  # noqa: RUF012

    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    Images().write_findings(Data(), tmp_path)
    found = pd.read_csv(tmp_path / "skipped_files.csv")
    assert found.values.tolist() == [['a "b",\n.png', "no image"]]
