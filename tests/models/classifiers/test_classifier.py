"""Classifiers of every head and pooling: gradients, batches, joint classes, counts, sizes."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import (
    Classifier,
    ClassifierBackboneConfig,
    ClassifierConfig,
    HeadSpec,
    LabelHeadConfig,
    LabelSpec,
    ModelConfigError,
    PoolingConfig,
    build_classifier,
)
from models.classifier_config import LabelHeadName, PoolingName
from models.label_heads import LABEL_HEADS
from models.poolings import POOLINGS
from tests.support.claims import claim

LETTERS = LabelSpec((HeadSpec("letters", 26),))
MASKS = LabelSpec((HeadSpec("mask", 3), HeadSpec("type", 2), HeadSpec("age band", 3)), joint=True)
ONE_SIZE = {"img_size": 64}
# A network for each layout of features, and the options with which it takes images of 64x64 pixels.
NETWORKS: dict[str, dict[str, Any]] = {
    "test_efficientnet": {},
    "test_convnext": {},  # has a norm after its pooling
    "test_mambaout": {},  # its map is (B, h, w, C), and a hidden layer follows its pooling
    "test_vit": {},  # its class token is its pooling
    "test_vit3": ONE_SIZE,  # it pools by attention, without a class token
}


def classifier(
    network: str = "test_efficientnet",
    spec: LabelSpec = LETTERS,
    pooling: PoolingName = "average",
    head: LabelHeadName = "linear",
    in_channels: int = 1,
    **backbone: Any,
) -> Classifier:
    torch.manual_seed(0)
    config = ClassifierConfig(
        in_channels=in_channels,
        backbone=ClassifierBackboneConfig(network, **{"options": NETWORKS.get(network, {}), **backbone}),
        pooling=PoolingConfig(pooling, hidden_dim=8),
        head=LabelHeadConfig(head, hidden_dim=16),
    )
    return build_classifier(config, spec)


def images(batch: int = 3, channels: int = 1, side: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, channels, side, side), dtype=torch.uint8, generator=generator)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_on_every_layout(network: str, pooling: PoolingName) -> None:
    model = classifier(network, pooling=pooling, head="linear")
    check(model)
    if pooling == "max":
        with torch.no_grad():
            features = model.eval().backbone(model.normalize(images()))
            assert torch.equal(model.pooling(features)[..., 0, 0], features.amax((2, 3)))


@pytest.mark.parametrize("head", LABEL_HEADS)
@pytest.mark.parametrize("heads", [1, 3])
def test_every_head(head: LabelHeadName, heads: int) -> None:
    spec = MASKS if heads == 3 else LabelSpec(MASKS.heads[:1], joint=head in ("attention", "flat"))
    model = classifier(spec=spec, head=head)
    check(model)
    output = model(images())
    assert {name: logits.shape for name, logits in output.logits.items()} == {h.name: (3, h.num_classes) for h in spec.heads}
    assert model.joint_is_learned == (head in ("attention", "flat"))
    assert (output.attention is not None) == (head == "attention")
    if output.attention is not None:
        assert output.attention.shape == (3, heads)
        torch.testing.assert_close(output.attention.sum(1), torch.ones(3))
    assert (output.joint is not None) == spec.joint
    if output.joint is not None:
        assert output.joint.shape == (3, math.prod(spec.sizes))
        check_joint(head, output.joint, list(output.logits.values()))


def check(model: Classifier) -> None:
    with claim("every parameter gets a finite gradient, not 0 for all of it"):
        output = model.train()(images())
        losses = [*output.logits.values(), *([] if output.joint is None else [output.joint])]
        torch.stack([logits.log_softmax(-1)[:, 0].mean() for logits in losses]).sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, f"{name} takes no part in the forward pass"
            assert parameter.grad.isfinite().all(), name
        assert all(parameter.grad.any() for parameter in model.pooling.parameters())  # type: ignore[union-attr]
    model.eval().double()
    with claim("a batch is its members one by one"), torch.inference_mode():
        together = model(images(), torch.full((3, 2), 64))
        for row, image in enumerate(images().split(1)):
            alone = model(image)
            for name, logits in together.logits.items():
                torch.testing.assert_close(logits[row], alone.logits[name][0], rtol=1e-6, atol=1e-6)
    model.float()


def check_joint(head: str, joint: Tensor, logits: list[Tensor]) -> None:
    """Joint classes are row-major; joint and heads tell of the same probabilities where one follows from the other."""
    table = joint.softmax(-1).unflatten(1, [head.shape[1] for head in logits])
    for axis, own in enumerate(logits, 1):
        if head != "attention":  # whose branches decide for themselves
            others = [other for other in range(1, table.dim()) if other != axis]
            torch.testing.assert_close(table.sum(others) if others else table, own.softmax(-1))
    if head in ("linear", "independent") and len(logits) == 3:
        mask, kind, age = (own.log_softmax(-1) for own in logits)
        torch.testing.assert_close(joint[:, (2 * 2 + 1) * 3 + 0], mask[:, 2] + kind[:, 1] + age[:, 0])


def test_average_is_the_networks_own_path() -> None:
    """With the weights of timm's own network the outputs are its own, whatever norm or token it reads."""
    import timm

    for network, options in NETWORKS.items():
        model = classifier(network).eval()
        own = timm.create_model(network, num_classes=26, in_chans=1, **options).eval()
        assert parameters(own) == parameters(model)
        own.load_state_dict(model.backbone.net.state_dict(), strict=False)
        own.get_classifier().load_state_dict(model.head.maps[0].state_dict())  # type: ignore[index, union-attr]
        with torch.inference_mode():
            torch.testing.assert_close(model(images()).logits["letters"], own((images() / 255 - 0.5) / 0.5))
    assert classifier("test_vit").feature_layer is None


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("tf_efficientnetv2_s", 20_210_362),
        pytest.param("tf_efficientnetv2_m", 52_891_230, marks=pytest.mark.slow),
        ("tf_efficientnetv2_l", 117_267_002),
    ],
)
def test_counts_of_letter_networks(network: str, expected: int) -> None:
    with torch.device("meta"):
        assert parameters(classifier(network)) == expected


