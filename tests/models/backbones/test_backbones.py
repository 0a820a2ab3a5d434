"""The convolutional backbones: their counts to the digit, their sizes, and padding that changes nothing."""

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from models.backbones import Backbone
from models.backbones.aster_cnn import AsterCnn
from models.backbones.convnet6 import ConvNet6
from models.backbones.densenet import DenseNetBackbone
from models.config import AsterCnnConfig, ConvNet6Config, ConvNorm, DenseNetConfig
from models.errors import ModelConfigError
from tests.support.claims import claim

Make = Callable[[], Backbone]


def convnet(out_channels: int = 8, **settings: Any) -> Make:
    return lambda: ConvNet6(ConvNet6Config(**settings), 1, out_channels)


def densenet(**settings: Any) -> Make:
    tiny = {"stem_channels": 6, "depth": 2, "growth": 5, "bottleneck": 7, **settings}
    return lambda: DenseNetBackbone(DenseNetConfig(**tiny), 1, 8)


def aster(activation: Literal["relu", "leaky_relu"] = "relu") -> Make:
    return lambda: AsterCnn(AsterCnnConfig(activation), 1, 512)


# Name to constructor and the height of the images.
CASES: dict[str, tuple[Make, int]] = {
    "densenet": (densenet(), 32),
    "densenet of one block": (densenet(blocks=1), 16),
    "densenet of three blocks": (densenet(blocks=3), 40),
    "aster": (aster(), 32),
    "aster, leaky": (aster("leaky_relu"), 32),
    "convnet6": (convnet(), 64),
    "convnet6 of 96 rows": (convnet(), 96),
    "convnet6, batch": (convnet(norm="batch"), 64),
    "convnet6, layer": (convnet(norm="layer"), 64),
    "convnet6, 4 rows": (convnet(pooling="height_4"), 64),
    "convnet6, 8 rows": (convnet(pooling="height_8"), 64),
    "convnet6, 8 rows of 128": (convnet(pooling="height_8_of_128"), 128),
    "convnet6, gates": (convnet(gates=2), 64),
    "convnet6, gates, 4 rows, batch": (convnet(gates=1, pooling="height_4", norm="batch"), 64),
    "convnet6, gates, layer": (convnet(gates=2, norm="layer"), 64),
    "convnet6, separable": (convnet(convolution="separable", multiplier=2, gates=1), 64),
}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def stored(module: nn.Module) -> int:
    return sum(value.numel() for value in module.state_dict().values())


def images(batch: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 1, height, width, generator=generator)


def settled(backbone: Backbone, height: int) -> Backbone:
    """The backbone in evaluation mode, with batch statistics that have left their initial values."""
    with torch.no_grad():
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = 0.5
                module.bias.normal_(std=0.3)
        for seed in range(2):
            backbone.train()(images(2, height, max(96, backbone.min_size[1]), seed))
    return backbone.eval()


def test_densenet_counts() -> None:
    backbone = DenseNetBackbone(DenseNetConfig(), 1, 300)
    stem = [count(layer) for layer in backbone.stem]
    blocks, transitions = ([count(part) for part in parts] for parts in (backbone.blocks, backbone.transitions))
    assert stem == [2_352, 96, 0]
    assert (blocks, transitions) == ([521_088, 720_000], [94_176, 1_200 + 180_000])
    assert count(backbone) == 1_518_912


def test_aster_counts() -> None:
    backbone = AsterCnn(AsterCnnConfig(), 1, 512)
    parts = [640, 73_856, 295_168 + 512, 590_080, 1_180_160 + 1_024, 2_359_808]
    assert [count(stage) for stage in backbone.stages] == parts
    assert count(backbone.last) == 1_049_088 + 1_024
    assert count(backbone) == 5_551_360


