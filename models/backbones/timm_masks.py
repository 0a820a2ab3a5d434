"""Masking of padding in timm networks: 0 before every convolution and pool, excluded from means.

Hooks on the modules of a network do it. In evaluation an image then has the same features in a padded batch as alone; this is
known for families of networks whose every module is listed here, and any other network is left unchanged.

Legend: B batch, C channels, h w height and width of a map.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.padding_masks import PaddingMasks, Size

# Networks built only from the modules listed below, without other operations on maps between them.
FAMILIES = {
    "timm.models.convnext.ConvNeXt",
    "timm.models.efficientnet.EfficientNet",
    "timm.models.mobilenetv3.MobileNetV3",
    "timm.models.regnet.RegNet",
    "timm.models.resnet.ResNet",
}
# Containers and blocks of these families.
STRUCTURE = {
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.container.ModuleList",
    "timm.layers.conv_bn_act.ConvNormAct",
    "timm.layers.mixed_conv2d.MixedConv2d",
    "timm.layers.mlp.GlobalResponseNormMlp",
    "timm.layers.mlp.Mlp",
    "timm.models._efficientnet_blocks.ConvBnAct",
    "timm.models._efficientnet_blocks.DepthwiseSeparableConv",
    "timm.models._efficientnet_blocks.EdgeResidual",
    "timm.models._efficientnet_blocks.InvertedResidual",
    "timm.models._efficientnet_blocks.UniversalInvertedResidual",
    "timm.models.convnext.ConvNeXtBlock",
    "timm.models.convnext.ConvNeXtStage",
    "timm.models.convnext.Downsample",
    "timm.models.regnet.Bottleneck",
    "timm.models.regnet.RegStage",
    "timm.models.resnet.BasicBlock",
    "timm.models.resnet.Bottleneck",
}
# Pointwise modules: norms over channels or with running statistics, linear maps of channels, dropout, activations.
POINTWISE = {
    "timm.layers.drop.DropBlock2d",
    "timm.layers.drop.DropPath",
    "timm.layers.layer_scale.LayerScale",
    "timm.layers.layer_scale.LayerScale2d",
    "timm.layers.norm.LayerNorm",
    "timm.layers.norm.LayerNorm2d",
    "timm.layers.norm_act.BatchNormAct2d",
    "timm.layers.norm_act.LayerNormAct2d",
    "torch.nn.modules.batchnorm.BatchNorm2d",
    "torch.nn.modules.dropout.Dropout",
    "torch.nn.modules.linear.Identity",
    "torch.nn.modules.linear.Linear",
    "torch.nn.modules.normalization.LayerNorm",
}
ACTIVATIONS = {"ReLU", "ReLU6", "LeakyReLU", "SiLU", "Swish", "GELU", "GELUTanh", "Sigmoid", "Hardswish", "Hardsigmoid", "Mish"}
ACTIVATION_MODULES = {"torch.nn.modules.activation", "timm.layers.activations", "timm.layers.activations_me"}
# After the map, or left from a classifier: never called for features.
HEADS = {"head", "global_pool", "classifier", "fc"}


@dataclass(frozen=True)
class _MaskInput:
    """Pre-hook of a convolution or pool: sets padding to `fill`, registers output sizes. `same`: TensorFlow's padding."""

    masks: PaddingMasks
    kernel: Size
    stride: Size
    padding: Size
    dilation: Size
    ceil_mode: bool = False
    same: bool = False
    fill: float = 0.0

    def __call__(self, module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
        if not self.masks.active:
            return None
        (x,) = args
        before = (x.shape[-2], x.shape[-1])
        self.masks.register(before, self._after(before), self._sizes_after(self.masks.sizes(before)))
        if not self.crosses_border:
            return None
        mask = self.masks.mask(before, x.dtype)
        return (x * mask,) if self.fill == 0.0 else (x.masked_fill(mask == 0, self.fill),)

    @property
    def crosses_border(self) -> bool:
        """Whether a window can cover both image and padding; without implicit padding, incomplete windows are dropped."""
        return self.same or self.ceil_mode or any(self.padding)

    def _after(self, size: Size) -> Size:
        return self._side(size[0], 0), self._side(size[1], 1)

    def _sizes_after(self, sizes: Tensor) -> Tensor:
        rows, columns = sizes.unbind(1)
        return torch.stack([self._side(rows, 0), self._side(columns, 1)], 1)

    def _side(self, side: Any, axis: int) -> Any:
        """Number of windows along a side of `side` pixels, an int or a tensor."""
        stride = self.stride[axis]
        if self.same:
            return -(-side // stride)
        span = side + 2 * self.padding[axis] - self.dilation[axis] * (self.kernel[axis] - 1) - 1
        return (-(-span // stride) if self.ceil_mode else span // stride) + 1


@dataclass(frozen=True)
class _MaskedMean:
    """Hook of a mean-pool: averages over the image part of windows at the border of an image."""

    masks: PaddingMasks

    def __call__(self, module: nn.AvgPool2d, args: tuple[Tensor], result: Tensor) -> Tensor | None:
        if not self.masks.active:
            return None
        mask = self.masks.of(args[0])
        assert mask is not None
        share = F.avg_pool2d(
            mask, module.kernel_size, module.stride, module.padding, module.ceil_mode, module.count_include_pad
        )
        return result / share.clamp(min=torch.finfo(share.dtype).eps)


@dataclass(frozen=True)
class _ZeroOutput:
    """Hook of a max-pool that was given minus infinity in the padding: resets padding to 0."""

    masks: PaddingMasks

    def __call__(self, module: nn.Module, args: tuple[Tensor], result: Tensor) -> Tensor | None:
        mask = self.masks.of(result)
        return None if mask is None else result.masked_fill(mask == 0, 0.0)


@dataclass(frozen=True)
class _ZeroInput:
    """Pre-hook of a norm over whole maps (B, h, w, C) or (B, C, h, w): sets padding to 0, which adds nothing to the norm."""

    masks: PaddingMasks
    height_at: int

    def __call__(self, module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
        if not self.masks.active:
            return None
        (x,) = args
        mask = self.masks.mask((x.shape[self.height_at], x.shape[self.height_at + 1]), x.dtype)
        return (x * (mask if self.height_at == 2 else mask.permute(0, 2, 3, 1)),)


@dataclass(frozen=True)
class _ScaleForMean:
    """Pre-hook of a gate over means: sets padding to 0 and scales the rest, so that the mean over all is that of the image."""

    masks: PaddingMasks

    def __call__(self, module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
        mask = self.masks.of(args[0])
        return None if mask is None else (args[0] * (mask / mask.float().mean((2, 3), keepdim=True)).to(args[0].dtype),)


@dataclass(frozen=True)
class _UndoScale:
    """Hook of such a gate: undoes the scaling."""

    masks: PaddingMasks

    def __call__(self, module: nn.Module, args: tuple[Tensor], result: Tensor) -> Tensor | None:
        mask = self.masks.of(result)
        return None if mask is None else result * mask.float().mean((2, 3), keepdim=True).to(result.dtype)


def add_padding_hooks(net: nn.Module, masks: PaddingMasks) -> bool:
    """Adds hooks to a timm network that mask padding by `masks`; False, and no hooks, for unsupported networks.

    Unsupported are other families, norms over whole maps, attention over positions and blurred pools.
    """
    if _name(net) not in FAMILIES:
        return False
    hooks: list[tuple[nn.Module, Any, Any]] = []
    for module in _map_modules(net):
        if _name(module) in STRUCTURE | POINTWISE or _is_activation(module):
            continue
        found = _hooks(module, masks)
        if found is None:
            return False
        hooks.append((module, *found))
    for module, before, after in hooks:
        if before is not None:
            module.register_forward_pre_hook(before)
        if after is not None:
            module.register_forward_hook(after)
        if _is_lean_gate(module):
            setattr(module, "masks", masks)  # noqa: B010  # mypy: nn.Module has no such attribute
    return True


def _map_modules(module: nn.Module) -> Iterator[nn.Module]:
    """Modules below `module` whose inputs are maps; those inside a gate have means as inputs."""
    for name, child in module.named_children():
        if name not in HEADS:
            yield child
            if not (_is_lean_gate(child) or _is_gate(child)):
                yield from _map_modules(child)


def _is_activation(module: nn.Module) -> bool:
    return type(module).__name__ in ACTIVATIONS and type(module).__module__ in ACTIVATION_MODULES


def needs_whole_strides(net: nn.Module) -> bool:
    """Whether the padding of a convolution depends on the map size where a stride does not divide it."""
    from timm.layers import Conv2dSame

    return any(isinstance(module, Conv2dSame) for module in net.modules())


def _hooks(module: nn.Module, masks: PaddingMasks) -> tuple[Any, Any] | None:
    """Pre-hook and hook of a module, None for each that it does not need; None if the module is unsupported."""
    from timm.layers import Conv2dSame
    from timm.layers.grn import GlobalResponseNorm

    if _is_lean_gate(module):
        return None, None
    if _is_gate(module):
        return _ScaleForMean(masks), _UndoScale(masks)
    if type(module) is GlobalResponseNorm:
        return _ZeroInput(masks, height_at=1 if module.channel_dim == -1 else 2), None
    if type(module) in (nn.Conv2d, Conv2dSame):
        assert isinstance(module, nn.Conv2d)
        if isinstance(module.padding, str) or module.padding_mode != "zeros":
            return None
        same = type(module) is Conv2dSame
        if same and max(_pair(module.stride)) > 2:
            return None
        return _windows(masks, module, same=same), None
    if type(module) is nn.MaxPool2d:
        return _windows(masks, module, ceil_mode=module.ceil_mode, fill=float("-inf")), _ZeroOutput(masks)
    if type(module) is nn.AvgPool2d:
        padding = _pair(module.padding)
        if module.divisor_override is not None or (any(padding) and module.ceil_mode and module.count_include_pad):
            return None
        windows = _windows(masks, module, ceil_mode=module.ceil_mode)
        masked_mean = windows.crosses_border and not (any(padding) and module.count_include_pad)
        return windows, _MaskedMean(masks) if masked_mean else None
    return None


def _windows(masks: PaddingMasks, module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d, **more: Any) -> _MaskInput:
    dilation = _pair(getattr(module, "dilation", 1))
    return _MaskInput(masks, _pair(module.kernel_size), _pair(module.stride), _pair(module.padding), dilation, **more)


def _is_lean_gate(module: nn.Module) -> bool:
    """Whether a module gates a map by its mean and applies masks itself."""
    from models.backbones.squeeze_excite import LeanSEModule, LeanSqueezeExcite

    return isinstance(module, LeanSEModule | LeanSqueezeExcite)


def _is_gate(module: nn.Module) -> bool:
    """Whether a module gates a map by its mean over all positions."""
    from timm.layers import EcaModule, EffectiveSEModule

    return type(module) is EcaModule or (type(module) is EffectiveSEModule and not module.add_maxpool)


def _name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__name__}"


def _pair(side: Any) -> Size:
    return (side, side) if isinstance(side, int) else (side[0], side[1])
