"""Read a list of augmentations: short forms, class paths, and objects."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lightning_fastrecipes.dotted import load_object
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.images import pixel_transforms as pixel
from lightning_fastrecipes.functional.images import transforms as moves
from lightning_fastrecipes.functional.images.transforms import PixelTransform, Transform
from lightning_fastrecipes.messages import suggestion

TransformSpec = str | dict[str, Any] | Transform | Callable[[Tensor], Tensor]
"""``"flip"``, ``{"rotate": 10}``, ``{"rotate": {"degrees": 10, "p": 0.75}}``, a class path with
``init_args`` and ``p``, a transform of this package, or one of ``torchvision.transforms.v2``."""

TRANSFORMS: dict[str, type[Transform]] = {
    "zoom": moves.Zoom,
    "rotate": moves.Rotate,
    "shift": moves.Shift,
    "warp": moves.Warp,
    "flip": moves.Flip,
    "flip_vertical": moves.FlipVertical,
    "brightness": pixel.Brightness,
    "contrast": pixel.Contrast,
    "saturation": pixel.Saturation,
    "hue": pixel.Hue,
    "grey": pixel.Grey,
    "blur": pixel.Blur,
    "erase": pixel.Erase,
    "channel_jitter": pixel.ChannelJitter,
}
"""The transforms by the name that a list of augmentations has for them."""

# What these make of an image may take any memory before it is cut again.
_SIZED = {
    "CenterCrop", "FiveCrop", "Pad", "RandomResize", "RandomShortestSize", "RandomZoomOut",
    "Resize", "ScaleJitter", "TenCrop",
}  # fmt: skip
_SEEDS = 1 << 24  # as many as a uniform number of 32 bits tells apart


@dataclass(frozen=True, eq=False)
class Foreign(PixelTransform):
    """A transform of torchvision, or of the user's, called on one ``uint8`` image at a time.

    The generators of torch, NumPy and Python are seeded by what was drawn for the image.
    """

    function: Callable[[Tensor], Tensor]
    name: str
    p: float = field(default=1.0, kw_only=True)
    num_draws = 1
    needs_rgb = True

    def __post_init__(self) -> None:
        super().__post_init__()
        trial = torch.randint(256, (1, 3, 32, 32), generator=torch.Generator().manual_seed(0))
        self.apply(trial.float(), torch.zeros(1, 1), 255.0)

    @override
    def apply(self, pixels: Tensor, values: Tensor, white: float) -> Tensor:
        images = (pixels * (255 / white)).round().byte()
        result = torch.empty_like(pixels)
        devices = [pixels.device] if pixels.device.type == "cuda" else []
        others = random.getstate(), np.random.get_state()
        try:
            with torch.random.fork_rng(devices=devices):
                for row, seed in enumerate((values[:, 0] * _SEEDS).long().tolist()):
                    torch.manual_seed(seed)
                    random.seed(seed)
                    np.random.seed(seed)
                    result[row] = self._call(images[row]) * (white / 255)
        finally:
            random.setstate(others[0])
            np.random.set_state(others[1])
        return result

    @override
    def extremes(self) -> list[tuple[str, list[float]]]:
        return [(f"draw {number}", [number / 4]) for number in (1, 2, 3)]

    def _call(self, image: Tensor) -> Tensor:
        try:
            changed = self.function(image)
        except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
            raise ConfigurationError(
                f"`{self.name}` must take a `uint8` image {tuple(image.shape)}, but fails: {error}"
            ) from error
        if not isinstance(changed, Tensor) or changed.shape != image.shape:
            found = tuple(getattr(changed, "shape", ())) or type(changed).__name__
            raise ConfigurationError(
                f"`{self.name}` must return an image of the shape {tuple(image.shape)} that it got,"
                f" but returned {found}. Size and crop are those of `image_size` and `zoom`."
            )
        if changed.dtype != torch.uint8:
            raise ConfigurationError(
                f"`{self.name}` must return `uint8`, but returned {changed.dtype}. Leave it out:"
                " images are scaled and normalised after the augmentation."
            )
        return changed


def read_transforms(specs: Sequence[TransformSpec]) -> tuple[Transform, ...]:
    """Build the transforms of a list.

    Raise `ConfigurationError` if one is unknown, or its arguments are wrong.

    >>> read_transforms(["flip", {"rotate": 5}])
    (Flip(p=0.5), Rotate(p=0.75, degrees=5.0))
    """
    if isinstance(specs, (str, Mapping)) or not isinstance(specs, Sequence):
        raise ConfigurationError(
            f"`transforms` must be a list such as ['flip', {{'rotate': 10}}], got {specs!r}."
        )
    return tuple(_read(spec, f"transforms[{place}]") for place, spec in enumerate(specs))


def name_of(spec: TransformSpec) -> str:
    """Return what an entry of a list is called.

    >>> name_of({"rotate": 5}), name_of({"class_path": "torchvision.transforms.v2.RandomInvert"})
    ('rotate', 'RandomInvert')
    """
    if isinstance(spec, str):
        return spec
    if isinstance(spec, Mapping):
        return str(spec.get("class_path", next(iter(spec)))).rpartition(".")[2]
    return next((k for k, v in TRANSFORMS.items() if v is type(spec)), type(spec).__name__)


def _read(spec: Any, where: str) -> Transform:
    if isinstance(spec, Transform):
        return spec
    if isinstance(spec, Mapping) and "class_path" in spec:
        return _foreign(spec, where)
    if isinstance(spec, str):
        spec = {spec: None}
    if isinstance(spec, Mapping) and len(spec) == 1:
        ((name, value),) = spec.items()
        return _named(str(name), value, where)
    if callable(spec) and not isinstance(spec, type):
        return Foreign(spec, where)
    raise ConfigurationError(
        f"`{where}` must be one transform, such as 'flip', {{'rotate': 10}} or {{'class_path':"
        f" 'torchvision.transforms.v2.RandomSolarize', 'init_args': ...}}, got {spec!r}."
    )


def _named(name: str, value: Any, where: str) -> Transform:
    if name not in TRANSFORMS:
        raise ConfigurationError(
            f"`{where}` must be one of {', '.join(TRANSFORMS)}, or have a `class_path`, got"
            f" {name!r}.{suggestion(name, TRANSFORMS)}"
        )
    cls = TRANSFORMS[name]
    known = sorted((f.name for f in fields(cls)), key=lambda name: name == "p")
    if value is None:
        value = {}
    elif not isinstance(value, Mapping):
        value = {known[0]: value}
    if unknown := [key for key in value if key not in known]:
        raise ConfigurationError(
            f"`{where}.{name}` must have {', '.join(known)} alone, got {unknown[0]!r}."
            f"{suggestion(str(unknown[0]), known)}"
        )
    try:
        return cls(**value)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"`{where}.{name}`: {error}") from error


def _foreign(spec: Mapping[str, Any], where: str) -> Foreign:
    if unknown := sorted(set(spec) - {"class_path", "init_args", "p"}):
        raise ConfigurationError(
            f"`{where}` must have `class_path`, `init_args` and `p` alone, got {unknown[0]!r}."
        )
    function = _build(spec, where)
    if not callable(function):
        raise ConfigurationError(f"`{where}` must name a transform, got {spec['class_path']!r}.")
    try:
        return Foreign(function, str(spec["class_path"]), p=spec.get("p", 1.0))
    except ValueError as error:
        raise ConfigurationError(f"`{where}`: {error}") from error


def _build(value: Any, where: str) -> Any:
    """Build an object from its class path; also those within its arguments."""
    if isinstance(value, (list, tuple)):
        return [_build(item, where) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "class_path" not in value:
        return {key: _build(item, where) for key, item in value.items()}
    path, arguments = str(value["class_path"]), _build(value.get("init_args") or {}, where)
    name = path.rpartition(".")[2]
    if name in _SIZED or arguments.get("expand"):
        raise ConfigurationError(
            f"`{where}` must keep the size of images, but `{name}` changes it. Size and crop are"
            " those of `image_size` and `zoom`."
        )
    try:
        return load_object(path)(**arguments)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(f"`{where}`: `{path}` cannot be built: {error}") from error
