"""What every test shares: one thread, no network, and nothing left behind."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch


@pytest.fixture(autouse=True)
def _calm(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory):
    """Keep caches out of the home folder, cap the threads, and police the environment."""
    torch.set_num_threads(1)
    before = dict(os.environ)
    monkeypatch.setenv("FASTRECIPES_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    allowed = {"FASTRECIPES_CACHE", "PYTEST_CURRENT_TEST", "PL_GLOBAL_SEED", "PL_SEED_WORKERS"}
    changed = {name for name in os.environ if os.environ[name] != before.get(name)}
    # torch names its own cache folder when the first optimizer is built.
    leaked = {name for name in changed - allowed if not name.startswith("TORCHINDUCTOR_")}
    assert not leaked, f"a test left environment variables behind: {sorted(leaked)}"
    os.environ.pop("PL_GLOBAL_SEED", None)
    os.environ.pop("PL_SEED_WORKERS", None)


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace["torch"] = torch
