"""Probabilities of labels that were not trained on, by folds of a linear model on features."""

import torch
from torch import Tensor, nn

from lightning_fastrecipes.functional.random import seeded_generator

_MOST_COMPONENTS = 256
_NUM_ITERATIONS = 60
_PENALTIES = (1e-2, 1e-3, 1e-4, 3e-5, 1e-5, 1e-6)
_MOST_ROWS = 5000
"""How many rows the penalty is chosen on."""
_NUM_REFINEMENTS = 2


def fold_probabilities(
    features: Tensor,
    targets: Tensor,
    num_classes: int,
    *,
    num_folds: int = 5,
    seed: int = 0,
    trusted: Tensor | None = None,
    penalty: float | None = None,
) -> Tensor:
    """Predict every row by a linear model that was trained on the other folds.

    ``features`` have shape ``(rows, width)``; ``targets`` are class indices ``(rows,)``, -1 without
    a label, or 0 and 1 for each label ``(rows, num_classes)``, -1 where unknown. Only ``trusted``
    rows ``(rows,)`` are trained on, all if ``None``; all are predicted. Folds have the same mix of
    classes. ``penalty`` is the weight of the sum of squared weights in the loss; ``fold_penalty``
    chooses it if ``None``. The result are probabilities ``(rows, num_classes)``, which sum to 1
    over classes, but not over labels of which an image may have several. Raise `ValueError` for
    fewer than two folds.

    >>> features = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(10, 1)
    >>> targets = torch.tensor([0, 1] * 10)
    >>> fold_probabilities(features, targets, 2).argmax(1).equal(targets)
    True
    """
    if num_folds < 2:
        raise ValueError(f"`num_folds` must be at least 2, got {num_folds}.")
    usable = torch.ones(len(targets), dtype=torch.bool) if trusted is None else trusted.clone()
    usable &= targets >= 0 if targets.ndim == 1 else (targets >= 0).any(1)
    if penalty is None:
        penalty = fold_penalty(
            features[usable], targets[usable], num_classes, num_folds=num_folds, seed=seed
        )
    values = _components(features.float(), seed)
    folds = _folds(targets, num_folds, seed)
    found = torch.empty(len(targets), num_classes)
    for fold in range(num_folds):
        rows, others = folds == fold, (folds != fold) & usable
        layer = _fit(values[others], targets[others], num_classes, penalty)
        with torch.no_grad():
            outputs = layer(values[rows])
        found[rows] = outputs.softmax(1) if targets.ndim == 1 else outputs.sigmoid()
    return found


def fold_penalty(
    features: Tensor, targets: Tensor, num_classes: int, *, num_folds: int = 5, seed: int = 0
) -> float:
    """Choose the penalty of ``fold_probabilities`` by which rows that were not trained on fit best.

    Of at most 5,000 rows, drawn by the seed. Penalties are tried from the strongest on, until the
    loss of the labels rises. On 5,000 digits with 5 % wrong labels it takes 3e-5, by which more of
    them are found than by any other that was tried (0.92 of those at random at a precision of 0.70;
    0.69 by the 1e-3 of before).
    """
    if len(targets) > _MOST_ROWS:
        rows = torch.randperm(len(targets), generator=seeded_generator(seed, 2))[:_MOST_ROWS]
        features, targets = features[rows], targets[rows]
    best, lowest = _PENALTIES[0], float("inf")
    for penalty in _PENALTIES if len(targets) else ():
        found = fold_probabilities(
            features, targets, num_classes, num_folds=num_folds, seed=seed, penalty=penalty
        )
        loss = _log_loss(found, targets)
        if not loss < lowest:
            break
        best, lowest = penalty, loss
    return best


def _log_loss(found: Tensor, targets: Tensor) -> float:
    known = targets >= 0
    if targets.ndim == 1:
        given = found[known].gather(1, targets[known, None].long())
    else:
        given = torch.where(targets > 0, found, 1 - found)[known]
    return float(-given.double().clamp_min(1e-12).log().mean())


def _components(features: Tensor, seed: int) -> Tensor:
    """Return the strongest components of standardised features, of lengths about 1."""
    values = (features - features.mean(0)) / features.std(0, correction=0).clamp_min(1e-6)
    count = min(_MOST_COMPONENTS, *values.shape)
    if count < values.shape[1]:
        random = torch.randn(
            values.shape[1], count, generator=seeded_generator(seed), dtype=values.dtype
        )
        # Subspace iteration (Halko et al., 2011), on a generator of its own.
        basis = torch.linalg.qr(values @ random)[0]
        for _ in range(_NUM_REFINEMENTS):
            basis = torch.linalg.qr(values @ (values.T @ basis))[0]
        values = values @ torch.linalg.qr(values.T @ basis)[0]
    length: Tensor = values.norm(dim=1).mean().clamp_min(1e-6)
    return values / length


def _folds(targets: Tensor, num_folds: int, seed: int) -> Tensor:
    order = torch.randperm(len(targets), generator=seeded_generator(seed, 1))
    if targets.ndim == 1:
        order = order[targets[order].argsort(stable=True)]
    folds = torch.empty(len(targets), dtype=torch.long)
    folds[order] = torch.arange(len(targets)) % num_folds
    return folds


def _fit(values: Tensor, targets: Tensor, num_classes: int, penalty: float) -> nn.Linear:
    layer = nn.Linear(values.shape[1], num_classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    if not len(values):
        return layer
    optimizer = torch.optim.LBFGS(
        layer.parameters(), max_iter=_NUM_ITERATIONS, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        outputs = layer(values)
        if targets.ndim == 1:
            found = nn.functional.cross_entropy(outputs, targets)
        else:
            losses = nn.functional.binary_cross_entropy_with_logits(
                outputs, targets.clamp_min(0).float(), reduction="none"
            )
            known = targets >= 0
            found = (losses * known).sum() / known.sum().clamp_min(1) * num_classes
        penalised: Tensor = found + penalty * layer.weight.square().sum()
        return penalised

    def closure() -> float:
        optimizer.zero_grad()
        found = loss()
        found.backward()  # type: ignore[no-untyped-call]
        return found.item()

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return layer
