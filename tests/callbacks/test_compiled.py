"""A compiled model trains like the plain one: sizes, freezing, views and checkpoints.

No backend here needs a C++ compiler.
"""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from helpers.trainers import quiet_trainer
from torch import nn

from lightning_fastrecipes import (
    ImageClassifier,
    ImageFolderDataModule,
    ProgressiveResizing,
    TestTimeAugmentation,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
]


@pytest.fixture(autouse=True)
def _forget_compilations():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class CountingBackend:
    """Run graphs as they are, and count them."""

    def __init__(self) -> None:
        self.num_graphs = 0

    def __call__(self, graph, inputs):
        self.num_graphs += 1
        return graph.forward


class Trace(pl.Callback):
    """Note sizes and losses, which parameters had a gradient, and the graphs after each epoch."""

    def __init__(self, backend: CountingBackend | None = None) -> None:
        self.backend = backend
        self.sizes: list[int] = []
        self.losses: list[float] = []
        self.validated: list[int] = []
        self.with_gradient: set[str] = set()
        self.num_graphs: list[int] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.sizes.append(batch[0].shape[-1])
        self.losses.append(float(outputs["loss"]))

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, *_):
        self.validated.append(batch[0].shape[-1])

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        named = pl_module.named_parameters()
        self.with_gradient |= {name for name, item in named if item.grad is not None}

    def on_train_epoch_end(self, trainer, pl_module):
        if self.backend is not None:
            self.num_graphs.append(self.backend.num_graphs)


def tiny_model() -> ImageClassifier:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Sigmoid()),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Sigmoid()),
    )
    return ImageClassifier(network, num_classes=2, head="linear", lr=0.01)


def data(squares: Path) -> ImageFolderDataModule:
    return ImageFolderDataModule(squares, image_size=32, batch_size=7, num_workers=0, split=0.25)


def fit(model, squares: Path, *callbacks: pl.Callback, **options) -> Trace:
    trace = next((item for item in callbacks if isinstance(item, Trace)), Trace())
    pl.seed_everything(1, verbose=False)
    quiet_trainer(
        *{*callbacks, trace}, **({"max_epochs": 1, "num_sanity_val_steps": 0} | options)
    ).fit(model, data(squares))
    return trace


@pytest.mark.parametrize("part", ["backbone", "backbone.model"])
def test_a_new_size_compiles_once_more_and_later_sizes_not_at_all(squares, part):
    sizes, plain = ProgressiveResizing({0: 16, 1: 24, 2: 32, 3: 40}), tiny_model()
    expected = fit(plain, squares, sizes, max_epochs=4)
    backend, model = CountingBackend(), tiny_model()
    model.get_submodule(part).compile(backend=backend)
    found = fit(model, squares, sizes, Trace(backend), max_epochs=4)
    assert found.sizes == expected.sizes == [16] * 3 + [24] * 3 + [32] * 3 + [40] * 3
    assert found.losses == pytest.approx(expected.losses, rel=1e-5)
    torch.testing.assert_close(model.state_dict(), plain.state_dict())
    first, second, *later = found.num_graphs
    assert 0 < first < second
    assert set(later) == {second}


def test_static_shapes_beyond_the_limit_of_torch_still_train_right(squares):
    sizes = ProgressiveResizing({epoch: 16 + 2 * epoch for epoch in range(10)}, validate_at="last")
    options = {"max_epochs": 10, "limit_train_batches": 1, "limit_val_batches": 0}
    plain, model, backend = tiny_model(), tiny_model(), CountingBackend()
    fit(plain, squares, sizes, **options)
    model.backbone.compile(backend=backend, dynamic=False)
    found = fit(model, squares, sizes, Trace(backend), **options)
    assert found.sizes == [16 + 2 * epoch for epoch in range(10)]
    assert found.num_graphs == [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]
    torch.testing.assert_close(model.state_dict(), plain.state_dict())


def test_freezing_between_fits_reaches_the_compiled_graph(squares):
    """``aot_eager`` settles while compiling which weights get a gradient."""
    model, plain = tiny_model(), tiny_model()
    model.compile(backend="aot_eager")
    for depth in (-1, 0, 1):
        plain.freeze_to(depth)
        model.freeze_to(depth)
        before = {name: item.detach().clone() for name, item in model.named_parameters()}
        fit(plain, squares)
        trained = {name for group in model.layer_groups()[depth:] for name in group.parameters}
        assert fit(model, squares).with_gradient == trained
        after = dict(model.named_parameters())
        assert {name for name in after if not torch.equal(before[name], after[name])} == trained
        torch.testing.assert_close(model.state_dict(), plain.state_dict())


