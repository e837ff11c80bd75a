"""One model of every timm module, on the meta device: pooled, divided, and trained whole."""

import pytest
import timm
import torch

from lightning_fastrecipes.nn import backbones
from lightning_fastrecipes.nn.backbones import Backbone
from lightning_fastrecipes.nn.summary import summary

# The model with the fewest layers of each module of timm 1.0.31.
MODELS = {
    "beit": "beit_base_patch16_224",
    "byoanet": "botnet26t_256",
    "byobnet": "test_byobnet",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_1024_20_ks9_p14",
    "convnext": "test_convnext3",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_9_240",
    "csatv2": "csatv2",
    "cspnet": "darknet17",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224",
    "densenet": "densenet121",
    "dla": "dla34",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "test_efficientnet_evos",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m2",
    "eva": "vit_tiny_patch16_dinov3_qkvb",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "gemma4_vit": "gemma4_vit_167m",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_a",
    "hgnet": "hgnet_tiny",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128s",
    "lowformer": "lowformer_e1",
    "mambaout": "test_mambaout",
    "maxxvit": "test_coatnet",
    "metaformer": "poolformer_s12",
    "mlp_mixer": "resmlp_12_224",
    "mobilenetv3": "lcnet_035",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevitv2_050",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_parfac_gap",
    "nasnet": "nasnetalarge",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small",
    "nfnet": "nf_resnet26",
    "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_002",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1_1",
    "res2net": "res2net50_48w_2s",
    "resnest": "resnest14d",
    "resnet": "resnet10t",
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window16_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224",
    "tresnet": "tresnet_m",
    "twins": "twins_pcpvt_small",
    "vgg": "vgg11",
    "visformer": "visformer_tiny",
    "vision_transformer": "test_vit",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "vit_srelpos_small_patch16_224",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim",
    "xception": "legacy_xception",
    "xception_aligned": "xception41p",
    "xcit": "xcit_nano_12_p8_224",
}


def _smallest(module: str) -> str:
    """Choose a model for a module that a later timm brings."""
    return MODELS.get(module) or min(timm.list_models(module=module), key=len)


def _without_data(name: str) -> Backbone:
    with torch.device("meta"):
        network = backbones._timm_model(name, pretrained=False)
    return Backbone(network, name=name)


@pytest.mark.parametrize("module", timm.list_modules())
def test_a_model_of_the_module_is_pooled_divided_and_trained_whole(module) -> None:
    backbone = _without_data(_smallest(module))
    spec = backbone.input_spec
    size = spec.image_size if spec.fixed_size else 4 * backbones._stride(backbone.model)

    # The constructor has looked at train mode; batch norm is quicker in eval mode.
    features = backbone.eval()(torch.zeros(2, 3, size, size, device="meta"))
    assert features.shape == (2, backbone.num_features)

    features.sum().backward()
    idle = [name for name, item in backbone.named_parameters() if item.grad is None]
    assert not idle

    groups = backbone.layer_groups(3)
    names = [name for group in groups for name in group.parameters]
    assert sorted(names) == sorted(name for name, _ in backbone.named_parameters())
    assert all(group.parameters for group in groups)


@pytest.mark.parametrize("module", timm.list_modules())
def test_its_summary_has_the_shapes_and_parameters_that_hooks_see(module) -> None:
    backbone = _without_data(_smallest(module)).eval()
    spec = backbone.input_spec
    size = spec.image_size if spec.fixed_size else 4 * backbones._stride(backbone.model)
    seen = []

    def note(part, _inputs, output):
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, torch.Tensor) and not list(part.children()):
            seen.append((part, tuple(first.shape)))

    images = torch.zeros(2, 3, size, size, device="meta")
    handles = [part.register_forward_hook(note) for part in backbone.modules()]
    with torch.no_grad():
        backbone(images)
    for handle in handles:
        handle.remove()

    layers = summary(backbone, images).layers
    names = {part: name for name, part in backbone.named_modules()}
    wanted = [(names[part], shape) for part, shape in seen]
    leaves = {name for name, part in backbone.named_modules() if not list(part.children())}
    found = layers[layers["layer"].isin(leaves) & layers["output"].notna()]
    assert list(zip(found["layer"], found["output"], strict=True)) == wanted
    assert layers["parameters"].sum() == sum(item.numel() for item in backbone.parameters())
    assert (layers["multiply_adds"] >= 0).all()
