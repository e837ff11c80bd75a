"""Pretrained weights without a network."""

import logging

import pytest
from huggingface_hub import constants

from lightning_fastrecipes.errors import DataNotFoundError
from lightning_fastrecipes.nn import hub
from lightning_fastrecipes.nn.backbones import create_backbone


@pytest.fixture
def no_address(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "getproxies", dict)


@pytest.mark.parametrize("name", ["resnet18", "hf_hub:timm/resnet18.a1_in1k"])
def test_a_hub_out_of_reach_is_told_without_tries(name, no_address, caplog) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(DataNotFoundError, match="timm's hub"):
        create_backbone(name, pretrained=True)
    assert "Retry" not in caplog.text
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.parametrize("proxies", [{}, {"https": "http://proxy.invalid:3128"}])
def test_the_hub_is_asked_as_ever_where_it_may_be_reached(proxies, monkeypatch) -> None:
    host = "hub.invalid" if proxies else "localhost"
    monkeypatch.setattr(constants, "ENDPOINT", f"https://{host}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "getproxies", lambda: proxies)
    with hub.prompt_hub(is_asked=True):
        assert not constants.HF_HUB_OFFLINE
