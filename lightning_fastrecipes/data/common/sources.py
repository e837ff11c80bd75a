"""Where data comes from."""

import os
from importlib.util import find_spec
from pathlib import Path

from lightning_fastrecipes.errors import DataError, DataNotFoundError

_PACKAGE_PREFIX = "package:"


def resolve_source(source: str | Path, argument: str) -> Path:
    """Find a file or folder, on disk or inside an installed package.

    ``package:NAME/inner/path`` is a file that the package NAME ships. ``argument`` names for
    messages where the source came from. Raise `DataNotFoundError` if the package is not installed,
    or the path does not exist.
    """
    text = os.fspath(source)
    if text.startswith(_PACKAGE_PREFIX):
        package, _, inner = text.removeprefix(_PACKAGE_PREFIX).partition("/")
        # `find_spec` does not run the package's own code.
        spec = find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise DataNotFoundError(
                f"`{argument}` is '{text}', but the package '{package}' is not installed."
                f" Install it: pip install {package.replace('_', '-')}"
            )
        path = Path(spec.submodule_search_locations[0]) / inner
    else:
        path = Path(text).expanduser()
    if not path.exists():
        raise DataNotFoundError(
            f"`{argument}` must name something that exists, got '{text}' (looked for"
            f" '{path.absolute()}'). Correct the path, or run where it is right."
        )
    return path


def list_files(folder: Path) -> list[str]:
    """List the files below a folder, to any depth, but nothing hidden; links are followed.

    The paths are relative to the folder with forward slashes, sorted. Raise `DataError` if a name
    is not valid text.
    """
    files = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = Path(place).relative_to(folder)
        files += [(relative / name).as_posix() for name in names if not name.startswith(".")]
    for file in files:
        try:
            file.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"The file name {file!r} in '{folder}' is not valid text. Rename the file."
            ) from error
    return sorted(files)
