"""Small recipes for bad days, and what they leave when nothing happens."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from conftest import draw_squares
from helpers.kills import Ended, image_document, run_forked, table_document
from helpers.run_content import run_content


@dataclass
class Victim:
    """A recipe, where it runs, and what an uninterrupted run leaves."""

    home: Path
    document: dict
    expected: dict = field(default_factory=dict)
    ticks: int = 0

    @property
    def folder(self) -> Path:
        return self.home / "run"

    def start(self, *more: str, at=None) -> Ended:
        """Run, or go on with the run if it has begun, as people are told to."""
        return run_forked(["run", *self.going_on, *more], self.home, at)

    @property
    def going_on(self) -> list[str]:
        has_begun = (self.folder / "recipe.yaml").is_file()
        words = [str(self.home / "recipe.yaml"), "--out", str(self.folder)]
        return ["--resume", str(self.folder)] if has_begun else words

    def clear(self) -> None:
        """Forget all runs and caches."""
        for name in ("run", "cache"):
            shutil.rmtree(self.home / name, ignore_errors=True)


def make_victim(home: Path, kind: str) -> Victim:
    home.mkdir(parents=True, exist_ok=True)
    if kind == "table":
        document = table_document(home / "data")
    else:
        workers = 1 if kind == "images-with-a-worker" else 0
        document = image_document(draw_squares(home / "data"), num_workers=workers)
    (home / "recipe.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return Victim(home, document)


_MADE: dict[str, Victim] = {}


@pytest.fixture
def fresh_victim(tmp_path_factory, monkeypatch, request) -> Victim:
    """A recipe without a run folder or caches, the same for all tests of a session."""
    kind = request.param
    if kind not in _MADE:
        _MADE[kind] = make_victim(tmp_path_factory.mktemp("victim"), kind)
    found = _MADE[kind]
    found.clear()
    monkeypatch.setenv("FASTRECIPES_CACHE", str(found.home / "cache"))
    return found


@pytest.fixture
def victim(fresh_victim) -> Victim:
    """A recipe whose run without any fault is known."""
    found = fresh_victim
    if not found.expected:
        ended = found.start()
        assert ended.code == 0, ended.said[-3000:]
        found.expected, found.ticks = run_content(found.folder), ended.ticks
        found.clear()
    return found
