"""Backbones: what they give, which sizes they take, and how they divide."""

import pytest
import timm
import torch
from torch import nn

from lightning_fastrecipes.errors import DataNotFoundError
from lightning_fastrecipes.nn.backbones import Backbone, create_backbone
from lightning_fastrecipes.nn.summary import summary
from lightning_fastrecipes.protocols import InputSpec, LayerGroup


def _without_data(name: str) -> Backbone:
    with torch.device("meta"):
        return create_backbone(name)


class _Maps(nn.Module):
    """A network of one's own with three stages."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.stages = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 6, 3))

    def forward(self, images):
        return self.stages(self.stem(images))


def test_a_map_is_pooled_to_its_average_and_maximum() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("resnet10t").eval()
    images = torch.randn(2, 3, 40, 50)
    with torch.no_grad():
        features = backbone.model.forward_features(images)
        pooled = backbone(images)
    expected = torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)
    assert torch.equal(pooled, expected)
    assert pooled.shape == (2, backbone.num_features) == (2, 1024)


def test_tokens_are_pooled_to_class_token_and_mean_patch() -> None:
    backbone = create_backbone("test_vit").eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        tokens = backbone.model.forward_features(images)
        pooled = backbone(images)
    assert tokens.shape == (2, 5, 64)
    assert torch.allclose(pooled, torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=1))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        pytest.param("mobilenetv3_small_050", "conv_head", id="last-convolution"),
        pytest.param("vgg11", "pre_logits.fc2", id="wide-layers-of-vgg"),
        pytest.param("test_convnext", "head.norm", id="norm-after-pooling"),
        pytest.param("vit_base_patch16_siglip_224", "attn_pool.mlp.fc2", id="attention-pooling"),
    ],
)
def test_pretrained_layers_after_the_map_are_used_and_in_the_last_group(name, layer) -> None:
    backbone = _without_data(name)
    assert backbone.num_features == backbone.model.head_hidden_size
    early, late = backbone.layer_groups(2)
    assert f"model.{layer}.weight" in late.parameters
    assert f"model.{layer}.weight" not in early.parameters


def test_parameters_that_nothing_uses_become_buffers() -> None:
    backbone = _without_data("efficientvim_m1")
    assert "model.weights" not in dict(backbone.named_parameters())
    assert "model.weights" in backbone.state_dict()


def test_the_input_spec_comes_from_the_weights_own_configuration() -> None:
    spec = _without_data("vit_small_patch16_224.augreg_in1k").input_spec
    assert spec == InputSpec(
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
        crop_fraction=0.9,
        image_size=224,
        size_multiple=16,
        fixed_size=False,
    )


@pytest.mark.parametrize(
    ("name", "taken", "refused", "message"),
    [
        pytest.param("resnet18", [33, 64, 299], [0], "multiple of 1 pixels", id="resnet-any"),
        pytest.param(
            "test_vit",
            [32, 96, 160],
            [100],
            r"multiple of 16 .* got 100\. Use 96",
            id="vit-patches",
        ),
        pytest.param(
            "swin_tiny_patch4_window7_224", [128, 224], [30], "multiple of 4 pixels", id="swin"
        ),
        pytest.param(
            "resmlp_12_224", [224], [192, 256], "must be 224 .* takes no other", id="mlp-one-alone"
        ),
        pytest.param(
            "inception_v3",
            [75, 299],
            [8, 74],
            "at least 75 pixels .* Use 75 or more",
            id="too-small",
        ),
    ],
)
def test_image_sizes_are_checked_before_training(name, taken, refused, message) -> None:
    backbone = _without_data(name)
    for size in taken:
        backbone.check_image_size(size)
    for size in refused:
        with pytest.raises(ValueError, match=message):
            backbone.check_image_size(size)


# Appendix B of the feature notes: groups with the head, the first group, what is in the last.
@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("resnet34", 6, {"conv1", "bn1"}, {"layer4"}),
        ("resnet50", 6, {"conv1", "bn1"}, {"layer4"}),
        ("regnety_016", 6, {"stem"}, {"s4"}),
        ("convnext_tiny", 6, {"stem"}, {"stages", "head"}),
        ("swin_tiny_patch4_window7_224", 6, {"patch_embed"}, {"layers", "norm"}),
        ("densenet121", 6, {"features"}, {"features"}),
        (
            "vit_small_patch16_224",
            14,
            {"cls_token", "pos_embed", "patch_embed"},
            {"blocks", "norm"},
        ),
        ("efficientnet_b0", 9, {"conv_stem", "bn1"}, {"blocks", "conv_head", "bn2"}),
        ("mobilenetv3_large_100", 9, {"conv_stem", "bn1"}, {"blocks", "conv_head"}),
        ("vgg16_bn", 27, {"features"}, {"features", "pre_logits"}),
        ("inception_v4", 21, {"features"}, {"features"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_common_backbones_divide_as_their_authors_say(name, count, first, last) -> None:
    backbone = _without_data(name)
    groups = backbone.layer_groups(count - 1)
    tops = [{item.split(".")[1] for item in group.parameters} for group in groups]
    assert tops[0] == first
    assert tops[-1] == last
    with pytest.raises(ValueError, match=f"between 1 and the {count - 1} groups"):
        backbone.layer_groups(count)


def test_the_last_norm_of_densenet_is_in_the_last_group_and_its_stem_in_the_first() -> None:
    groups = _without_data("densenet121").layer_groups(5)
    assert "model.features.norm5.weight" in groups[-1].parameters
    assert groups[0].parameters[0] == "model.features.conv0.weight"


@pytest.mark.parametrize(
    ("name", "cut"),
    [("resnet34", "layer3.0.conv1"), ("densenet121", "features.denseblock3.denselayer1.norm1")],
)
def test_two_groups_are_cut_where_the_course_cuts(name, cut) -> None:
    early, late = _without_data(name).layer_groups(2)
    assert (early.name, late.name) == ("early", "late")
    assert late.parameters[0] == f"model.{cut}.weight"


@pytest.mark.parametrize("name", ["csatv2", "poolformer_s12", "pit_ti_224", "rdnet_tiny"])
def test_models_without_coarse_groups_divide_from_input_to_output(name) -> None:
    backbone = _without_data(name)
    order = [parameter for parameter, _ in backbone.named_parameters()]
    groups = backbone.layer_groups(3)
    assert groups[0].parameters[0] == order[0]
    assert order[-1] in groups[-1].parameters
    shares = [len(group.parameters) / len(order) for group in groups]
    assert min(shares) > 0.1


def test_no_weight_decay_comes_from_the_model() -> None:
    assert {"model.cls_token", "model.pos_embed"} <= _without_data("test_vit").no_weight_decay()
    assert _without_data("resnet10t").no_weight_decay() == set()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        pytest.param(
            {"model": "resnt18"}, ValueError, "got 'resnt18'. Did you mean resnet18", id="typo"
        ),
        pytest.param(
            {"model": "resnet18.nobody"}, ValueError, r"Invalid pretrained tag \(nobody\)", id="tag"
        ),
        pytest.param(
            {"model": "resnet18", "pretrained": True, "weights": "w.pth"},
            ValueError,
            "`pretrained` and `weights` must not be given together",
            id="two-sources",
        ),
        pytest.param(
            {"model": "resnet18.a1_in1k", "pretrained": True},
            DataNotFoundError,
            "weights='.*safetensors'.*package:efficientnet-lite0.*pretrained=False",
            id="offline",
        ),
        pytest.param(
            {"model": "resnet10t", "weights": "gone.pth"},
            DataNotFoundError,
            "there is none at 'gone.pth'",
            id="no-file",
        ),
        pytest.param(
            {"model": "qwen3_vit_88m_enc"},
            ValueError,
            "must be an image classifier, which 'qwen3_vit_88m_enc' is not",
            id="no-classifier",
        ),
    ],
)
def test_backbones_that_cannot_be_are_refused(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        create_backbone(**arguments)


def test_a_classifier_that_a_network_still_has_is_named() -> None:
    class Classifies(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.fc = nn.Linear(4, 1000)

        def forward(self, images):
            return self.fc(self.body(images))

    with pytest.warns(UserWarning, match=r"of its own, `fc`, on whose 1,000 outputs the head is"):
        assert create_backbone(Classifies()).num_features == 1000
    network = Classifies()
    network.fc = nn.Identity()
    assert create_backbone(network).num_features == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (torch.jit.script, "it is a TorchScript module"),
        (lambda net: torch.jit.trace(net, torch.zeros(2, 3, 32, 32)), "it is a TorchScript module"),
        (lambda net: nn.Sequential(torch.jit.script(net)), "its part '0' is a TorchScript module"),
        (
            lambda net: nn.Sequential(net, nn.LazyLinear(4)),
            r"'1\.weight' does not before it",
        ),
        (lambda net: net.half(), "must be float32, but 'weight' is torch.float16"),
        (type, "or a network .*got <class"),
        (lambda net: None, "or a network .*got None"),
    ],
)
def test_networks_that_cannot_be_trained_are_refused(change, message) -> None:
    network = change(nn.Conv2d(3, 8, 3))
    with pytest.raises(ValueError, match=message):
        create_backbone(network)
    if "TorchScript" in message:
        with pytest.raises(ValueError, match="TorchScript"):
            summary(network)


def test_weights_from_a_file_make_a_backbone_pretrained(tmp_path) -> None:
    source = timm.create_model("resnet10t")
    torch.save(source.state_dict(), tmp_path / "w.pth")
    backbone = create_backbone("resnet10t", weights=str(tmp_path / "w.pth"))
    assert backbone.pretrained
    assert torch.equal(backbone.model.conv1[0].weight, source.conv1[0].weight)
    assert not create_backbone("resnet10t").pretrained


def test_the_backbone_has_no_classifier() -> None:
    network = timm.create_model("resnet10t", num_classes=7)
    backbone = create_backbone(network, pretrained=True)
    assert backbone.pretrained
    assert backbone.name == "resnet10t"
    assert not [name for name, _ in backbone.named_parameters() if "fc" in name]
    assert backbone.num_features == 1024


def test_a_network_of_ones_own_divides_by_its_children() -> None:
    backbone = create_backbone(_Maps())
    assert backbone.num_features == 12
    assert backbone.input_spec == InputSpec()
    assert backbone(torch.zeros(2, 3, 16, 16)).shape == (2, 12)
    assert [group.parameters[0] for group in backbone.layer_groups(2)] == [
        "model.stem.weight",
        "model.stages.0.weight",
    ]
    assert [group.parameters[0] for group in backbone.layer_groups(3)] == [
        "model.stem.weight",
        "model.stages.0.weight",
        "model.stages.1.weight",
    ]
    with pytest.raises(ValueError, match="between 1 and the 3 groups"):
        backbone.layer_groups(4)
    with pytest.raises(ValueError, match="must be at least 11 pixels for '_Maps'"):
        backbone.check_image_size(2)


def test_a_networks_own_groups_and_input_spec_are_honoured() -> None:
    class Grouped(_Maps):
        input_spec = InputSpec(mean=(0.5,) * 3, image_size=32, size_multiple=8)

        def layer_groups(self):
            names = [name for name, _ in self.named_parameters()]
            return [LayerGroup("a", tuple(names[:1])), LayerGroup("b", tuple(names[1:]))]

    backbone = create_backbone(Grouped())
    assert backbone.input_spec.mean == (0.5, 0.5, 0.5)
    assert [len(group.parameters) for group in backbone.layer_groups(2)] == [1, 5]
    with pytest.raises(ValueError, match="multiple of 8"):
        backbone.check_image_size(33)


def test_own_groups_that_miss_a_parameter_are_refused() -> None:
    class Forgetful(_Maps):
        def layer_groups(self):
            return [LayerGroup("a", ("stem.weight",))]

    with pytest.raises(ValueError, match=r"must hold every parameter once, which 'stages.0.bias'"):
        create_backbone(Forgetful()).layer_groups(1)


@pytest.mark.parametrize(
    ("module", "width"),
    [
        pytest.param(nn.Sequential(nn.Flatten(2), nn.Linear(224 * 224, 2)), 4, id="tokens"),
        pytest.param(
            nn.Sequential(nn.Conv2d(3, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 5, id="vector"
        ),
    ],
)
def test_tokens_and_vectors_of_ones_own_are_taken(module, width) -> None:
    backbone = create_backbone(module)
    assert backbone.num_features == width
    assert backbone(torch.zeros(2, 3, 224, 224)).shape == (2, width)


def test_a_network_that_looks_at_values_is_tried_on_a_real_copy() -> None:
    class Looking(_Maps):
        def forward(self, images):
            return super().forward(images) * (1.0 if images.sum().item() > 0 else 2.0)

    assert create_backbone(Looking()).num_features == 12


def test_a_network_with_layers_it_does_not_use_is_refused() -> None:
    class Wasteful(_Maps):
        def __init__(self) -> None:
            super().__init__()
            self.spare = nn.Linear(2, 2)

    with pytest.raises(ValueError, match=r"spare\.weight, spare\.bias of 2 do not"):
        create_backbone(Wasteful())


def test_a_frozen_network_of_ones_own_is_taken_as_it_is() -> None:
    network = _Maps().requires_grad_(False)
    backbone = create_backbone(network)
    assert backbone.num_features == 12
    assert not any(item.requires_grad for item in backbone.parameters())
