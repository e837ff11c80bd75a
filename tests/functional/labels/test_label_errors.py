import numpy as np
import torch

from lightning_fastrecipes.functional.labels.fold_probabilities import (
    fold_penalty,
    fold_probabilities,
)
from lightning_fastrecipes.functional.labels.label_errors import (
    label_errors,
    overlapping_classes,
    suspicion,
    tag_errors,
    tag_suspicion,
)


def blobs(num_classes=4, each=60, width=20):
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(num_classes, width, generator=generator)
    truth = torch.arange(num_classes).repeat_interleave(each)
    return centres[truth] + torch.randn(len(truth), width, generator=generator), truth


def test_flipped_labels_are_found() -> None:
    features, truth = blobs()
    flipped = torch.arange(0, len(truth), 20)
    labels = truth.clone()
    labels[flipped] = (labels[flipped] + 1) % 4
    p = fold_probabilities(features, labels, 4).double().numpy()
    assert np.allclose(p.sum(1), 1, atol=1e-5)
    found = label_errors(p, labels.numpy())
    assert found[flipped].all()
    assert found.sum() <= len(flipped) + 2
    order = np.argsort(-suspicion(p, labels.numpy()))
    assert set(order[: len(flipped)].tolist()) == set(flipped.tolist())


def test_the_penalty_is_strong_where_features_say_little_and_weak_where_they_say_much() -> None:
    features, truth = blobs()
    noise = torch.randn(60, 200, generator=torch.Generator().manual_seed(0))
    assert fold_penalty(noise, torch.arange(60) % 2, 2) >= 1e-3
    assert fold_penalty(features, truth, 4) <= 1e-4
    tags = torch.nn.functional.one_hot(truth).float()
    assert fold_penalty(features, tags, 4) <= 1e-4
    assert fold_penalty(features[:0], truth[:0], 4) == 1e-2


def test_no_label_is_trained_on_by_the_model_that_judges_it() -> None:
    features = torch.randn(60, 200, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(60) % 2
    p = fold_probabilities(features, labels, 2)
    # Noise alone: a model that had seen the labels would know all of them.
    assert (p.argmax(1) == labels).float().mean() < 0.75


def test_rows_that_are_not_trusted_or_have_no_label_are_predicted_all_the_same() -> None:
    features, truth = blobs()
    labels = truth.clone()
    labels[::3] = -1
    labels[1::3] = (labels[1::3] + 1) % 4
    trusted = torch.arange(len(truth)) % 3 == 2
    p = fold_probabilities(features, labels, 4, trusted=trusted)
    assert (p.argmax(1) == truth).float().mean() > 0.97


def test_a_dropped_tag_and_one_too_many_are_found() -> None:
    features, truth = blobs()
    tags = torch.nn.functional.one_hot(truth).float()
    tags[5, 0], tags[70, 3] = 0, 1
    tags[100] = -1
    p = fold_probabilities(features, tags, 4).double().numpy()
    found = tag_errors(p, tags.double().numpy())
    assert found[5, 0]
    assert found[70, 3]
    assert not found[100].any()
    doubts = tag_suspicion(p, tags.double().numpy())
    assert set(np.argsort(-doubts, axis=None)[:2].tolist()) == {5 * 4, 70 * 4 + 3}


def test_overlap_names_the_two_classes_that_share_rows() -> None:
    p = np.full((40, 3), 0.05)
    truth = np.repeat([0, 1, 2], [10, 10, 20])
    p[np.arange(40), truth] = 0.9
    p[:4] = [0.05, 0.9, 0.05]
    found = overlapping_classes(p, truth, ["cat", "lynx", "dog"])
    assert [(one.one, one.other, one.rows) for one in found] == [("cat", "lynx", 4)]
