"""Signals end a run with their code and a line; launchers of all kinds give one run folder."""

import os
import signal
import threading
import time
from pathlib import Path
from unittest.mock import patch

import pytest
from filelock import FileLock, Timeout
from helpers.processes import free_port

from lightning_fastrecipes.cli.interruptions import TerminatedError, ended_by_sigterm, interruption
from lightning_fastrecipes.cli.launch import Launch, agree, find_launch
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.cli.run_folder import LOCK, only_run_in
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.config.defaults import find_spread

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


@pytest.mark.parametrize("fresh_victim", ["table"], indirect=True)
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_says_where_the_run_stood_and_how_to_go_on(victim, number, code, word) -> None:
    share = {signal.SIGINT: 0.3, signal.SIGTERM: 0.55}[number]

    def send(tick: int, _: str) -> None:
        if tick == int(victim.ticks * share):
            os.kill(os.getpid(), number)

    ended = victim.start(at=send)
    assert ended.code == code, ended.said[-2000:]
    last = [line for line in ended.said.splitlines() if line.strip()][-1]
    assert f"fastrecipes: {word} " in ended.said, ended.said[-2000:]
    assert f"Go on with: fastrecipes run --resume {victim.folder}" in ended.said, last
    assert "Traceback" not in ended.said


def test_sigterm_ends_the_block_at_once_and_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def be_ended() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    with pytest.raises(TerminatedError), ended_by_sigterm():
        be_ended()
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_lightning_makes_of_a_signal_is_told_apart() -> None:
    for cause, expected in (
        (TerminatedError(), ("terminated", 143)),
        (KeyboardInterrupt(), ("interrupted", 130)),
        (None, None),
    ):
        leaving = SystemExit(1)
        leaving.__context__ = cause
        assert interruption(leaving) == expected
    assert interruption(KeyboardInterrupt()) == ("interrupted", 130)


def test_one_run_per_folder(tmp_path, monkeypatch, recipe_file) -> None:
    monkeypatch.setattr("lightning_fastrecipes.cli.run_folder._PATIENCE", 0.1)
    folder = tmp_path / "run"
    folder.mkdir()
    other = pytest.raises(RecipeError, match="Another run writes to")
    with FileLock(folder / LOCK), other, only_run_in(folder):
        pytest.fail("let in")
    (folder / ".part-results-1.json").write_text("half")
    with only_run_in(folder):
        assert [path.name for path in folder.iterdir()] == [LOCK]


def test_who_waits_for_a_run_that_is_refused_shares_no_folder_with_a_third(tmp_path) -> None:
    folder, begun, found = tmp_path / "run", threading.Event(), []

    def wait() -> None:
        with only_run_in(folder):
            found.append(FileLock(folder / LOCK))
            begun.set()
            with pytest.raises(Timeout):
                found[0].acquire(timeout=0)

    def refuse() -> None:
        time.sleep(0.5)
        raise RecipeError("refused")

    waiting = threading.Thread(target=wait)
    with pytest.raises(RecipeError, match="refused"), only_run_in(folder):
        (waiting.start(), refuse())
    assert begun.wait(20)
    waiting.join(timeout=20)
    assert [path.name for path in folder.iterdir()] == [LOCK]


@pytest.mark.parametrize("late", [0, 1], ids=["first-is-late", "second-is-late"])
def test_all_processes_take_the_folder_of_the_first_whoever_comes_late(tmp_path, late) -> None:
    port, found = free_port(), {}

    def process(rank: int) -> None:
        time.sleep(0.6 if rank == late else 0)
        launch = Launch(rank, 2, "127.0.0.1", port, False, "0")
        found[rank] = agree(launch, lambda: tmp_path / f"of-{rank}")

    threads = [threading.Thread(target=process, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert found == dict.fromkeys((0, 1), tmp_path / "of-0")


def test_the_others_end_where_the_first_has_no_folder(tmp_path) -> None:
    port, said = free_port(), {}

    def refuse() -> Path:
        raise RecipeError("is not empty")

    def process(rank: int) -> None:
        try:
            agree(Launch(rank, 2, "127.0.0.1", port, False, "0"), refuse)
        except RecipeError as error:
            said[rank] = str(error)

    threads = [threading.Thread(target=process, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert said == {0: "is not empty", 1: "The first process of this run has ended; its message"
                    " says why."}  # fmt: skip


TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2",
    "LOCAL_RANK": "1", "GROUP_RANK": "1", "MASTER_ADDR": "node-0", "MASTER_PORT": "29500",
    "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0",
}  # fmt: skip
SLURM = {
    "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "2", "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_JOB_ID": "4321", "SLURM_JOB_NAME": "train",
    "SLURM_NODELIST": "node[7-8]",
}  # fmt: skip


def test_processes_of_torchrun_are_known_by_their_environment() -> None:
    assert find_launch(TORCHRUN) == Launch(3, 4, "node-0", 29500, True, "0")
    assert find_launch(TORCHRUN | {"WORLD_SIZE": "1"}) is None
    assert find_launch({}) is None
    assert find_spread(TORCHRUN) == {"devices": 2, "num_nodes": 2, "strategy": "ddp"}
    assert find_spread(TORCHRUN | {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}) == {}


def test_processes_of_slurm_are_known_by_their_environment() -> None:
    with patch.dict(os.environ, SLURM):
        for name in ("MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(name, None)
        assert find_launch(os.environ) == Launch(3, 4, "node7", 19322, False, "0")
        assert find_spread(os.environ) == {"devices": 2, "num_nodes": 2, "strategy": "ddp"}
        os.environ["SLURM_JOB_NAME"] = "bash"  # a shell, whose commands are one process each
        assert find_launch(os.environ) is None
        assert find_spread(os.environ) == {}
        os.environ["SLURM_JOB_NAME"] = "train"
        del os.environ["SLURM_NTASKS_PER_NODE"]
        with pytest.raises(RecipeError, match=r"SLURM: .*ntasks-per-node"):
            find_launch(os.environ)


def test_other_numbers_of_processes_than_were_started_are_refused(recipe_file, capsys) -> None:
    with patch.dict(os.environ, TORCHRUN):
        assert main(["check", str(recipe_file), "--trainer.devices=1"]) == 2
    assert "must fit the 4 processes that were started" in capsys.readouterr().err
