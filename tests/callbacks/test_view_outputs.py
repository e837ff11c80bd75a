"""Test-time augmentation of modules that know nothing of this package: every kind of output."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from helpers.public_modules import (
    MODULES,
    SIDE,
    Ages,
    AutoEncoder,
    CatsAndDogs,
    Embedder,
    ImageNet,
    Masks,
    Public,
    SoftmaxInside,
    Streets,
    Tags,
    numbers,
)
from helpers.trainers import quiet_trainer
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from lightning_fastrecipes import TestTimeAugmentation
from lightning_fastrecipes.callbacks.engine import view_metrics
from lightning_fastrecipes.functional.images.batches import by_name
from lightning_fastrecipes.functional.images.pixels import dihedral
from lightning_fastrecipes.functional.images.views import turned_back

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

KNOWN: dict[type[Public], dict[str, Any]] = {
    ImageNet: {"outputs": "classes"},
    SoftmaxInside: {},
    CatsAndDogs: {},
    Tags: {},
    Ages: {"outputs": "numbers"},
    Streets: {},
    Masks: {},
    Embedder: {},
    AutoEncoder: {"outputs": "maps"},
}
"""What each needs to be told."""

every_kind = pytest.mark.parametrize("kind", KNOWN, ids=lambda kind: kind.__name__)


def predictions(kind: type[Public], images: Tensor, model: Public | None = None) -> Tensor:
    """Return what is averaged, worked out by hand."""
    with torch.no_grad():
        output = (model or kind()).eval()(images)
        if kind is Embedder:
            return output["logits"].softmax(1)
        if kind in (ImageNet, Streets):
            return output.softmax(1)
        return output.sigmoid() if kind in (CatsAndDogs, Tags, Masks) else output


def tensor(found: Any) -> Tensor:
    return found["probs"] if isinstance(found, dict) else found


def predict(kind: type[Public], *callbacks: Any, model: Public | None = None) -> Tensor:
    found = quiet_trainer(*callbacks).predict(model or kind(), kind.loader(10))
    return torch.cat([tensor(one) for one in found])


def validate(model: Public, callback: TestTimeAugmentation, loader: Any = None) -> dict[str, float]:
    loader = model.loader(10) if loader is None else loader
    return quiet_trainer(callback).validate(model, loader, verbose=False)[0]


@every_kind
@pytest.mark.parametrize("n", [1, 3])
def test_flipped_views_are_merged_as_what_they_are(kind, n):
    images = numbers(10, 3, SIDE, SIDE)
    elements = (4, 6, 2)[:n]
    views = torch.stack([predictions(kind, dihedral(images, element)) for element in elements])
    if kind in (Streets, Masks, AutoEncoder):
        undone = zip(views, elements, strict=True)
        views = torch.stack([turned_back(one, torch.full((10,), e)) for one, e in undone])
    expected = predictions(kind, images) / (n + 1) + views.sum(0) / (n + 1)
    found = predict(kind, TestTimeAugmentation(n, "flips", **KNOWN[kind]))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@every_kind
def test_views_that_change_nothing_change_no_prediction_and_no_loss(kind):
    views = TestTimeAugmentation(3, "augmentation", augmentation="none", **KNOWN[kind])
    plain = predictions(kind, numbers(10, 3, SIDE, SIDE))
    torch.testing.assert_close(predict(kind, views), plain, atol=1e-6, rtol=0)
    if kind is not ImageNet:  # whose own are logits
        torch.testing.assert_close(predict(kind), plain, atol=1e-6, rtol=0)
    found = validate(kind(), views)
    if kind is not AutoEncoder:  # whose targets are its images, not those of the batch
        assert found["val_loss_tta"] == pytest.approx(found["val_loss"], rel=1e-4)


@pytest.mark.parametrize("element", range(8))
def test_maps_are_turned_back_exactly(element):
    maps = numbers(2, 3, 4, 4)
    elements = torch.tensor([element, (element + 3) % 8])
    turned = torch.stack([dihedral(one, int(e)) for one, e in zip(maps, elements, strict=True)])
    assert torch.equal(turned_back(turned, elements), maps)


@pytest.mark.parametrize("kind", [Streets, Masks, AutoEncoder], ids=lambda kind: kind.__name__)
def test_a_network_that_sees_one_pixel_gains_nothing_from_flips(kind):
    found = predict(kind, TestTimeAugmentation(7, "flips", **KNOWN[kind]))
    torch.testing.assert_close(found, predictions(kind, numbers(10, 3, SIDE, SIDE)))


@pytest.mark.parametrize("preset", ["five_crops", "scales", "augmentation"])
def test_views_that_cannot_be_undone_are_refused_for_maps(preset):
    views = TestTimeAugmentation(preset=preset, augmentation="basic")
    with pytest.raises(
        MisconfigurationException, match=f"views of '{preset}' crop, zoom or rotate"
    ):
        predict(Streets, views)


@pytest.mark.parametrize(
    "change",
    [Tensor.long, lambda y: y[:, None], lambda y: y.float(), lambda y: y[:, None].float()],
    ids=["whole", "a-column", "float", "float-column"],
)
def test_targets_of_two_classes_may_have_any_shape(change):
    images, targets = numbers(10, 3, SIDE, SIDE), CatsAndDogs.targets(10)
    loader = DataLoader(list(zip(images, change(targets), strict=True)), batch_size=4)
    found = validate(CatsAndDogs(), TestTimeAugmentation(1, "flips"), loader)
    views = (predictions(CatsAndDogs, one) for one in (images, images.flip(-1)))
    merged = sum(views)[:, 0] / 2
    expected = functional.binary_cross_entropy(merged, targets.float()).item()
    assert found["val_loss_tta"] == pytest.approx(expected, rel=1e-4)
    learned = TestTimeAugmentation(1, "flips", plain_weight="learn")
    validate(CatsAndDogs(), learned, loader)
    assert learned.learned_weight is not None


def test_the_loss_of_numbers_is_the_one_that_the_module_logs():
    class Squared(Ages):
        def loss(self, outputs, targets):
            return functional.mse_loss(outputs, targets)

    images, targets = numbers(10, 3, SIDE, SIDE), Ages.targets(10)
    merged = (predictions(Ages, images) + predictions(Ages, images.flip(-1))) / 2
    for kind, loss in ((Ages, functional.l1_loss), (Squared, functional.mse_loss)):
        found = validate(kind(), TestTimeAugmentation(1, "flips", outputs="numbers"))
        assert found["val_loss_tta"] == pytest.approx(loss(merged, targets).item(), rel=1e-4)


def test_a_loss_of_another_kind_is_not_logged_and_said_once(monkeypatch):
    class Focal(CatsAndDogs):
        def loss(self, outputs, targets):
            return 7 * super().loss(outputs, targets) ** 2

    said: list[str] = []
    monkeypatch.setattr(view_metrics, "rank_zero_info", said.append)
    views = TestTimeAugmentation(1, "flips")
    for _ in range(2):
        assert "val_loss_tta" not in validate(Focal(), views)
    assert len(said) == 1
    assert "val_loss_tta is not logged, since the module logs val_loss" in said[0]


def test_a_dictionary_keeps_what_is_no_prediction():
    found = quiet_trainer(TestTimeAugmentation(1, "flips")).predict(Embedder(), Embedder.loader(4))
    assert found[0]["rows"].tolist() == [0, 1, 2, 3]


@dataclass
class Found:
    logits: Tensor
    loss: Tensor | None = None


def test_a_dataclass_is_read_as_a_dictionary_is():
    class Fields(ImageNet):
        def forward(self, inputs):
            return Found(self.net(inputs))

        def loss(self, outputs, targets):
            return functional.cross_entropy(outputs.logits, targets)

        def predict_step(self, batch, batch_idx):
            return Found(self(batch[0]).logits.softmax(1))

    class Plain(ImageNet):
        def predict_step(self, batch, batch_idx):
            return self(batch[0]).softmax(1)

    trainer = quiet_trainer(TestTimeAugmentation(1, "flips"))
    found = torch.cat([one.logits for one in trainer.predict(Fields(), Fields.loader(10))])
    assert torch.equal(found, predict(Plain, TestTimeAugmentation(1, "flips")))
    assert "val_loss_tta" in validate(Fields(), TestTimeAugmentation(1, "flips"))
    with pytest.raises(MisconfigurationException, match=r"no part of .*\['logits', 'loss'\]"):
        validate(Fields(), TestTimeAugmentation(1, "flips", part="other"))


def test_a_dataclass_that_is_a_mapping_is_one():
    @dataclass
    class Both(dict):
        logits: Tensor

    given = Both(torch.zeros(1))
    assert by_name(given) is given
    assert by_name(Found(torch.zeros(1))).keys() == {"logits", "loss"}


def test_what_stays_of_the_plain_images_is_said(caplog):
    class Decides(ImageNet):
        def predict_step(self, batch, batch_idx):
            probabilities = self(batch[0]).softmax(1)
            return {"p": probabilities, "best": probabilities.argmax(1), "note": "none"}

    caplog.set_level("INFO")
    quiet_trainer(TestTimeAugmentation(1, "flips")).predict(Decides(), Decides.loader(10))
    said = [one.message for one in caplog.records if "merged predictions replace" in one.message]
    assert len(said) == 1
    assert "'p' of what `predict_step` returns" in said[0]
    assert said[0].endswith("stay in 'best'.")


def _maps_of(channels, size):
    class Strides(AutoEncoder):
        def forward(self, inputs):
            found = functional.adaptive_avg_pool2d(inputs, size)
            return found if channels else found[:, 0]

        def predict_step(self, batch, batch_idx):
            return self(batch)

    callback = TestTimeAugmentation(1, "flips", outputs="maps")
    images = DataLoader(numbers(2, 3, 20, 12), batch_size=2)
    return quiet_trainer(callback).predict(Strides(), images)[0], Strides()(next(iter(images)))


@pytest.mark.parametrize("channels", [True, False])
def test_a_map_may_miss_a_part_of_a_pixel(channels):
    """Strides of 8 leave 3 x 2 of 20 x 12 pixels."""
    merged, plain = _maps_of(channels, (3, 2))
    torch.testing.assert_close(merged, plain)


@pytest.mark.parametrize("channels", [True, False])
def test_what_lies_on_no_image_is_no_map(channels):
    with pytest.raises(
        MisconfigurationException, match=r"of 20 x 12\. If they do so, but for a part"
    ):
        _maps_of(channels, (4, 4))


def test_a_part_is_named_where_several_could_be_meant():
    class Silent(Embedder):
        def predict_step(self, batch, batch_idx):
            raise RuntimeError("not for this")

    with pytest.raises(MisconfigurationException, match="there are 'embedding', 'logits'"):
        validate(Silent(), TestTimeAugmentation(1, "flips"))
    named = validate(Silent(), TestTimeAugmentation(1, "flips", part="logits"))
    merged = sum(predictions(Embedder, x) for x in _mirrored()) / 2
    expected = functional.nll_loss(merged.log(), Embedder.targets(10)).item()
    assert named["val_loss_tta"] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(MisconfigurationException, match=r"part='probs'\)` names no part"):
        validate(Silent(), TestTimeAugmentation(1, "flips", part="probs"))


@pytest.mark.parametrize("is_alias", [False, True])
def test_several_heads_are_no_single_prediction(is_alias):
    class Heads(Embedder):
        def forward(self, inputs):
            logits = super().forward(inputs)["logits"]
            return {"one": logits, "two": logits if is_alias else 2 * logits}

        def predict_step(self, batch, batch_idx):
            found = self(batch[0])
            second = {} if is_alias else {"q": found["two"].softmax(1)}
            return {"p": found["one"].softmax(1)} | second

    def predict(**named):
        views = TestTimeAugmentation(1, "flips", **named)
        return quiet_trainer(views).predict(Heads(), Heads.loader(4))[0]["p"]

    if not is_alias:
        with pytest.raises(MisconfigurationException, match="there are 'one', 'two'"):
            predict()
    merged = sum(predictions(Embedder, x[:4]) for x in _mirrored()) / 2
    torch.testing.assert_close(predict(**({} if is_alias else {"part": "one"})), merged)


def test_classes_along_a_sequence_are_no_map():
    class Line(ImageNet):
        def forward(self, inputs):
            return inputs[:, 0]  # as many classes and places as an image has rows and columns

        def predict_step(self, batch, batch_idx):
            return self(batch[0]).softmax(1)

    with pytest.raises(MisconfigurationException, match="are, write `outputs='numbers'`"):
        predict(Line, TestTimeAugmentation(1, "flips"))
    images = numbers(10, 3, SIDE, SIDE)[:, 0]
    merged = (images.softmax(1) + images.flip(-1).softmax(1)) / 2
    found = predict(Line, TestTimeAugmentation(1, "flips", outputs="numbers"))
    torch.testing.assert_close(found, merged)


def _mirrored() -> tuple[Tensor, Tensor]:
    images = numbers(10, 3, SIDE, SIDE)
    return images, images.flip(-1)


def test_a_protocol_has_the_last_word():
    class Own(Ages):
        def probabilities(self, logits):
            return torch.stack([1 - logits.sigmoid(), logits.sigmoid()], 1)

        def predict_step(self, batch, batch_idx):
            return self.probabilities(self(batch[0]))

    views = [torch.sigmoid(predictions(Ages, one)) for one in _mirrored()]
    found = predict(Own, TestTimeAugmentation(1, "flips"))
    torch.testing.assert_close(found[:, 1], (views[0] + views[1]) / 2)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Ages, {}, r"cannot know what the outputs of `Ages` are: `forward` gives shape \(4,\)"),
        (ImageNet, {"outputs": "binary"}, "`outputs='binary'` needs one column"),
        (CatsAndDogs, {"outputs": "classes"}, "its `predict_step` returns the sigmoid"),
        (ImageNet, {"outputs": "probabilities"}, r"needs numbers in \[0, 1\], but"),
        (Tags, {"outputs": "maps"}, "needs height and width"),
        (SoftmaxInside, {"outputs": "classes"}, r"needs logits, but .* sums to 1 in each row"),
        (Ages, {"outputs": "numbers", "plain_weight": "learn"}, "needs probabilities of classes"),
    ],
)
def test_what_cannot_be_known_is_refused_before_anything_is_merged(kind, arguments, message):
    with pytest.raises(MisconfigurationException, match=message):
        validate(kind(), TestTimeAugmentation(1, "flips", **arguments))


def test_numbers_are_never_taken_for_logits_of_classes():
    class Points(Ages):
        def network(self):
            return MODULES["ImageNet"].network(self)

        def loss(self, outputs, targets):
            return functional.mse_loss(outputs, targets.expand_as(outputs.T).T)

    with pytest.raises(MisconfigurationException, match="`predict_step` returns them as they are"):
        predict(Points, TestTimeAugmentation(1, "flips"))
    with pytest.raises(ValueError, match="`outputs` must be 'classes', 'binary'"):
        TestTimeAugmentation(outputs="logits")


def test_validation_leaves_no_trace_of_the_step_that_it_looks_at():
    class Counting(CatsAndDogs):
        seen = 0

        def predict_step(self, batch, batch_idx):
            self.seen += 1
            return super().predict_step(batch, batch_idx)

    model = Counting()
    validate(model, TestTimeAugmentation(1, "flips"))
    assert model.seen == 0
