"""Pooling of maps, tokens and vectors."""

import pytest
import torch
from torch import nn

from lightning_fastrecipes.nn.pooling import pool


class _Timm(nn.Module):
    """Gives fixed features; its own pooled vector is their first token or their mean."""

    def __init__(self, features, **attributes) -> None:
        super().__init__()
        self.features = features
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward_features(self, images):
        return self.features

    def forward_head(self, features, pre_logits):
        assert pre_logits
        return features[:, 0] if getattr(self, "global_pool", "") == "token" else features.mean(1)


_MAP = torch.arange(24.0).reshape(1, 2, 3, 4)
_TOKENS = torch.tensor([[[9.0, 9.0], [1.0, 6.0], [3.0, 2.0]]])


@pytest.mark.parametrize(
    ("model", "pooling", "expected"),
    [
        pytest.param(_Timm(_MAP), "map", [5.5, 17.5, 11.0, 23.0], id="average-then-maximum"),
        pytest.param(
            _Timm(_MAP.permute(0, 2, 3, 1)), "map_last", [5.5, 17.5, 11.0, 23.0], id="channels-last"
        ),
        pytest.param(
            _Timm(_TOKENS, global_pool="token", num_prefix_tokens=1),
            "tokens",
            [9.0, 9.0, 2.0, 4.0],
            id="class-token-then-mean-of-patches",
        ),
        pytest.param(
            _Timm(_TOKENS, global_pool="token", num_prefix_tokens=2),
            "tokens",
            [9.0, 9.0, 3.0, 2.0],
            id="registers-are-no-patches",
        ),
        pytest.param(
            _Timm(_TOKENS, global_pool="token"), "tokens", [9.0, 9.0, 2.0, 4.0], id="one-by-default"
        ),
        pytest.param(
            _Timm(_TOKENS[:, 1:], global_pool="avg", num_prefix_tokens=0),
            "tokens",
            [2.0, 4.0, 3.0, 6.0],
            id="mean-then-maximum",
        ),
        pytest.param(_Timm(_TOKENS, global_pool="token"), "own", [9.0, 9.0], id="timms-own"),
    ],
)
def test_features_are_pooled(model, pooling, expected) -> None:
    assert pool(model, torch.zeros(1), pooling).tolist() == [pytest.approx(expected)]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        pytest.param(_MAP, [5.5, 17.5, 11.0, 23.0], id="map"),
        pytest.param(_TOKENS[:, 1:], [2.0, 4.0, 3.0, 6.0], id="tokens"),
        pytest.param(torch.tensor([[1.0, 2.0]]), [1.0, 2.0], id="vector"),
    ],
)
def test_what_other_modules_give_is_pooled_by_its_axes(output, expected) -> None:
    assert pool(lambda images: output, torch.zeros(1), "output").tolist() == [expected]


@pytest.mark.parametrize(
    ("output", "came"),
    [
        pytest.param([_MAP], "list", id="list"),
        pytest.param(torch.zeros(2), r"\(2,\)", id="one-axis"),
    ],
)
def test_what_cannot_be_pooled_is_refused(output, came) -> None:
    with pytest.raises(TypeError, match=f"must give a map, tokens or vectors, but gave {came}"):
        pool(lambda images: output, torch.zeros(1), "output")
