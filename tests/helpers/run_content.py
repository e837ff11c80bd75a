"""What a run folder holds, for comparisons bit for bit: all but times and figures."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch

_TIMES = ("seconds", "peak_memory_mib")
_NOT_COMPARED = {"log.txt", "curves.png", ".lock", "report.html"}  # they tell of times


def run_content(folder: Path) -> dict[str, Any]:
    """Return what a run has left by the names of its files, without times.

    Checkpoints are digests of each of their parts: weights, optimizer, callbacks, loops.
    """
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name in _NOT_COMPARED:
            continue
        name = str(path.relative_to(folder))
        if path.suffix == ".ckpt":
            state = torch.load(path, weights_only=True)
            for part, value in state.items():
                found[f"{name}:{part}"] = digest_of(value, str(folder))
        elif path.suffix == ".json":
            found[name] = _timeless(json.loads(path.read_text()))
        elif path.name == "metrics.csv":
            found[name] = pd.read_csv(path).drop(columns="seconds").to_csv(index=False)
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def assert_same_content(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare two runs, and name the files that differ."""
    assert sorted(found) == sorted(expected)
    differing = [name for name in expected if found[name] != expected[name]]
    assert not differing, {name: (found[name], expected[name]) for name in differing[:3]}


def leftovers(folder: Path) -> list[str]:
    """Name the files that an interrupted write has left below a folder, of runs or of caches."""
    found = folder.rglob(".*")
    return [str(path) for path in found if path.name != ".lock"]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            k: _timeless(v)
            for k, v in value.items()
            if k not in _TIMES and not k.endswith("_per_second") and k != "sha256"
        }
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def digest_of(value: Any, folder: str = "") -> str:
    """Hash nested plain values and tensors; paths of the run folder are all the same."""
    digest = hashlib.sha256()

    def add(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            digest.update(f"{item.dtype}{tuple(item.shape)}".encode())
            digest.update(item.detach().cpu().numpy().tobytes())
        elif isinstance(item, dict):
            for key in item:
                digest.update(_without(repr(key), folder).encode())
                add(item[key])
        elif isinstance(item, (list, tuple)):
            digest.update(f"{len(item)}".encode())
            for one in item:
                add(one)
        else:
            digest.update(_without(repr(item), folder).encode())

    add(value)
    return digest.hexdigest()


def _without(text: str, folder: str) -> str:
    return text.replace(folder, "") if folder else text
