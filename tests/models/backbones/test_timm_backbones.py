"""Backbones made of timm's networks: maps, strides, cuts, counts, and what is refused."""

import copy
from typing import Any, cast

import pytest
import timm
import torch
from huggingface_hub import constants
from torch import nn

from models.backbones import build_backbone
from models.backbones.base import Backbone
from models.backbones.hub import hub_with_timeout
from models.backbones.resnetv2 import ResNetV2Backbone
from models.backbones.swin import SwinBackbone
from models.backbones.timm_features import TimmFeatures
from models.config import BackboneConfig, ResNetV2Config, SwinConfig, TimmConfig
from models.errors import ModelConfigError

ANY_SIZE = {"dynamic_img_size": True}
ONE_SIZE = {"img_size": [64, 160]}

# name, stride, options, stride that comes out, channels of the map
NETWORKS: list[tuple[str, int | None, dict[str, Any], int, int]] = [
    ("test_resnet", None, {}, 32, 96),
    ("test_resnet", 8, {}, 8, 48),
    ("resnet18", 8, {}, 8, 128),
    ("resnet18", 16, {}, 16, 256),
    ("resnet18", 32, {}, 32, 512),
    ("test_efficientnet", None, {}, 32, 256),  # with the 1x1 convolution after the last stage
    ("test_efficientnet", 32, {}, 32, 64),  # without
    ("test_efficientnet", 16, {}, 16, 48),
    ("test_convnext", None, {}, 32, 64),
    ("convnext_atto", 8, {}, 8, 80),
    ("test_nfnet", 16, {}, 16, 96),
    ("test_mambaout", None, {}, 32, 64),  # its features are (B, h, w, C)
    ("test_vit", None, {}, 16, 64),  # its features are (B, 1 + h * w, C)
    ("test_vit3", 16, ANY_SIZE, 16, 96),
    ("test_vit3", None, ONE_SIZE, 16, 96),
    ("test_coatnet", 8, ONE_SIZE, 8, 64),
    ("swin_tiny_patch4_window7_224", 8, ANY_SIZE, 8, 192),
]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def timm_features(name: str, stride: int | None = None, options: dict[str, Any] | None = None, **more: Any) -> TimmFeatures:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig("timm", timm=TimmConfig(name, False, stride, None, options or {}, **more)), 1, 12)
    assert isinstance(backbone, TimmFeatures)
    return backbone


def check_maps(backbone: Backbone, down: int, right: int) -> None:
    """The size of the map is what `feature_sizes` and `min_size` say, whether the stride divides the image or not."""
    backbone.eval()
    for height, width in ((64, 160), (64, 101), (37, 97), backbone.min_size, (1, 40)):
        with torch.no_grad():
            features = backbone(torch.rand(1, 1, height, width))
        assert features.shape == (1, 12, -(-height // down), -(-width // right))
        assert backbone.feature_sizes(torch.tensor([[height, width], [1, 1]])).tolist() == [list(features.shape[2:]), [1, 1]]


def check_gradients(backbone: Backbone) -> None:
    """Every parameter of the backbone has a part in its features."""
    backbone.train()(torch.rand(2, 1, 64, 160)).square().sum().backward()
    assert [name for name, parameter in backbone.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(("name", "stride", "options", "expected", "channels"), NETWORKS)
def test_networks_of_all_kinds(name: str, stride: int | None, options: dict[str, Any], expected: int, channels: int) -> None:
    backbone = timm_features(name, stride, options)
    assert backbone.training and backbone.net.training
    assert backbone.stride == expected and backbone.min_size == (expected, expected)
    assert cast(nn.BatchNorm2d, backbone.project[0]).num_features == channels
    assert {key.split(".")[0] for key in backbone.state_dict()} == {"net", "project"}
    check_maps(backbone, expected, expected)
    check_gradients(backbone)


def test_features_are_those_of_the_network() -> None:
    images = torch.rand(2, 1, 64, 96)
    for name, stride, options in (("resnet18", 8, {}), ("test_vit", None, {}), ("swin_tiny_patch4_window7_224", 16, ANY_SIZE)):
        backbone = timm_features(name, stride, options).eval()
        whole = timm.create_model(name, in_chans=1, num_classes=0, **options).eval()
        state = whole.state_dict() | backbone.net.state_dict()
        whole.load_state_dict(state)
        index = len(whole.feature_info) - 1
        while stride is not None and whole.feature_info[index]["reduction"] != stride:
            index -= 1
        with torch.no_grad():
            expected = whole.forward_intermediates(images, indices=[index], norm=stride is None, intermediates_only=True)[0]
            torch.testing.assert_close(backbone(images), backbone.project(expected), rtol=1e-4, atol=1e-5)


def test_stages_after_the_cut_are_gone() -> None:
    whole, cut = timm_features("resnet18"), timm_features("resnet18", 8)
    removed = count(whole.net.layer3) + count(whole.net.layer4)
    assert count(cut.net) == count(whole.net) - removed


def test_network_of_one_size_takes_smaller_images_and_refuses_larger() -> None:
    backbone = timm_features("test_vit3", options=ONE_SIZE).eval()
    assert backbone(torch.rand(1, 1, 30, 70)).shape == (1, 12, 2, 5)
    with pytest.raises(ModelConfigError, match=r"model\.backbone\.timm\.options: images of 64x161 .* larger than the 64x160"):
        backbone(torch.rand(1, 1, 64, 161))


def test_parts_that_a_network_computes_for_nothing_are_frozen() -> None:
    backbone = timm_features("hrnet_w18_small", 8)  # all branches of its stages go on to the end
    check_maps(backbone, 8, 8)
    backbone.train()(torch.rand(2, 1, 64, 64)).sum().backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_and_copied(dtype: torch.dtype) -> None:
    images = torch.rand(2, 1, 64, 96)
    for backbone in (timm_features("test_efficientnet", 16), timm_features("test_vit")):
        twin = copy.deepcopy(backbone).eval()
        with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
            found = backbone.eval()(images)
            torch.testing.assert_close(found, twin(images))
        assert found.dtype == dtype and found.isfinite().all()


@pytest.mark.parametrize(
    ("name", "neck", "width", "net", "project"),
    [
        ("resnetrs200", 1024, 256, 91_160_992, 4_096 + 2_097_152 + 2_048 + 262_144),
    ],
)
def test_counts_of_whole_networks(name: str, neck: int | None, width: int, net: int, project: int) -> None:
    with torch.device("meta"):
        backbone = TimmFeatures(TimmConfig(name, neck_channels=neck), 3, width)
    assert (count(backbone.net), count(backbone.project)) == (net, project)
    assert backbone.stride == 32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "resnetrs125"}, r"name: timm has no model 'resnetrs125'; the nearest are .*resnetrs152"),
        ({"name": "resnet18", "stride": 12}, r"stride: 'resnet18' has no stage of stride 12; it has 2, 4, 8, 16, 32$"),
        ({"name": "test_vit", "stride": 8}, r"stride: 'test_vit' has no stage of stride 8; it has 16$"),
        ({"name": "test_vit3"}, r"name: 'test_vit3' does not accept images of 64x64 pixels .* \{dynamic_img_size: true\}"),
        ({"name": "resnet18", "options": {"depht": 3}}, r"options: 'resnet18' rejects one of depht: .*'depht'"),
        ({"name": "resnet18", "options": {"in_chans": 3}}, r"options: in_chans follows from other settings"),
        ({"name": "resnet18", "options": {"act_layer": "nosuch"}}, r"options: timm cannot build 'resnet18': "),
        (
            {"name": "nf_resnet26", "pretrained": True},
            r"pretrained: cannot load the weights of 'nf_resnet26' .* set it to false",
        ),
    ],
)
def test_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelConfigError, match=rf"^model\.backbone\.timm\.{message}"):
        TimmFeatures(TimmConfig(**settings), 1, 12)


