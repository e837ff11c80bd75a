"""How images of a report look: thumbnails, features and heat maps, each computed once."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from lightning_fastrecipes.data.images.dataset import ImageDataset
from lightning_fastrecipes.functional.images.near_duplicates import grey_look
from lightning_fastrecipes.nn.heat_maps import heat_maps

THUMB_SIDE = 96
MOST_THUMB_BYTES = 13_000_000
"""Of Base64 text, so that the page stays below 20 MB."""

_JPEG_QUALITY = 78
_BATCH = 32

Place = tuple[str, int]
"""A split, and a position in it."""


@dataclass
class Looks:
    """Thumbnails by place, as Base64 of JPEGs, and features ``(places, width)`` in their order."""

    places: list[Place] = field(default_factory=list)
    thumbs: dict[Place, str] = field(default_factory=dict)
    features: npt.NDArray[np.float32] | None = None


class Looker:
    """Serves images of a datamodule as its evaluation sees them, and looks at them."""

    def __init__(self, data: Any, model: Any) -> None:
        self._data = data
        self._model = model.eval()
        self._datasets: dict[str, ImageDataset] = {}

    def look(self, places: Sequence[Place]) -> Looks:
        """Return thumbnails and the features of the trained model."""
        found, rows, num_bytes = Looks(list(places)), [], 0
        for batch, images in self._batches(places):
            for place, image in zip(batch, images, strict=True):
                if num_bytes < MOST_THUMB_BYTES:
                    found.thumbs[place] = thumbnail(image)
                    num_bytes += len(found.thumbs[place])
            rows.append(self._features(images))
        found.features = np.concatenate(rows) if rows else None
        return found

    def thumbs(self, places: Sequence[Place], num_bytes: int) -> dict[Place, str]:
        """Return further thumbnails, as long as there is room for so many bytes."""
        found: dict[Place, str] = {}
        for batch, images in self._batches(places):
            if num_bytes <= 0:
                break
            for place, image in zip(batch, images, strict=True):
                found[place] = thumbnail(image)
                num_bytes -= len(found[place])
        return found

    def compare(self, places: Sequence[Place]) -> Tensor:
        """Return small grey images ``(places, side, side)``, for near duplicates."""
        return torch.cat([grey_look(images) for _, images in self._batches(places)])

    def _features(self, images: Tensor) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            found = self._model.forward_features(images.to(self._model.device))
        values: npt.NDArray[np.float32] = found.float().cpu().numpy()
        return values

    def heat(self, places: Sequence[Place], outputs: Sequence[int]) -> dict[Place, dict[str, Any]]:
        """Return where one output of the model comes from, as small grids of 8 bits."""
        found: dict[Place, dict[str, Any]] = {}
        wanted = dict(zip(places, outputs, strict=True))
        for batch, images in self._batches(places):
            served = images.to(self._model.device)
            chosen = torch.tensor([wanted[place] for place in batch], device=served.device)

            def run(served: Tensor = served) -> Tensor:
                outputs: Tensor = self._model(served)
                return outputs

            def score(outputs: Tensor, chosen: Tensor = chosen) -> Tensor:
                values = outputs.reshape(len(outputs), -1)
                return values.gather(1, chosen[:, None])[:, 0]

            maps = heat_maps(self._model.backbone.model, run, score)
            grids = (255 * maps).round().to(torch.uint8).numpy()
            for place, grid in zip(batch, grids, strict=True):
                if grid.any():
                    content = base64.b64encode(np.ascontiguousarray(grid).tobytes()).decode()
                    found[place] = {"side": grid.shape[1], "values": content}
        return found

    def _batches(self, places: Sequence[Place]) -> Iterator[tuple[list[Place], Tensor]]:
        for start in range(0, len(places), _BATCH):
            batch = list(places[start : start + _BATCH])
            yield batch, torch.stack([self._image(*place) for place in batch])

    def _image(self, split: str, position: int) -> Tensor:
        if split not in self._datasets:
            self._datasets[split] = self._data.eval_dataset(split)
        return self._datasets[split][position][0]


def thumbnail(image: Tensor, side: int = THUMB_SIDE) -> str:
    """Return an image ``(channels, height, width)``, ``uint8``, as Base64 of a small JPEG."""
    content = io.BytesIO()
    _as_seen(image, side).save(content, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return base64.b64encode(content.getvalue()).decode()


def _as_seen(image: Tensor, side: int) -> Image.Image:
    """Return what one sees of an image: its first three channels, or the first alone."""
    pixels = image[:3] if image.shape[0] >= 3 else image[:1]
    array = pixels.permute(1, 2, 0).contiguous().numpy()
    small = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    small.thumbnail((side, side), Image.Resampling.BOX)
    return small
