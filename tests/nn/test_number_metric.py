import pytest
import torch
from torchmetrics import MeanAbsoluteError, MeanSquaredError, R2Score

from lightning_fastrecipes.nn.number_metric import NumberMetric


def measured(metric, predictions, targets):
    metric.set_dtype(predictions.dtype)
    for rows in (slice(0, 30), slice(30, None)):
        metric.update(predictions[rows], targets[rows])
    return float(metric.compute())


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e12])
def test_measures_are_those_of_torchmetrics(scale):
    generator = torch.Generator().manual_seed(0)
    targets = scale * torch.randn(50, 2, generator=generator, dtype=torch.float64)
    predictions = targets + scale * 0.3 * torch.randn(50, 2, generator=generator).double()
    for column in (0, 1):
        pair = predictions[:, column].clone(), targets[:, column].clone()
        for measure, oracle in (
            ("mae", MeanAbsoluteError()),
            ("rmse", MeanSquaredError(squared=False)),
            ("r2", R2Score()),
        ):
            # An explained share of less than 1e-7 is nothing to torchmetrics.
            wanted = measured(oracle, *(x / scale for x in pair))
            wanted *= 1 if measure == "r2" else scale
            assert measured(NumberMetric(measure), *pair) == pytest.approx(wanted, rel=1e-9)
            of_column = measured(NumberMetric(measure, column), predictions, targets)
            assert of_column == pytest.approx(wanted, rel=1e-9)


def test_explained_variance_keeps_its_digits_a_billion_spreads_from_0():
    generator = torch.Generator().manual_seed(0)
    spread = torch.randn(50, generator=generator, dtype=torch.float64)
    wanted = measured(NumberMetric("r2"), spread * 0.9, spread)
    offset = 1e9
    found = measured(NumberMetric("r2", centre=offset), offset + spread * 0.9, offset + spread)
    assert found == pytest.approx(wanted, abs=1e-5)


def test_targets_that_are_all_the_same_have_no_variance_to_explain():
    same = torch.full((40,), 3.0, dtype=torch.float64)
    assert measured(NumberMetric("r2"), same + 1, same) != measured(NumberMetric("mae"), same, same)
    assert torch.tensor(measured(NumberMetric("r2"), same + 1, same)).isnan()


def test_only_r2_is_better_if_higher():
    found = {name: NumberMetric(name).higher_is_better for name in ("mae", "rmse", "r2")}
    assert found == {"mae": False, "rmse": False, "r2": True}
    with pytest.raises(ValueError, match="`measure` must be"):
        NumberMetric("mape")
