"""The metric is that of all rows of an epoch, whatever the batches and processes."""

import os
import socket

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from sklearn.metrics import fbeta_score

from lightning_fastrecipes import SampleFBeta
from lightning_fastrecipes.functional.labels.multi_label import threshold_grid

LABELS = 5


def rows(num_rows: int = 101) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(num_rows, LABELS, generator=generator) < 0.3).float()
    noise = torch.rand(num_rows, LABELS, generator=generator)
    scale = torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2])
    return (0.35 * targets + 0.65 * noise) * scale, targets


def best_by_scikit_learn(probabilities, targets) -> float:
    return max(
        fbeta_score(
            targets.numpy(),
            (probabilities >= threshold).numpy(),
            beta=2,
            average="samples",
            zero_division=1,
        )
        for threshold in threshold_grid(99).tolist()
    )


@pytest.mark.parametrize("batch_size", [1, 16, 101])
def test_the_value_is_the_best_of_all_thresholds_over_all_rows(batch_size) -> None:
    probabilities, targets = rows()
    metric = SampleFBeta(LABELS)
    for start in range(0, len(targets), batch_size):
        batch = slice(start, start + batch_size)
        metric.update(probabilities[batch], targets[batch].int())

    assert float(metric.compute()) == pytest.approx(best_by_scikit_learn(probabilities, targets))
    fixed = SampleFBeta(LABELS)
    fixed.fix(metric.best_thresholds)
    assert float(fixed(probabilities, targets)) == pytest.approx(float(metric.compute()))
    assert metric.best_thresholds.unique().numel() == 1


def test_the_mean_of_batches_is_something_else() -> None:
    """As the course computes it: the best threshold of every batch, which flatters the model."""
    probabilities, targets = rows()
    whole = SampleFBeta(LABELS)
    whole.update(probabilities, targets)
    each = [float(SampleFBeta(LABELS)(p[None], t[None])) for p, t in zip(*rows(), strict=True)]
    assert sum(each) / len(each) > float(whole.compute()) + 0.05


def test_a_threshold_for_each_label_is_better_where_their_scales_differ() -> None:
    probabilities, targets = rows()
    one, each = SampleFBeta(LABELS), SampleFBeta(LABELS, threshold="per_label")
    for metric in (one, each):
        metric.update(probabilities[:50], targets[:50])
        metric.update(probabilities[50:], targets[50:])

    assert float(each.compute()) > float(one.compute()) + 0.01
    fixed = SampleFBeta(LABELS)
    fixed.fix(each.best_thresholds)
    fixed.update(probabilities, targets)
    assert float(fixed.compute()) == pytest.approx(float(each.compute()))
    assert each.best_thresholds.unique().numel() > 1


def test_reset_forgets_rows_and_keeps_what_is_fixed() -> None:
    probabilities, targets = rows()
    metric = SampleFBeta(LABELS)
    metric.fix(torch.full((LABELS,), 0.3))
    first = metric(probabilities, targets)
    metric.reset()
    metric.update(probabilities, targets)
    assert metric.compute() == first
    metric.fix(None)
    metric.update(probabilities, targets)
    assert metric.compute() >= first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_labels": 0}, "`num_labels` must be at least 1, got 0"),
        ({"beta": 0.0}, "`beta` must be above 0, got 0.0"),
        ({"threshold": "each"}, "`threshold` must be 'one' or 'per_label', got 'each'"),
        ({"grid": 0}, "`grid` must be at least 1, got 0"),
        ({"grid": [0.5, 0.2]}, r"`grid` must be ascending .* got \[0.5, 0.2\]"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        SampleFBeta(**({"num_labels": 2} | options))


def test_another_number_of_labels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must have shape \(batch, 5\), got \(3, 4\)"):
        SampleFBeta(LABELS).update(torch.zeros(3, 4), torch.zeros(3, 4))


def work(rank: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    probabilities, targets = rows()
    found = {}
    for kind in ("one", "per_label"):
        metric = SampleFBeta(LABELS, threshold=kind)
        metric.update(probabilities[rank::2], targets[rank::2])
        found[kind] = (metric.compute(), metric.best_thresholds)
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.distributed
def test_two_processes_with_shards_of_unequal_length_agree_with_one_bit_for_bit(tmp_path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = (port, str(tmp_path))
    torch.multiprocessing.start_processes(work, arguments, nprocs=2, start_method="fork")
    for kind in ("one", "per_label"):
        metric = SampleFBeta(LABELS, threshold=kind)
        metric.update(*rows())
        expected = metric.compute()
        for rank in (0, 1):
            value, thresholds = torch.load(tmp_path / f"{rank}.pt")[kind]
            assert torch.equal(value, expected), kind
            assert torch.equal(thresholds, metric.best_thresholds), kind


@pytest.mark.parametrize("value", [float("nan"), 1.5, -0.5], ids=["nan", "above", "below"])
def test_what_is_no_probability_is_refused(value) -> None:
    metric = SampleFBeta(2)
    with pytest.raises(ValueError, match=r"`probabilities` must lie in \[0, 1\], but some do not"):
        metric.update(torch.tensor([[value, 0.5]]), torch.tensor([[1, 0]]))
