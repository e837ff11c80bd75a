"""The hub of pretrained weights that timm asks."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants


@contextmanager
def prompt_hub(*, is_asked: bool) -> Iterator[None]:
    """Let the hub's client answer at once where the hub is out of reach, from its cache or not.

    It tries again for most of a minute else. Behind a proxy it is left alone.
    """
    if not is_asked or getproxies() or _has_address(urlsplit(constants.ENDPOINT).hostname):
        yield
        return
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _has_address(host: str | None) -> bool:
    try:
        return bool(socket.getaddrinfo(host, None))
    except OSError:
        return False
