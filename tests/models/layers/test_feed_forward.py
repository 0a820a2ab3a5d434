"""The position-wise halves of encoder layers."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.layers.activations import ACTIVATIONS
from models.layers.feed_forward import (
    ENCODER_FEED_FORWARDS,
    SPATIAL_FEED_FORWARDS,
    ConvMapFeedForward,
    LinearMapFeedForward,
    SeparableMapFeedForward,
)

SIZE = (3, 5)
KINDS = ["linear", "conv", "separable"]


def test_activations() -> None:
    x = torch.tensor([-2.0, 0.5])
    assert ACTIVATIONS["relu"]()(x).tolist() == [0, 0.5]
    assert ACTIVATIONS["leaky_relu"]()(x).tolist() == pytest.approx([-0.4, 0.5])
    torch.testing.assert_close(ACTIVATIONS["gelu"]()(x), F.gelu(x))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "gelu"])
def test_definitions(activation: Any) -> None:
    torch.manual_seed(0)
    act = ACTIVATIONS[activation]
    x = torch.randn(2, 15, 8)
    image = x.view(2, *SIZE, 8).permute(0, 3, 1, 2)
    linear = LinearMapFeedForward(8, 12, 0.0, act)
    first, last = linear.layers[0], linear.layers[3]
    torch.testing.assert_close(linear(x, SIZE, None), last(act()(first(x))))

    conv = ConvMapFeedForward(8, 12, 0.0, act)
    expected = conv.project[0](act()(conv.expand[0](image.contiguous())))
    torch.testing.assert_close(conv(x, SIZE, None), expected.permute(0, 2, 3, 1).flatten(1, 2), rtol=1e-4, atol=1e-5)

    separable = SeparableMapFeedForward(8, 12, 0.0, act)
    expand: Any = separable.expand[0]
    project: Any = separable.project[2]
    inside = F.conv2d(image, expand.weight[:, :, None, None], expand.bias)
    inside = separable.depthwise(act()(inside))
    expected = F.conv2d(act()(inside), project.weight[:, :, None, None], project.bias)
    got = separable(x, SIZE, None)
    torch.testing.assert_close(got, expected.permute(0, 2, 3, 1).flatten(1, 2), rtol=1e-4, atol=1e-5)


def test_the_middle_of_the_separable_one_keeps_channels_apart() -> None:
    torch.manual_seed(0)
    depthwise = SeparableMapFeedForward(8, 12, 0.0, nn.ReLU).depthwise
    image = torch.randn(1, 12, *SIZE)
    other = image.clone()
    other[:, 4] += 1
    changed = (depthwise(image) != depthwise(other)).flatten(2).any(2)[0]
    assert changed.nonzero().flatten().tolist() == [4]


@pytest.mark.parametrize("kind", KINDS)
def test_what_sees_its_neighbours(kind: Any) -> None:
    torch.manual_seed(0)
    feed_forward = ENCODER_FEED_FORWARDS[kind](8, 12, 0.0, nn.ReLU)
    x = torch.randn(1, 15, 8)
    other = x.clone()
    other[:, 7] += 1  # the middle of the map
    changed = (feed_forward(x, SIZE, None) != feed_forward(other, SIZE, None)).any(2)[0].sum()
    assert (changed > 1) == (kind in SPATIAL_FEED_FORWARDS)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_not_seen(kind: Any) -> None:
    torch.manual_seed(0)
    feed_forward = ENCODER_FEED_FORWARDS[kind](8, 12, 0.0, nn.ReLU)
    image = torch.randn(1, *SIZE, 8)
    mask = torch.tensor([True, True, True, False, False]).expand(1, 3, 5)
    padded = feed_forward(image.flatten(1, 2), SIZE, mask).view(1, *SIZE, 8)[:, :, :3]
    alone = feed_forward(image[:, :, :3].flatten(1, 2), (3, 3), None).view(1, 3, 3, 8)
    torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_acts_in_training_only(kind: Any) -> None:
    torch.manual_seed(0)
    feed_forward = ENCODER_FEED_FORWARDS[kind](8, 12, 0.5, nn.ReLU).train()
    x = torch.randn(1, 15, 8)
    assert feed_forward(x, SIZE, None).eq(0).any()
    assert not feed_forward.eval()(x, SIZE, None).eq(0).any()


@pytest.mark.parametrize(
    ("kind", "dim", "inside", "parameters"),
    [
        ("linear", 300, 600, 360_900),
        ("linear", 256, 1024, 525_568),
        ("conv", 256, 512, 2_360_064),
        ("conv", 256, 1024, 4_719_872),
        ("conv", 300, 600, 3_240_900),
        ("separable", 256, 512, 268_032),
    ],
)
def test_parameters(kind: Any, dim: int, inside: int, parameters: int) -> None:
    feed_forward = ENCODER_FEED_FORWARDS[kind](dim, inside, 0.1, nn.ReLU)
    assert sum(parameter.numel() for parameter in feed_forward.parameters()) == parameters


def test_parts_of_the_separable_one() -> None:
    feed_forward = SeparableMapFeedForward(256, 512, 0.0, nn.ReLU)
    parts = (feed_forward.expand, feed_forward.depthwise, feed_forward.project)
    counts = [sum(parameter.numel() for parameter in part.parameters()) for part in parts]
    assert counts == [131_584, 5_120, 131_328]
