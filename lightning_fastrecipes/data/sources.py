"""Where data comes from and where caches go."""

import os
from importlib.util import find_spec
from pathlib import Path

from lightning_fastrecipes.errors import ConfigurationError, DataNotFoundError

_PACKAGE_PREFIX = "package:"


def resolve_source(source: str | Path, argument: str) -> Path:
    """Find a file or folder, on disk or inside an installed package.

    Args:
        source: A path, or ``package:NAME/inner/path`` for a file that the package NAME ships.
        argument: Name of the argument that ``source`` came from, for messages.

    Returns:
        The path, which exists.

    Raises:
        DataNotFoundError: If the package is not installed, or the path does not exist.
    """
    text = os.fspath(source)
    if text.startswith(_PACKAGE_PREFIX):
        package, _, inner = text.removeprefix(_PACKAGE_PREFIX).partition("/")
        path = _package_folder(package, text, argument) / inner
    else:
        path = Path(text).expanduser()
    if not path.exists():
        raise DataNotFoundError(
            f"`{argument}` must name something that exists, got '{text}' (looked for"
            f" '{path.absolute()}'). Correct the path, or run where it is right."
        )
    return path


def cache_folder() -> Path:
    """Give the folder for caches, and make it if need be.

    Returns:
        The folder that the environment variable ``FASTRECIPES_CACHE`` names, else
        ``~/.cache/lightning_fastrecipes``.

    Raises:
        ConfigurationError: If the folder cannot be made.
    """
    named = os.environ.get("FASTRECIPES_CACHE")
    folder = Path(named).expanduser() if named else Path.home() / ".cache" / "lightning_fastrecipes"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"The cache folder '{folder}' must be writable, but: {error}."
            " Set the environment variable `FASTRECIPES_CACHE` to a folder that is."
        ) from error
    return folder


def _package_folder(package: str, source: str, argument: str) -> Path:
    # `find_spec` does not run the package's own code.
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise DataNotFoundError(
            f"`{argument}` is '{source}', but the package '{package}' is not installed."
            f" Install it: pip install {package.replace('_', '-')}"
        )
    return Path(spec.submodule_search_locations[0])
