"""What is set from the machine: precision, and what becomes of freed memory."""

import json
import platform
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from lightning_fastrecipes.recipe.config import defaults
from lightning_fastrecipes.recipe.config.defaults import default_precision, trainer_arguments


@pytest.fixture(params=[True, False], ids=["bfloat16", "no-bfloat16"])
def has_bfloat16(request, monkeypatch) -> bool:
    monkeypatch.setattr(defaults, "cpu_has_bfloat16", lambda: request.param)
    return request.param


def body(groups: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 4, 3, groups=groups), nn.Flatten(), nn.Linear(16, 2))


def test_a_processor_trains_depthwise_convolutions_in_32_bits(has_bfloat16: bool) -> None:
    faster = "bf16-mixed" if has_bfloat16 else "32-true"
    depthwise = body(groups=4)
    assert default_precision("cpu", depthwise) == "32-true"
    assert default_precision("cpu", body(groups=1)) == faster
    assert default_precision("cpu", body(groups=2)) == faster
    depthwise[0].requires_grad_(False)
    assert default_precision("cpu", depthwise) == faster
    assert default_precision("tpu", body(groups=1)) == "32-true"


def test_a_card_trains_depthwise_convolutions_in_bfloat16_too(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert default_precision("auto", body(groups=4)) == "bf16-mixed"


def test_what_a_recipe_says_of_its_trainer_stands(has_bfloat16: bool) -> None:
    chosen = {"accelerator": "cpu", "precision": "16-true", "devices": 2}
    assert trainer_arguments(chosen, body(groups=1)) == chosen
    assert trainer_arguments({}, body(groups=4))["devices"] == 1


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc only")
def test_freed_memory_is_used_again() -> None:
    """Count how often a process of its own asks the system for pages it has not had before."""
    script = """
        import json, resource, sys, torch
        from lightning_fastrecipes.recipe.artifacts.environment import keep_freed_memory

        def count_faults():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(10):
                torch.ones(2**24)  # 64 MiB
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        as_it_comes = count_faults()
        keep_freed_memory()
        count_faults()
        print(json.dumps([as_it_comes, count_faults()]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    as_it_comes, kept = json.loads(done.stdout.splitlines()[-1])
    assert kept < as_it_comes / 10
