"""Two thousand mutated files: each is refused by name, or read as an oracle reads it."""

import json
from pathlib import Path

import pytest
from helpers.processes import load_script, run_script

SCRIPT = Path(__file__).with_name("strange_files.py")
QUICK = {
    "images": 60,
    "labels": 40,
    "labels_as_tables": 30,
    "recipes": 8,
    "tables": 40,
    "exports": 12,
    "caches": 2,
}


@pytest.fixture(scope="module")
def fuzz():
    return load_script(SCRIPT)


@pytest.mark.parametrize("section", QUICK)
def test_a_sample_of_strange_files(fuzz, section) -> None:
    found = fuzz.try_all(section, range(10_000, 10_000 + QUICK[section]))
    assert found["findings"] == []
    assert set(found["counts"]) == {"refused", "read"} or section in (
        "recipes",
        "exports",
        "caches",
    )


@pytest.mark.slow
@pytest.mark.parametrize("section", [*QUICK, "resumes"])
def test_two_thousand_strange_files(fuzz, section) -> None:
    count, _ = fuzz.SECTIONS[section]
    # In a process of its own, so that its memory is its own as well.
    said = run_script(SCRIPT, section, 0, count, timeout=3600)
    found = json.loads(said.splitlines()[-1])
    assert found["findings"] == []
    assert sum(found["counts"].values()) == count
    assert found["grown_mb"] < 1000