def test_count_of_a_network_that_keeps_its_classifier() -> None:
    with torch.device("meta"):
        model = classifier(
            "efficientnet_b3", LabelSpec((HeadSpec("class", 18),)), in_channels=3, keep_classifier=True, drop_rate=0.1
        )
        assert parameters(model) == 12_251_250
        assert model.backbone.out_dim == 1000


def test_pixels_by_channel_and_gray_for_all_channels() -> None:
    backbone = ClassifierBackboneConfig("test_efficientnet")
    config = ClassifierConfig(3, [0.1, 0.2, 0.3], [1.0, 2.0, 4.0], backbone)
    model = build_classifier(config, LETTERS).eval()
    mean, std = torch.tensor(config.pixel_mean)[:, None, None], torch.tensor(config.pixel_std)[:, None, None]
    color = images(channels=3)
    torch.testing.assert_close(model.normalize(color), (color / 255 - mean) / std)
    assert torch.equal(model(images()).logits["letters"], model(images().expand(-1, 3, -1, -1)).logits["letters"])


@pytest.mark.parametrize("network", ["repvgg_a0", "test_resnet", "test_vit"])
def test_fused_copy_predicts_the_same(network: str) -> None:
    """Also where there is nothing to fuse."""
    model = classifier(network)
    with torch.no_grad():
        model.train()(images())  # running statistics that are not 0 and 1
    keys = list(model.state_dict())
    fused = model.fuse()
    with torch.inference_mode():
        expected = model.eval()(images()).logits["letters"]
        torch.testing.assert_close(fused(images()).logits["letters"], expected, rtol=1e-5, atol=1e-5)
    assert list(model.state_dict()) == keys and not fused.training
    assert (parameters(fused) < parameters(model)) == (network == "repvgg_a0")


@pytest.mark.parametrize("network", ["test_efficientnet", "test_vit"])
def test_checkpointing_is_equal_to_the_bit(network: str) -> None:
    """Gradients, outputs and statistics of batch norm, which count the batch once; also with random depth."""
    results = []
    for grad_checkpointing in (False, True):
        model = classifier(network, grad_checkpointing=grad_checkpointing, drop_path_rate=0.3)
        torch.manual_seed(3)
        for _ in range(2):
            output = model.train()(images())
            output.logits["letters"].square().sum().backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        results.append({**gradients, **dict(model.named_buffers()), "logits": output.logits["letters"]})
    plain, recomputed = results
    assert plain.keys() == recomputed.keys()
    for name, tensor in plain.items():
        assert tensor is not None and torch.equal(tensor, recomputed[name]), name


