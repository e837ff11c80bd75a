"""Permissions that bind the tests too, whoever runs them."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_VERSION = 0x20080522
_OVERRIDES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


@contextmanager
def read_only(*places: Path) -> Iterator[None]:
    """Let nothing be written in folders and all below them, by this thread and what it forks.

    Root gives up its right to write anyway for as long; programs that are started get it back.
    """
    paths = [path for place in places for path in (place, *place.rglob("*"))]
    before = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        with _without_overrides():
            if os.access(places[0], os.W_OK, effective_ids=True):
                pytest.skip("nothing is read-only here")
            yield
    finally:
        for path, mode in before.items():
            path.chmod(mode)


@contextmanager
def _without_overrides() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    now = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, of 32 rights, twice
    assert libc.capget(header, now) == 0, os.strerror(ctypes.get_errno())
    before = now[0]
    try:
        now[0] = before & ~_OVERRIDES
        assert libc.capset(header, now) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        now[0] = before
        assert libc.capset(header, now) == 0, os.strerror(ctypes.get_errno())
