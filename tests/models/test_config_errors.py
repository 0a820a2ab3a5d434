"""What cannot be served is refused with the name of the setting."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from models import BackboneConfig, CtcConfig, ModelConfig, ModelConfigError, TimmConfig, build_model
from models.config import RectifierConfig
from tests.support.configurations import SPEC, random_images, random_targets, tiny_model, tiny_small


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_heads", 3, r"model\.{part}\.embed_dim: 16 is not divisible by model\.{part}\.num_heads = 3"),
        ("num_heads", 0, r"model\.{part}\.embed_dim: .* model\.{part}\.num_heads = 0"),
        ("name", "lstm", r"model\.{part}\.name: 'lstm' is not one of \w+"),
        ("norm", "middle", r"model\.{part}\.norm: 'middle' is not one of post, pre, rezero"),
        ("init", "orthogonal", r"model\.{part}\.init: 'orthogonal' is not one of default, kaiming, normal, xavier"),
        ("attention_scale", "none", r"model\.{part}\.attention_scale: 'none' is not one of head, width"),
    ],
)
def test_bad_setting_of_a_part(part: str, field: str, value: object, message: str) -> None:
    config = tiny_small()
    config = replace(config, **{part: replace(getattr(config, part), **{field: value})})
    with pytest.raises(ModelConfigError, match=message.replace("{part}", part)):
        build_model(config, SPEC)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda c: replace(c, encoder=replace(c.encoder, attention="sparse")), "model.encoder.attention"),
        (lambda c: replace(c, encoder=replace(c.encoder, feed_forward="gated")), "model.encoder.feed_forward"),
        (lambda c: replace(c, encoder=replace(c.encoder, position="spiral")), "model.encoder.position"),
        (lambda c: replace(c, encoder=replace(c.encoder, embed_dim=15, num_heads=3)), "model.encoder.embed_dim"),
        (lambda c: replace(c, decoder=replace(c.decoder, cross_query="both")), "model.decoder.cross_query"),
        (lambda c: replace(c, backbone=BackboneConfig(name="vgg")), "model.backbone.name"),  # type: ignore[arg-type]
        (lambda c: replace(c, pixel_std=0.0), "model.pixel_std"),
        (lambda c: replace(c, decoder=replace(c.decoder, name="none")), "model.decoder.name"),
        (
            lambda c: replace(c, decoder=replace(c.decoder, name="none", direction="both"), ctc=CtcConfig("linear")),
            "model.decoder.direction",
        ),
        (lambda c: replace(c, decoder=replace(c.decoder, refinement="coverage", depth=1)), "model.decoder.depth"),
        (lambda c: replace(c, decoder=replace(c.decoder, position="learned", max_positions=4)), "model.decoder.max_positions"),
        (lambda c: replace(c, encoder=replace(c.encoder, class_token=True, feed_forward="conv")), "model.encoder.class_token"),
        (lambda c: replace(c, ctc=CtcConfig("convolution")), "model.ctc.head"),  # type: ignore[arg-type]
        (lambda c: replace(c, repulsion="bodies"), "model.repulsion"),
        (lambda c: replace(c, rectifier=RectifierConfig("spline")), "model.rectifier.name"),  # type: ignore[arg-type]
        (lambda c: replace(c, rectifier=RectifierConfig("tps", control_points=3)), "model.rectifier.control_points"),
        (lambda c: replace(c, backbone=BackboneConfig("aster_cnn")), "model.encoder.embed_dim"),
    ],
)
def test_error_names_the_key(change: Callable[[ModelConfig], ModelConfig], key: str) -> None:
    with pytest.raises(ModelConfigError) as caught:
        build_model(change(tiny_small()), SPEC)
    assert caught.value.key == key
    assert str(caught.value).startswith(f"{key}: ")


def timm_backbone(**settings: object) -> ModelConfig:
    """The small structure on a timm network."""
    return replace(tiny_small(), backbone=BackboneConfig(name="timm", timm=TimmConfig(**settings)))  # type: ignore[arg-type]


def test_unknown_timm_name_offers_the_nearest() -> None:
    with pytest.raises(ModelConfigError, match=r"model\.backbone\.timm\.name: .*'resnetrs125'.*nearest are .*resnetrs152"):
        build_model(timm_backbone(name="resnetrs125"), SPEC)
    with pytest.raises(ModelConfigError, match=r"model\.backbone\.timm\.name: timm has no model 'QQQQ'$"):
        build_model(timm_backbone(name="QQQQ"), SPEC)


@pytest.mark.parametrize("name", ["test_vit_relpos", "swin_tiny_patch4_window7_224"])
def test_timm_network_without_a_feature_map_is_refused(name: str) -> None:
    with pytest.raises(ModelConfigError, match=rf"model\.backbone\.timm\.name: '{name}' "):
        build_model(timm_backbone(name=name), SPEC)


@pytest.mark.parametrize(("name", "stride"), [("test_resnet", 32), ("test_efficientnet", 32), ("resnet18", 32)])
def test_stride_of_timm_networks(name: str, stride: int) -> None:
    model = build_model(timm_backbone(name=name), SPEC).eval()
    assert model.backbone.stride == stride
    assert model.encode(random_images(model, 1, width=96)).size == (64 // stride, 96 // stride)


def test_network_that_has_no_pretrained_weights() -> None:
    with pytest.raises(
        ModelConfigError, match=r"model\.backbone\.timm\.pretrained: cannot load the weights of 'nf_resnet26' .*false"
    ):
        build_model(timm_backbone(name="nf_resnet26", pretrained=True), SPEC)


def test_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("timm.models._builder.load_pretrained", refuse)
    with pytest.raises(ModelConfigError, match=r"model\.backbone\.timm\.pretrained: .*no route to host.*set it to false"):
        build_model(timm_backbone(name="test_resnet", pretrained=True), SPEC)


def test_an_image_smaller_than_the_stride_is_read() -> None:
    model = tiny_model("final")
    for height, width in ((64, 16), (1, 70), (1, 1)):
        image = random_images(model, 1, width=width)[:, :, :height]
        assert model.generate(image).token_ids.shape[0] == 1
        assert model.encode(image).size == (-(-height // 32), -(-width // 32))


def test_images_of_another_kind() -> None:
    model = tiny_model("small")
    with pytest.raises(ModelConfigError, match=r"model\.in_channels: 1, but the images have 3 channels"):
        model(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), random_targets(1, 3))
    with pytest.raises(TypeError, match="uint8"):
        model(torch.zeros(1, 1, 64, 64), random_targets(1, 3))


def test_target_longer_than_max_length() -> None:
    model = tiny_model("small")
    images = random_images(model, 1)
    assert model(images, random_targets(1, SPEC.max_length)).logits.shape[1] == SPEC.max_length
    with pytest.raises(ModelConfigError, match=r"output_spec\.max_length: a target of 13 tokens is longer .* 12"):
        model(images, random_targets(1, SPEC.max_length + 1))
