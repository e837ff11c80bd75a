"""The metric is that of all rows, whatever the batches."""

import pytest
import torch
from sklearn.metrics import mean_squared_error

from lightning_fastrecipes.nn.rmspe import RMSPE


@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_the_error_is_that_of_all_rows_in_shares_of_the_target(batch_size):
    generator = torch.Generator().manual_seed(0)
    targets = 1000 * torch.rand(50, generator=generator) + 10
    predictions = targets * (1 + 0.1 * torch.randn(50, generator=generator))
    metric = RMSPE()
    for start in range(0, 50, batch_size):
        rows = slice(start, start + batch_size)
        metric.update(predictions[rows], targets[rows])

    shares = (predictions / targets).numpy()
    expected = mean_squared_error(torch.ones(50).numpy(), shares) ** 0.5
    assert float(metric.compute()) == pytest.approx(expected, rel=1e-5)
    metric.reset()
    assert float(metric(targets, targets)) == 0


def test_rows_without_sales_are_not_counted():
    metric = RMSPE()
    assert float(metric(torch.tensor([5.0, 90.0]), torch.tensor([0.0, 100.0]))) == pytest.approx(
        0.1
    )
    assert float(RMSPE()(torch.tensor([5.0]), torch.tensor([0.0]))) == 0
    assert RMSPE.higher_is_better is False


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"one shape, got \(3, 1\) and \(3,\)"):
        RMSPE()(torch.zeros(3, 1), torch.ones(3))
