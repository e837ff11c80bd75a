"""A search that is killed at any moment, or shared by two processes, ends as one that was not."""

import os
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from helpers.kills import killed_at, killed_when, run_forked
from helpers.searches import search_content, write_table

from lightning_fastrecipes.cli.main import main

TRIALS = "--trials=4"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A search that nothing has disturbed, and how many ticks it had."""
    home = tmp_path_factory.mktemp("search")
    write_table(home / "late")
    ended = run_forked(
        ["search", str(home / "late/late.yaml"), TRIALS, f"--out={home}/whole"], home
    )
    assert ended.code == 0, ended.said
    (home / "whole_ticks").write_text(str(ended.ticks))
    return home


def assert_same(home: Path, out: Path) -> None:
    table, choice = search_content(home / "whole")
    found, chosen = search_content(out)
    pd.testing.assert_frame_equal(found, table)
    assert chosen == choice
    first, second = (pd.read_csv(f / "predictions_test.csv") for f in (home / "whole", out))
    pd.testing.assert_frame_equal(first, second)
    assert not [path for path in out.rglob("*") if path.name.startswith(".part-")]


def killed_search(home: Path, name: str, kills: list) -> None:
    """Begin a search, kill it again and again, and let the last one end."""
    out = home / name
    words = ["search", str(home / "late/late.yaml"), TRIALS, f"--out={out}"]
    for kill in [*kills, None]:
        begun = (out / "search.yaml").is_file()
        ended = run_forked(["search", f"--resume={out}"] if begun else words, home, kill)
        assert ended.code == (0 if kill is None else -9), ended.said
    assert_same(home, out)


def test_kills_lose_no_trial(home: Path) -> None:
    kills = [killed_at(20), killed_when("step", 40), killed_when("part-trial", 2),
             killed_when("part-results"), killed_when("part-choice")]  # fmt: skip
    killed_search(home, "killed", kills)


@pytest.mark.slow
def test_twenty_kills_lose_no_trial(home: Path) -> None:
    # Each goes on from where the one before it was killed: 20 shares of all that there is to do.
    whole = int((home / "whole_ticks").read_text())
    killed_search(home, "killed_20", [killed_at(10 + whole // 30 + number) for number in range(20)])


def test_two_processes_share_the_trials(home: Path) -> None:
    out = home / "shared"
    words = ["search", str(home / "late/late.yaml"), TRIALS, f"--out={out}"]
    # The first one is killed once it has begun, so that both go on at the same time.
    assert run_forked(words, home, killed_when("step")).code == -9
    children = [_start(["search", f"--resume={out}"], home / f"said_{n}.txt") for n in range(2)]
    for child in children:
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, (home / "said_0.txt").read_text()
    assert_same(home, out)
    said = [(home / f"said_{number}.txt").read_text() for number in range(2)]
    trained = [re.findall(r"trial (\d+): .* after (\d+) of", text) for text in said]
    assert all(trained)
    # Each rung of each trial once.
    table, _ = search_content(out)
    assert len({*trained[0], *trained[1]}) == len(trained[0]) + len(trained[1])
    assert {int(number) for number, _ in trained[0] + trained[1]} == {*table["trial"]}
    assert sum("best: trial" in text for text in said) == 1


def _start(words: list[str], said: Path) -> int:
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        file = said.open("w")
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        sys.stdout = sys.stderr = file
        code = main(words)
    finally:
        sys.stdout.flush()
        os._exit(code)


def test_an_interruption_says_where_it_stood(home: Path) -> None:
    def interrupt(_: int, what: str) -> None:
        if "part-trial" in what:
            raise KeyboardInterrupt

    words = ["search", str(home / "late/late.yaml"), TRIALS, f"--out={home}/interrupted"]
    ended = run_forked(words, home, interrupt)
    assert ended.code == 130
    assert "interrupted with 1 of 4 trials begun" in ended.said
    assert f"Go on with: fastrecipes search --resume {home}/interrupted" in " ".join(
        ended.said.split()
    )
