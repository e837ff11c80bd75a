"""What becomes of a task outside of this package: graphs, and modules as Lightning loads them."""

import torch
from helpers.trainers import quiet_trainer

from lightning_fastrecipes import ImageClassifier


def tiny_model() -> ImageClassifier:
    return ImageClassifier("test_resnet.r160_in1k", 2)


def test_a_task_is_exported_as_a_graph() -> None:
    model, images = tiny_model().eval(), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(images)
        graph = torch.export.export(model, (images,))
        torch.testing.assert_close(graph.module()(images), expected)


def test_a_loaded_task_is_in_training_mode_until_it_predicts(tmp_path) -> None:
    model = tiny_model()
    trainer = quiet_trainer(max_epochs=0)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = ImageClassifier.load_from_checkpoint(tmp_path / "last.ckpt")
    # As Lightning does; `fr.load` and a trainer predict in evaluation mode.
    assert loaded.training
    assert not loaded.eval().training
