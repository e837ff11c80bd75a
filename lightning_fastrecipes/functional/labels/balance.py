"""How often each sample is drawn so that rare labels are seen as often as common ones."""

import torch
from torch import Tensor


def balancing_weights(targets: Tensor, *, multi_label: bool = False) -> Tensor:
    """Weigh samples by the inverse frequency of their labels.

    - One label: ``1 / count(label)``, so that every class is drawn equally often.
    - Probabilities: the sum over classes of ``probability / sum of that class's probabilities``.
    - Several labels: ``1 / count`` of the sample's rarest label; samples without any label count
      as a label of their own.

    Targets are class indices ``(samples,)``, probabilities ``(samples, num_classes)``, or 0 and 1
    if ``multi_label``. The weights sum to 1; ``float64``.

    >>> balancing_weights(torch.tensor([0, 0, 0, 1])).tolist()[2:]
    [0.16666666666666666, 0.5]
    """
    if targets.ndim == 1:
        weights = 1.0 / torch.bincount(targets)[targets].double()
    elif multi_label:
        holds = (targets >= 0.5).double()
        holds = torch.cat([holds, (holds.sum(1, keepdim=True) == 0).double()], dim=1)
        weights = (holds / holds.sum(0).clamp_min(1)).amax(1)
    else:
        shares = targets.double()
        weights = (shares / shares.sum(0).clamp_min(1e-12)).sum(1)
    return weights / weights.sum()
