"""Whatever happens to files and cache between two readers, each reads what the files hold."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from PIL import Image
from pytorch_lightning.trainer.states import TrainerFn

from lightning_fastrecipes import ImageFolderDataModule

NAMES = [f"{label}/{number}.png" for label in ("a", "b") for number in range(3)]
SIDE = 6
LABELS = {"a": 0, "b": 200}


class CachedImages(RuleBasedStateMachine):
    """Images of one colour each are added, replaced and removed, and cached files damaged."""

    @initialize()
    def draw_one_of_each_class(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.colours: dict[str, int] = {}
        self.num_changes = 0
        self.open_reader: tuple[Any, dict[str, int]] | None = None
        for name in ("a/0.png", "b/0.png"):
            self.write(name, colour=10)

    @rule(name=st.sampled_from(NAMES), colour=st.integers(0, 255))
    def write(self, name: str, colour: int) -> None:
        """Add an image, or replace it."""
        path = self.folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (SIDE, SIDE), (colour, LABELS[name[0]], 0)).save(path)
        # No two changes within one tick of the file system's clock.
        self.num_changes += 1
        os.utime(path, ns=(self.num_changes * 10**9,) * 2)
        self.colours[name] = colour

    @precondition(lambda self: any(name[-5] != "0" for name in self.colours))
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Remove an image, but one of each class."""
        name = data.draw(st.sampled_from(sorted(n for n in self.colours if n[-5] != "0")))
        (self.folder / "images" / name).unlink()
        del self.colours[name]

    @precondition(lambda self: self.cached())
    @rule(data=st.data(), keep=st.floats(0, 0.99))
    def damage(self, data: st.DataObject, keep: float) -> None:
        """Cut a cached file off, while nobody reads it."""
        self.open_reader = None
        path = self.folder / data.draw(st.sampled_from(self.cached()))
        os.truncate(path, int(path.stat().st_size * keep))

    @rule()
    def read(self) -> None:
        """Start a reader, which reads every image as it is now."""
        check(self.reader(), self.colours)

    @rule()
    def open(self) -> None:
        """Start a reader, which reads later."""
        self.open_reader = (self.reader(), dict(self.colours))

    @precondition(lambda self: self.open_reader is not None)
    @rule()
    def read_what_was_there(self) -> None:
        """Let the open reader read every image as it was when it started."""
        check(*self.open_reader)

    def cached(self) -> list[str]:
        found = (self.folder / "cache").rglob("*")
        kept = (path for path in found if path.is_file() and path.suffix != ".lock")
        return sorted(str(path.relative_to(self.folder)) for path in kept)

    def reader(self) -> Any:
        data = ImageFolderDataModule(
            self.folder / "images", image_size=SIDE, split=0.0, num_workers=0,
            cache=self.folder / "cache",
        )  # fmt: skip
        # Pixels are kept where a trainer is about to read a whole split.
        data.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        data.trainer.state.fn = TrainerFn.FITTING
        data.prepare_data()
        data.setup("fit")
        assert data.classes == ["a", "b"]
        return data.eval_dataset("train")

    def teardown(self) -> None:
        self.open_reader = None
        shutil.rmtree(self.folder)


def check(dataset: Any, colours: dict[str, int]) -> None:
    names = ["/".join(Path(str(file)).parts[-2:]) for file in dataset.files]
    assert sorted(names) == sorted(colours)
    for place, name in enumerate(names):
        image, target = dataset[place]
        expected = np.array([colours[name], LABELS[name[0]], 0]).reshape(3, 1, 1)
        np.testing.assert_array_equal(image, expected.repeat(SIDE, 1).repeat(SIDE, 2))
        assert "ab"[int(target)] == name[0]


TestCachedImages = CachedImages.TestCase
TestCachedImages.settings = settings(max_examples=10, stateful_step_count=12)
TestCachedImages = pytest.mark.filterwarnings("ignore:.*is damaged")(TestCachedImages)