def test_silent_hub_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(KeyError), hub_with_timeout():
        assert constants.HF_HUB_OFFLINE
        raise KeyError
    assert not constants.HF_HUB_OFFLINE


def test_resnetv2_counts_and_maps() -> None:
    backbone = ResNetV2Backbone(ResNetV2Config(), 1, 256)
    assert (count(backbone.net), count(backbone.net.stem), count(backbone.net.stages)) == (9_303_744, 3_264, 9_300_480)
    assert count(backbone.project) == 262_400
    for depths, stride in (([1], 4), ([1, 1, 1], 16), ([1, 1, 1, 1], 32)):
        small = ResNetV2Backbone(ResNetV2Config(depths), 1, 12)
        check_maps(small, stride, stride)
        check_gradients(small)


@pytest.mark.parametrize("depths", [[], [2, 0, 7], [1, 1, 1, 1, 1], [-1]])
def test_resnetv2_depths_refused(depths: list[int]) -> None:
    with pytest.raises(ModelConfigError, match=r"model\.backbone\.resnetv2\.depths: .* 1 to 4 stages"):
        build_backbone(BackboneConfig("resnetv2", resnetv2=ResNetV2Config(depths)), 1, 8)


def test_swin_counts() -> None:
    with torch.device("meta"):
        backbone = SwinBackbone(SwinConfig(), 1, 256)
    assert (count(backbone.net.patch_embed), count(backbone.net.layers)) == (3_264, 194_982_612)
    assert [count(layer) for layer in backbone.project] == [393_472, 512]
    assert count(backbone) == 195_379_860
    assert backbone(torch.zeros(1, 1, 112, 448, device="meta")).shape == (1, 256, 4, 14)


def test_swin_maps_and_gradients() -> None:
    torch.manual_seed(0)
    config = BackboneConfig("swin", swin=SwinConfig("swin_tiny_patch4_window7_224.ms_in22k", drop_path_rate=0.0))
    backbone = build_backbone(config, 1, 12)
    check_maps(backbone, 32, 32)
    check_gradients(backbone)
    backbone.eval()
    images = torch.rand(2, 1, 64, 256)
    with torch.no_grad():
        features = backbone(images)
        torch.testing.assert_close(features[1:], backbone(images[1:]), rtol=1e-4, atol=1e-4)
        # Rows and columns keep their places: what is drawn at the far right moves the last column most.
        images[:, :, :, -32:] = 0
        moved = (backbone(images) - features).square().sum((1, 2))
    assert moved.argmax(1).tolist() == [7, 7]


@pytest.mark.parametrize("name", ["swin_large_patch4_windw7_224", "swinv2_tiny_window8_256", "resnet18"])
def test_other_than_swin_refused(name: str) -> None:
    with pytest.raises(ModelConfigError, match=rf"model\.backbone\.swin\.name: timm has no Swin transformer '{name}'"):
        build_backbone(BackboneConfig("swin", swin=SwinConfig(name)), 1, 8)
