"""Every callback on modules that know nothing of this package: right numbers, or our own words.

The page ``.github/docs/other_modules.md`` is made from what is checked here, by
``PYTHONPATH=tests python tests/callbacks/test_public_modules.py``.
"""

import re
import warnings
from functools import cache
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers.module_table import CALLBACKS, LOOKING, PAGE, REFUSED, page
from helpers.public_modules import (
    SIDE,
    CatsAndDogs,
    Gan,
    ImageNet,
    LogsElsewhere,
    Masks,
    NextToken,
    Public,
    Reviews,
    Streets,
    Tags,
    numbers,
    whole,
)
from helpers.rarer_modules import ALL_MODULES, Records
from helpers.trainers import quiet_trainer
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

import lightning_fastrecipes as fr
from lightning_fastrecipes import ImageMixing, InitialLossCheck, LRFinder, lr_find
from lightning_fastrecipes._lightning import SetupError
from lightning_fastrecipes.callbacks import initial_loss_check
from lightning_fastrecipes.data.common.epoch_place import ResumableLoader
from lightning_fastrecipes.protocols import InputSpec

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*you have set wrong|`LRFinder` cannot suggest"),
]


@cache
def alone(module: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return weights and attributes that a fit without callbacks leaves."""
    return left_by(fit(ALL_MODULES[module]))


def fit(kind: type[Public], *callbacks: pl.Callback) -> Public:
    """Fit for two epochs, always from the same random numbers."""
    model = kind()
    torch.manual_seed(3)
    trainer = quiet_trainer(*callbacks, max_epochs=2, num_sanity_val_steps=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`(InitialLossCheck|ValidationGuard|RisingLossCheck)`")
        trainer.fit(model, kind.loader(kind=ResumableLoader), kind.val_loaders())
    return model


def left_by(model: Public) -> tuple[dict[str, Tensor], dict[str, str]]:
    public = {name: repr(one) for name, one in vars(model).items() if not name.startswith("_")}
    return {name: value.clone() for name, value in model.state_dict().items()}, public


@pytest.mark.parametrize("module", ALL_MODULES)
@pytest.mark.parametrize("name", CALLBACKS)
def test_a_fit_works_or_is_refused_in_our_words(name, module, tmp_path):
    kind = ALL_MODULES[module]
    callback = CALLBACKS[name](kind, tmp_path)
    if refusal := REFUSED.get((name, module)):
        # What a loss raises that takes no mixed targets is another's error, with a note of ours.
        kinds = (SetupError, RuntimeError, ValueError, TypeError)
        with pytest.raises(kinds) as caught:
            fit(kind, callback)
        said = [str(caught.value)] if isinstance(caught.value, SetupError) else []
        assert re.search(refusal.said, "".join([*said, *getattr(caught.value, "__notes__", [])]))
        return
    weights, public = left_by(fit(kind, callback))
    assert all(bool(value.isfinite().all()) for value in weights.values())
    if name in LOOKING:
        torch.testing.assert_close(weights, alone(module)[0], rtol=0, atol=0)
        assert public == alone(module)[1]
        return
    fresh = kind()
    fresh.configure_model()
    assert any(not torch.equal(weights[key], value) for key, value in fresh.state_dict().items())


def test_every_public_callback_is_among_them():
    classes = [getattr(fr, name) for name in fr.__all__ if isinstance(getattr(fr, name), type)]
    public = {one.__name__ for one in classes if issubclass(one, pl.Callback)}
    # Other schedules differ in their curves alone; the one that sets sizes needs a datamodule.
    left_out = {"FlatCosine", "StepSchedule", "Triangular", "ProgressiveResizing"}
    assert public - left_out <= {name.partition("(")[0] for name in CALLBACKS}


def test_the_page_is_what_is_checked_here():
    assert PAGE.read_text() == page(), f"Write it again: {__doc__.splitlines()[3]}"


# The check of the first batch.


def check(model: Public, loader: Any = None, **arguments: Any) -> tuple[dict, list[str]]:
    callback, said = InitialLossCheck(**arguments), []
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        patch.setattr(initial_loss_check, "rank_zero_info", said.append)
        trainer = quiet_trainer(callback, max_epochs=1, limit_val_batches=0)
        trainer.fit(model, model.loader() if loader is None else loader)
    said += [str(one.message) for one in caught if "InitialLossCheck" in str(one.message)]
    return {one.check: one.passed for one in callback.results}, said


def test_manual_optimization_is_looked_at_and_what_was_left_out_is_said():
    found, said = check(Gan(), num_classes=3)
    assert found["labels"]
    assert found["loss"] is None
    assert "fine (labels, pixels); not checked (loss: `training_step` returns no loss" in said[0]
    assert "gradients: needs one optimizer that Lightning steps by itself" in said[0]


def test_nothing_is_called_fine_where_nothing_was_checked():
    class Silent(Gan):
        def split(self, batch):
            return batch, batch

        def training_step(self, batch, batch_idx):
            super().training_step([batch], batch_idx)

    found, said = check(Silent(), DataLoader(numbers(8, 3, SIDE, SIDE).sigmoid(), batch_size=4))
    assert set(found.values()) == {None}
    assert said[0].startswith("InitialLossCheck: nothing was checked (labels: needs batches of")
    assert "they lie in 0 to 1, and the module has no `input_spec`" in said[0]


@pytest.mark.parametrize(
    ("kind", "num_classes"),
    [(NextToken, 20), (Reviews, 2), (CatsAndDogs, 1), (CatsAndDogs, 2), (Streets, 4), (Masks, 1)],
)
def test_targets_of_other_shapes_raise_no_false_alarm(kind, num_classes):
    found, said = check(kind(), num_classes=num_classes)
    assert found["labels"]
    assert found["loss"]
    assert found["gradients"]
    assert "fine (labels" in said[0]


def test_tokens_beyond_the_vocabulary_are_found():
    rows = whole(20, 8, 9)
    rows[0, 3] = 25
    loader = DataLoader(list(zip(rows[:, :-1].clamp(max=19), rows[:, 1:], strict=True)), 4)
    with pytest.raises(MisconfigurationException, match="labels must lie in 0 to 19, but reach"):
        check(NextToken(), loader, num_classes=20, on_failure="raise")
    ignored = torch.full_like(rows[:, 1:], -100)
    ignored[:, 0] = 3
    loader = DataLoader(list(zip(rows[:, :-1].clamp(max=19), ignored, strict=True)), 4)
    assert check(NextToken(), loader, num_classes=20)[0]["labels"]


SPECS = {
    "imagenet": InputSpec(),
    "half": InputSpec(mean=(0.5,) * 3, std=(0.5,) * 3),
    "none": InputSpec(mean=(0.0,) * 3, std=(1.0,) * 3),
}


@pytest.mark.parametrize("wanted", ["imagenet", "half"])
@pytest.mark.parametrize("given", SPECS)
def test_floats_that_were_normalised_otherwise_are_found(given, wanted):
    class Specified(ImageNet):
        input_spec = SPECS[wanted]

    pixels = torch.randint(256, (8, 3, SIDE, SIDE), dtype=torch.uint8)
    pixels[:, :, 0, 0], pixels[:, :, 0, 1] = 0, 255
    images = SPECS[given].normalised(pixels)
    loader = DataLoader(list(zip(images, whole(3, 8), strict=True)), batch_size=4)
    found, said = check(Specified(), loader)
    assert found["pixels"] is (given == wanted)
    if given == "none":
        assert "[pixels] pixels lie in 0 to 1, none below, but with mean" in said[0]
    elif given != wanted:
        assert re.search("of the weights they reach from -[12]", said[0])


# Mixing.


def mix(model: Public, loader: Any, **arguments: Any) -> None:
    quiet_trainer(ImageMixing(**arguments), max_epochs=1, limit_val_batches=0).fit(model, loader)


def test_metrics_of_the_first_step_are_told_what_targets_are():
    class Measured(ImageNet):
        def __init__(self) -> None:
            super().__init__()
            self.accuracy = MulticlassAccuracy(3)

        def training_step(self, batch, batch_idx):
            self.accuracy(self(batch[0]), batch[1])
            return super().training_step(batch, batch_idx)

    # Torchmetrics takes probabilities for targets, and counts nonsense.
    with pytest.warns(UserWarning, match=r"metrics 'accuracy'. With `ImageMixing`, targets"):
        mix(Measured(), ImageNet.loader(), num_classes=3)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "`training_step` updates the metrics")
        mix(ImageNet(), ImageNet.loader(), num_classes=3)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([0, 5, 1, 1]), "class indices from 0 to 2, but targets reach from 0 to 5"),
        (torch.tensor([0, -1, 1, 1]), "but targets reach from -1 to 1"),
        (torch.rand(4), r"floats of shape \(4,\)\. Serve one yes or no an image as \(batch, 1\)"),
        (whole(2, 4, 3), r"whole numbers of shape \(4, 3\); make them float"),
        (whole(2, 4, SIDE, SIDE), "masks or boxes cannot be mixed"),
    ],
)
def test_targets_that_have_no_mixture_are_refused_before_the_first_step(targets, message):
    class Watched(ImageNet):
        def training_step(self, batch, batch_idx):
            pytest.fail("trained on it")

    samples = list(zip(numbers(4, 3, SIDE, SIDE), targets, strict=True))
    with pytest.raises(MisconfigurationException, match=message):
        mix(Watched(), DataLoader(samples, batch_size=4), num_classes=3)


@pytest.mark.parametrize("kind", [dict, Records])
def test_dictionaries_and_dataclasses_are_mixed_in_place(kind):
    seen: list[Any] = []

    class Named(ImageNet):
        def training_step(self, batch, batch_idx):
            seen.append(batch if kind is dict else vars(batch))
            return nn.functional.cross_entropy(self(seen[-1]["image"]), seen[-1]["label"])

    torch.manual_seed(0)
    images, labels = numbers(4, 3, SIDE, SIDE), torch.tensor([0, 1, 2, 0])
    pairs = list(zip(images, labels, strict=True))

    def collate(samples):
        parts = [torch.stack(part) for part in zip(*samples, strict=True)]
        return kind(image=parts[0], label=parts[1])

    mix(Named(), DataLoader(pairs, batch_size=4, collate_fn=collate), num_classes=3)
    assert seen[0]["label"].shape == (4, 3)
    torch.testing.assert_close(seen[0]["label"].sum(1), torch.ones(4))
    assert not torch.equal(seen[0]["image"], images)


def test_yes_and_no_of_several_labels_are_mixed():
    seen = []

    class Watched(Tags):
        def training_step(self, batch, batch_idx):
            seen.append(batch[1].clone())
            return super().training_step(batch, batch_idx)

    torch.manual_seed(0)
    mix(Watched(), Tags.loader())
    mixed = torch.cat(seen)
    assert ((mixed >= 0) & (mixed <= 1)).all()
    assert ((mixed > 0) & (mixed < 1)).any()


# Names of losses.


@pytest.mark.filterwarnings("ignore:`lr_find` cannot suggest")
@pytest.mark.parametrize("name", ["val/loss", "val/loss/dataloader_idx_0"])
def test_the_finder_reads_a_loss_of_another_name(name):
    named = lr_find(
        LogsElsewhere(), LogsElsewhere.loader(), on="val", num_steps=20, loss_name=name,
        val_dataloaders=LogsElsewhere.loader(),
    )  # fmt: skip
    usual = lr_find(
        ImageNet(), ImageNet.loader(), on="val", num_steps=20, val_dataloaders=ImageNet.loader()
    )
    assert named.losses == usual.losses
    callback = LRFinder(num_steps=20, on="val", on_refusal="ignore", loss_name="val/loss")
    trainer = quiet_trainer(callback, max_epochs=1)
    trainer.fit(LogsElsewhere(), LogsElsewhere.loader(), LogsElsewhere.loader())
    assert len(callback.curve.losses) > 5


if __name__ == "__main__":
    PAGE.write_text(page())