@pytest.mark.parametrize(
    ("settings", "out_channels", "total"),
    [
        ({"norm": "instance"}, 256, 634_496),
        ({"norm": "batch"}, 256, 634_496 + 3_462),
        ({"norm": "layer"}, 256, 634_496 + 1_728),
        *(({"gates": gates}, 256, 634_496 + gates * 134_144) for gates in (1, 2, 3)),
        *(({"convolution": "separable", "multiplier": k}, 256, 130_394 + (k - 1) * 129_530) for k in (1, 2, 3, 4)),
        # The published rows hold a gate and a decoder of 749,714, too.
        *(
            ({"convolution": "separable", "multiplier": k, "gates": 1}, 256, 884_722 + 129_530 * k - 749_714)
            for k in (1, 2, 3, 4)
        ),
        ({}, 384, 634_496 - 65_792 + 98_688),
        ({"gates": 1}, 384, 634_496 - 65_792 + 98_688 + 299_520),
        *(({"pooling": pooling}, 256, 634_496) for pooling in ("height_4", "height_8", "height_8_of_128")),
    ],
)
def test_convnet6_counts(settings: dict[str, Any], out_channels: int, total: int) -> None:
    assert stored(convnet(out_channels, **settings)()) == total


def test_convnet6_counts_of_layers() -> None:
    backbone = ConvNet6(ConvNet6Config(gates=1), 1, 256)
    assert [count(stage) for stage in backbone.stages] == [832, 51_264, 73_856, 147_584, 295_168, 65_792]
    assert [count(part) for part in backbone.gates[0].conv] == [2_560, 131_584]  # type: ignore[union-attr]
    normed = ConvNet6(ConvNet6Config(norm="batch"), 1, 256)
    assert [stored(stage.norm) for stage in normed.stages] == [129, 257, 513, 513, 1_025, 1_025]  # type: ignore[arg-type]
    for k in (1, 2):
        separable = ConvNet6(ConvNet6Config(convolution="separable", multiplier=k), 1, 256)
        expected = [(90, 58), (2_944, 2_880), (8_960, 8_832), (17_792, 17_664), (34_304, 34_048), (66_304, 66_048)]
        assert [count(stage) for stage in separable.stages] == [first + (k - 1) * more for first, more in expected]


@pytest.mark.parametrize(
    ("make", "size", "shape"),
    [
        (lambda: DenseNetBackbone(DenseNetConfig(depth=1), 1, 300), (128, 128), (300, 16, 16)),
        (lambda: DenseNetBackbone(DenseNetConfig(depth=1), 1, 300), (128, 512), (300, 16, 64)),
        (aster(), (128, 128), (512, 7, 33)),
        (aster(), (128, 512), (512, 7, 129)),
        (convnet(), (64, 512), (8, 1, 128)),
        (convnet(), (96, 128), (8, 1, 32)),
        (convnet(pooling="height_4"), (64, 256), (8, 4, 64)),
        (convnet(pooling="height_8"), (64, 256), (8, 8, 64)),
        (convnet(pooling="height_8_of_128"), (128, 256), (8, 8, 32)),
        (convnet(pooling="height_4"), (96, 128), (8, 6, 32)),
        (convnet(gates=1), (64, 256), (8, 1, 56)),
        (convnet(gates=3), (64, 256), (8, 1, 40)),
    ],
)
def test_shapes(make: Make, size: tuple[int, int], shape: tuple[int, ...]) -> None:
    with torch.inference_mode():
        features = make().eval()(images(1, *size))
    assert features.shape == (1, *shape)


@pytest.mark.parametrize("case", CASES)
def test_case(case: str) -> None:
    make, height = CASES[case]
    torch.manual_seed(0)
    backbone = make()
    width = backbone.min_size[1] + 24
    for sizes in (None, torch.tensor([(height, width), (height - 5, width - 15)])):
        padded = "without" if sizes is None else "with"
        with claim(f"every parameter gets a gradient {padded} padding"):
            check_gradients(backbone.train(), images(2, height, width), sizes)
        with claim(f"half precision is finite {padded} padding"):
            check_autocast(backbone.train(), images(2, height, width), sizes)
    backbone = settled(backbone, height)
    with claim("feature_sizes are those of an image alone"):
        check_feature_sizes(backbone)
    with claim("the smallest image is that of min_size"):
        check_smallest_image(backbone)
    with claim("a padded batch equals its members alone"):
        check_members(backbone)
    with claim("full sizes equal none"), torch.inference_mode():
        batch = images(2, height, width)
        torch.testing.assert_close(backbone(batch, torch.tensor([[height, width]] * 2)), backbone(batch), rtol=1e-3, atol=1e-3)


def check_gradients(backbone: Backbone, batch: Tensor, sizes: Tensor | None) -> None:
    backbone.zero_grad()
    features = backbone(batch, sizes)
    (features * torch.randn_like(features)).sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # A bias in front of a norm that subtracts the mean has a gradient of 0.
        assert parameter.dim() == 1 or parameter.grad.count_nonzero() > 0, name