def test_validation_at_another_size_is_that_of_the_plain_model(squares):
    sizes = ProgressiveResizing({0: 16, 1: 24}, validate_at="last")
    metrics = []
    for backend in (None, CountingBackend()):
        model = tiny_model()
        if backend is not None:
            model.compile(backend=backend)
        pl.seed_everything(1, verbose=False)
        trace = Trace(backend)
        run = quiet_trainer(sizes, trace, max_epochs=2, num_sanity_val_steps=0)
        run.fit(model, data(squares))
        assert (set(trace.sizes), set(trace.validated)) == ({16, 24}, {24})
        metrics.append({name: float(value) for name, value in run.callback_metrics.items()})
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-5)
    assert trace.num_graphs[0] > 0


@pytest.mark.filterwarnings("ignore:Splits share images")
def test_views_predict_with_the_compiled_model(squares):
    (squares / "test").mkdir()
    for file in squares.glob("*/1*.png"):
        (squares / "test" / f"{file.parent.name}-{file.name}").write_bytes(file.read_bytes())
    measured, predicted = [], []
    backend = CountingBackend()
    for is_compiled in (False, True):
        model, images = tiny_model(), data(squares)
        if is_compiled:
            model.compile(backend=backend)
        run = quiet_trainer(TestTimeAugmentation(preset="five_crops"))
        measured.append(run.validate(model, images, verbose=False)[0])
        predicted.append(torch.cat(run.predict(model, datamodule=images)))
    assert "val_loss_tta" in measured[0]
    assert measured[1] == pytest.approx(measured[0], rel=1e-5)
    torch.testing.assert_close(predicted[1], predicted[0])
    assert backend.num_graphs > 0


def test_a_whole_compiled_model_trains_in_two_stages_and_its_checkpoint_loads(squares, tmp_path):
    plain, model, backend = tiny_model(), tiny_model(), CountingBackend()
    compiled = torch.compile(model, backend=backend)
    sizes = ProgressiveResizing({0: 16, 1: 24})
    options = {"max_epochs": 2, "limit_train_batches": 1, "limit_val_batches": 0}
    for depth in (-1, 1):
        plain.freeze_to(depth)
        compiled.freeze_to(depth)
        fit(plain, squares, sizes, **options)
        assert set(fit(compiled, squares, sizes, **options).sizes) == {16, 24}
        torch.testing.assert_close(model.state_dict(), plain.state_dict())
    assert backend.num_graphs > 0
    run = quiet_trainer(max_epochs=0, num_sanity_val_steps=0)
    run.fit(compiled, data(squares))
    run.save_checkpoint(tmp_path / "compiled.ckpt", weights_only=False)
    loaded = ImageClassifier.load_from_checkpoint(
        tmp_path / "compiled.ckpt", backbone=tiny_model().backbone.model, weights_only=True
    )
    torch.testing.assert_close(loaded.state_dict(), plain.state_dict(), rtol=1e-5, atol=1e-6)
    assert loaded.num_frozen == 1
    loaded.freeze_to(-1)


# What cannot work is said before training.


@pytest.mark.parametrize("part", ["backbone", "backbone.model", "head"])
def test_a_wrapped_part_is_refused_with_the_cure(squares, part):
    model = tiny_model()
    model.set_submodule(part, torch.compile(model.get_submodule(part), backend="eager"))
    message = rf"must keep their names .* Compile it in place: `model\.{part}\.compile\(\)`"
    with pytest.raises(ValueError, match=message):
        model.freeze_to(-1)
    with pytest.raises(ValueError, match=message):
        fit(model, squares)


def test_a_wrapped_part_is_not_saved_under_names_that_do_not_load(squares, tmp_path):
    model = tiny_model()
    model.backbone = torch.compile(model.backbone, backend="eager")
    run = quiet_trainer()
    run.validate(model, data(squares), verbose=False)
    with pytest.raises(ValueError, match="must keep their names"):
        run.save_checkpoint(tmp_path / "wrapped.ckpt", weights_only=False)
    assert not (tmp_path / "wrapped.ckpt").exists()