def test_feature_layer_gives_the_last_map() -> None:
    for network, channels, side in (("test_efficientnet", 256, 2), ("test_mambaout", 64, 2)):
        layer = classifier(network)
        shapes: list[torch.Size] = []
        assert layer.feature_layer is not None
        layer.feature_layer.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))  # noqa: B023
        layer(images())
        assert shapes == [(3, channels, side, side)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: classifier("test_efficientnett"), r"classifier\.backbone\.name: .*nearest are test_efficientnet"),
        (lambda: classifier(options={"num_classes": 3}), r"classifier\.backbone\.options: num_classes follows from"),
        (lambda: classifier(options={"drop_rate": 0.1}), r"classifier\.backbone\.options: drop_rate follows from"),
        (lambda: classifier(options={"speed": 3}), r"classifier\.backbone\.options: .*speed"),
        (lambda: classifier(drop_rate=1.5), r"classifier\.backbone\.drop_rate: .*less than 1, not 1\.5"),
        (lambda: classifier("dla34", drop_path_rate=0.1), r"classifier\.backbone\.drop_path_rate: .*has none"),
        (lambda: classifier("dla34", grad_checkpointing=True), r"classifier\.backbone\.grad_checkpointing: .*to false"),
        (lambda: classifier(keep_classifier=True, pooling="max"), r"classifier\.pooling\.name: must be average"),
        (lambda: classifier("efficientvit_b0", pooling="gem"), r"classifier\.pooling\.name: .*set it to average"),
        (lambda: classifier("efficientvim_m1", pooling="gem"), r"classifier\.pooling\.name: .*set it to average"),
        (lambda: classifier(pooling="median"), r"classifier\.pooling\.name: 'median' is not one of attention"),  # type: ignore[arg-type]
        (lambda: classifier(head="tree"), r"classifier\.head\.name: 'tree' is not one of attention"),  # type: ignore[arg-type]
        (lambda: classifier(head="attention"), r"classifier\.head\.name: .*set it to linear or independent"),
        (lambda: classifier(head="flat"), r"classifier\.head\.name: .*set it to linear or independent"),
        (lambda: classifier(spec=LabelSpec(())), r"label_spec\.heads: must be one or more"),
        (lambda: classifier(spec=LabelSpec((HeadSpec("a", 0),))), r"label_spec\.a\.num_classes: .*1 or more"),
        (lambda: classifier(spec=LabelSpec((HeadSpec("a", 2),) * 2)), r"label_spec\.heads: several heads are named 'a'"),
        (lambda: build_classifier(ClassifierConfig(1, [0.1, 0.2]), LETTERS), r"classifier\.pixel_mean: 2 values for .* = 1;"),
        (lambda: build_classifier(ClassifierConfig(pixel_std=[0.0]), LETTERS), r"classifier\.pixel_std: must not be 0"),
        (lambda: classifier()(images(channels=3)), r"classifier\.in_channels: 1, but the images have 3 channels"),
    ],
)
def test_bad_setting(make: Any, message: str) -> None:
    with torch.device("meta"), pytest.raises(ModelConfigError, match=message):
        make()


def test_sizes_that_a_network_does_not_take() -> None:
    """The same error with weights and, as before a run, without; and no other failure is taken for it."""
    for device in ("cpu", "meta"):
        with torch.device(device):
            model = classifier("test_vit3", options={"img_size": [64, 96]}).eval()
            batch = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
            assert model(torch.zeros(1, 1, 64, 96, dtype=torch.uint8), torch.zeros(1, 2, dtype=torch.int64)).logits
            with pytest.raises(ModelConfigError, match=r"backbone\.name: 'test_vit3' .* 64x64 pixels.*img_size: \[64, 64\]"):
                model(batch)
    small = classifier("test_resnet")
    assert small.eval()(images(side=1)).logits
    with pytest.raises(ModelConfigError, match=r"'test_resnet' does not accept images of 1x1 pixels.*more than 1 value"):
        small.train()(images(1, side=1))
    broken = classifier()
    broken.backbone.net.conv_stem.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        broken(images())


def fail(module: nn.Module, inputs: Any, output: Tensor) -> None:
    if not output.is_meta:
        raise torch.OutOfMemoryError("out of memory")