def check_autocast(backbone: Backbone, batch: Tensor, sizes: Tensor | None) -> None:
    backbone.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        features = backbone(batch, sizes)
    features.float().square().mean().backward()
    assert features.isfinite().all()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in backbone.parameters())


def check_feature_sizes(backbone: Backbone) -> None:
    low, narrow = backbone.min_size
    heights = [*range(low, low + 9), low + 31, *range(1, low, 5)]
    widths = [*range(narrow, narrow + 9), narrow + 31, *range(1, narrow, 5)]
    for index in range(max(len(heights), len(widths))):
        height, width = heights[index % len(heights)], widths[index % len(widths)]
        with torch.inference_mode():
            features = backbone(images(1, height, width))
        assert features.shape[:2] == (1, backbone.out_channels)
        assert list(features.shape[2:]) == backbone.feature_sizes(torch.tensor([[height, width]]))[0].tolist(), (height, width)


def check_smallest_image(backbone: Backbone) -> None:
    height, width = backbone.min_size
    with torch.inference_mode():
        assert backbone(images(2, height, width)).isfinite().all()
        for smaller in [(height - 1, width), (height, width - 1)]:
            with pytest.raises(RuntimeError):
                backbone.features(images(1, *smaller), None)


def check_members(backbone: Backbone) -> None:
    """Whatever the padding is filled with."""
    low, narrow = backbone.min_size
    sizes = [(low + 37, narrow), (low, narrow + 37), (low + 1, narrow + 1), (low + 18, narrow + 23), (1, 1), (2, narrow + 9)]
    batch = images(len(sizes), low + 40, narrow + 40)
    for row, (height, width) in enumerate(sizes):
        batch[row, :, height:] = batch[row, :, :, width:] = ((0, 127, 255)[row % 3] / 255 - 1) / -0.3
    with torch.inference_mode():
        together, cells = backbone(batch, torch.tensor(sizes)), backbone.feature_sizes(torch.tensor(sizes)).tolist()
        for row, (height, width) in enumerate(sizes):
            alone = backbone(batch[row : row + 1, :, :height, :width])[0]
            rows, columns = cells[row]
            assert alone.shape[1:] == (rows, columns)
            torch.testing.assert_close(together[row, :, :rows, :columns], alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("norm", ["batch", "instance", "layer"])
def test_blank_images_are_no_nan(norm: ConvNorm) -> None:
    backbone = convnet(norm=norm, gates=1)().train()
    features = backbone(torch.zeros(2, 1, 64, 64), torch.tensor([[64, 64], [33, 40]]))
    features.sum().backward()
    assert features.isfinite().all()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in backbone.parameters())


def test_a_size_too_small_for_the_gates_is_no_nan_in_a_batch() -> None:
    with torch.inference_mode():
        assert convnet(gates=1)().eval()(images(2, 64, 64), torch.tensor([[64, 64], [3, 5]])).isfinite().all()


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (convnet(gates=-1), "model.backbone.convnet6.gates"),
        (convnet(multiplier=0), "model.backbone.convnet6.multiplier"),
        (convnet(norm="group"), "model.backbone.convnet6.norm"),
        (convnet(convolution="dilated"), "model.backbone.convnet6.convolution"),
        (convnet(pooling="height_2"), "model.backbone.convnet6.pooling"),
        (convnet(drop_rate=1.5), "model.backbone.convnet6.drop_rate"),
        (convnet(gate_drop_rate=-0.1), "model.backbone.convnet6.gate_drop_rate"),
        (lambda: AsterCnn(AsterCnnConfig(), 1, 256), "model.encoder.embed_dim"),
        (lambda: AsterCnn(AsterCnnConfig("tanh"), 1, 512), "model.backbone.aster_cnn.activation"),  # type: ignore[arg-type]
        (densenet(blocks=0), "model.backbone.densenet.blocks"),
        (densenet(growth=0), "model.backbone.densenet.growth"),
        (densenet(drop_rate=1.0), "model.backbone.densenet.drop_rate"),
    ],
)
def test_settings_that_cannot_be_served(make: Make, key: str) -> None:
    with pytest.raises(ModelConfigError) as caught:
        make()
    assert caught.value.key == key
