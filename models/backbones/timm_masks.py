"""Padding that networks of timm do not see: held at 0 wherever a network of theirs looks at neighbours, left out of means.

A network is served by hooks at its own modules. That an image in a padded batch then has, in evaluation, the features that
it has alone is known for families of networks whose every module is listed here; any other is left as it is.

Legend: B batch, C channels, h w height and width of a map.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.padding import area_mask

Size = tuple[int, int]

# Networks that are made of what is listed below, and do nothing else with a map between those modules.
FAMILIES = {
    "timm.models.convnext.ConvNeXt",
    "timm.models.efficientnet.EfficientNet",
    "timm.models.mobilenetv3.MobileNetV3",
    "timm.models.regnet.RegNet",
    "timm.models.resnet.ResNet",
}
# What a family puts its modules together with.
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
# One position at a time: norms over channels or with running statistics, maps of channels, dropout, activations.
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
# Behind the map, or left over from a classifier: never called for features.
HEADS = {"head", "global_pool", "classifier", "fc"}


class PaddingMasks:
    """What of each map is image, in the current pass of a network.

    Maps are known by their height and width: those of the images from the beginning, others once a module has made them.
    """

    def __init__(self) -> None:
        # Lists, and `len`: what is compiled compares symbolic sizes; as keys they would become constants.
        self._sizes: list[tuple[Size, Tensor]] = []
        self._masks: list[tuple[Size, torch.dtype, Tensor]] = []

    def begin(self, images: Tensor, sizes: Tensor | None) -> None:
        """A pass over images (B, C, h, w) of true `sizes` (B, 2), or of images without padding."""
        # Until the next pass: recomputed activations ask again in the backward pass.
        self._masks = []
        self._sizes = [] if sizes is None else [((images.shape[-2], images.shape[-1]), sizes)]

    @property
    def active(self) -> bool:
        """Whether there is padding to be hidden."""
        return len(self._sizes) > 0

    def shrunk(self, before: Size, after: Size, sizes: Tensor) -> None:
        """Maps of `before` have become maps of `after`, of true `sizes` (B, 2)."""
        if before != after and all(known != after for known, _ in self._sizes):
            self._sizes.append((after, sizes))

    def sizes(self, size: Size) -> Tensor:
        """The true sizes (B, 2) in maps of `size`."""
        for known, sizes in self._sizes:
            if known == size:
                return sizes
        raise KeyError(size)

    def mask(self, size: Size, dtype: torch.dtype) -> Tensor:
        """1 on image, 0 in the padding of maps of `size`: (B, 1, h, w)."""
        for known, its, mask in self._masks:
            if known == size and its == dtype:
                return mask
        mask = area_mask(self.sizes(size), *size)[:, None].to(dtype)
        self._masks.append((size, dtype, mask))
        return mask

    def of(self, x: Tensor) -> Tensor | None:
        """The mask (B, 1, h, w) of a map (B, C, h, w), None where there is no padding."""
        return self.mask((x.shape[-2], x.shape[-1]), x.dtype) if self.active else None

    def __getstate__(self) -> dict[str, Any]:
        return {"_sizes": [], "_masks": []}


@dataclass(frozen=True)
class _Windows:
    """Before a convolution or a pool: its windows see `fill` in the padding. `same`: padded as TensorFlow does."""

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
        self.masks.shrunk(before, self._after(before), self._sizes_after(self.masks.sizes(before)))
        if not self.looks_beyond:
            return None
        mask = self.masks.mask(before, x.dtype)
        return (x * mask,) if self.fill == 0.0 else (x.masked_fill(mask == 0, self.fill),)

    @property
    def looks_beyond(self) -> bool:
        """Whether a window of the image holds anything else; without padding, what is too little for one is left out."""
        return self.same or self.ceil_mode or any(self.padding)

    def _after(self, size: Size) -> Size:
        return self._side(size[0], 0), self._side(size[1], 1)

    def _sizes_after(self, sizes: Tensor) -> Tensor:
        rows, columns = sizes.unbind(1)
        return torch.stack([self._side(rows, 0), self._side(columns, 1)], 1)

    def _side(self, side: Any, axis: int) -> Any:
        """Windows along a side, of pixels in an int or a tensor."""
        stride = self.stride[axis]
        if self.same:
            return -(-side // stride)
        room = side + 2 * self.padding[axis] - self.dilation[axis] * (self.kernel[axis] - 1) - 1
        return (-(-room // stride) if self.ceil_mode else room // stride) + 1


@dataclass(frozen=True)
class _CountedMean:
    """After a mean-pool that counts what it finds: it finds less where an image ends within a window."""

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
class _Cleared:
    """After a max-pool whose windows saw minus infinity in the padding: 0 again."""

    masks: PaddingMasks

    def __call__(self, module: nn.Module, args: tuple[Tensor], result: Tensor) -> Tensor | None:
        mask = self.masks.of(result)
        return None if mask is None else result.masked_fill(mask == 0, 0.0)


@dataclass(frozen=True)
class _Zeroed:
    """Before a norm over the lengths of maps (B, h, w, C) or (B, C, h, w), to which 0 adds nothing."""

    masks: PaddingMasks
    height_at: int

    def __call__(self, module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
        if not self.masks.active:
            return None
        (x,) = args
        mask = self.masks.mask((x.shape[self.height_at], x.shape[self.height_at + 1]), x.dtype)
        return (x * (mask if self.height_at == 2 else mask.permute(0, 2, 3, 1)),)


@dataclass(frozen=True)
class _Stretched:
    """Before a gate over a mean: 0 in the padding, the rest so much more that the mean over all is that of the image."""

    masks: PaddingMasks

    def __call__(self, module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
        mask = self.masks.of(args[0])
        return None if mask is None else (args[0] * (mask / mask.float().mean((2, 3), keepdim=True)).to(args[0].dtype),)


@dataclass(frozen=True)
class _Unstretched:
    """After it: what is left of the map as it would be."""

    masks: PaddingMasks

    def __call__(self, module: nn.Module, args: tuple[Tensor], result: Tensor) -> Tensor | None:
        mask = self.masks.of(result)
        return None if mask is None else result * mask.float().mean((2, 3), keepdim=True).to(result.dtype)


def hide_padding(net: nn.Module, masks: PaddingMasks) -> bool:
    """Has a network of timm ask `masks` what is padding wherever it matters; False, and nothing done, where that is not known
    to be enough: other families, norms over whole maps, attention over positions, blurred pools.
    """
    if _name(net) not in FAMILIES:
        return False
    hooks: list[tuple[nn.Module, Any, Any]] = []
    for module in _of_maps(net):
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
            setattr(module, "masks", masks)  # noqa: B010  (a Module declares what else it takes)
    return True


def _of_maps(module: nn.Module) -> Iterator[nn.Module]:
    """The modules below `module` that are given maps; what is inside of a gate is given means."""
    for name, child in module.named_children():
        if name not in HEADS:
            yield child
            if not (_is_lean_gate(child) or _is_gate(child)):
                yield from _of_maps(child)


def _is_activation(module: nn.Module) -> bool:
    return type(module).__name__ in ACTIVATIONS and type(module).__module__ in ACTIVATION_MODULES


def needs_whole_strides(net: nn.Module) -> bool:
    """Whether the padding of its convolutions depends on the size of a map, unless every stride divides it."""
    from timm.layers import Conv2dSame

    return any(isinstance(module, Conv2dSame) for module in net.modules())


def _hooks(module: nn.Module, masks: PaddingMasks) -> tuple[Any, Any] | None:
    """What to run before and after a module, if anything; None if it cannot be served."""
    from timm.layers import Conv2dSame
    from timm.layers.grn import GlobalResponseNorm

    if _is_lean_gate(module):
        return None, None
    if _is_gate(module):
        return _Stretched(masks), _Unstretched(masks)
    if type(module) is GlobalResponseNorm:
        return _Zeroed(masks, height_at=1 if module.channel_dim == -1 else 2), None
    if type(module) in (nn.Conv2d, Conv2dSame):
        assert isinstance(module, nn.Conv2d)
        if isinstance(module.padding, str) or module.padding_mode != "zeros":
            return None
        same = type(module) is Conv2dSame
        if same and max(_pair(module.stride)) > 2:
            return None
        return _windows(masks, module, same=same), None
    if type(module) is nn.MaxPool2d:
        return _windows(masks, module, ceil_mode=module.ceil_mode, fill=float("-inf")), _Cleared(masks)
    if type(module) is nn.AvgPool2d:
        padding = _pair(module.padding)
        if module.divisor_override is not None or (any(padding) and module.ceil_mode and module.count_include_pad):
            return None
        windows = _windows(masks, module, ceil_mode=module.ceil_mode)
        counts = windows.looks_beyond and not (any(padding) and module.count_include_pad)
        return windows, _CountedMean(masks) if counts else None
    return None


def _windows(masks: PaddingMasks, module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d, **more: Any) -> _Windows:
    dilation = _pair(getattr(module, "dilation", 1))
    return _Windows(masks, _pair(module.kernel_size), _pair(module.stride), _pair(module.padding), dilation, **more)


def _is_lean_gate(module: nn.Module) -> bool:
    """Whether it multiplies a map by a function of its mean, and asks for masks itself."""
    from models.backbones.squeeze_excite import LeanSEModule, LeanSqueezeExcite

    return isinstance(module, LeanSEModule | LeanSqueezeExcite)


def _is_gate(module: nn.Module) -> bool:
    """Whether it multiplies a map by a function of its mean, of all positions."""
    from timm.layers import EcaModule, EffectiveSEModule

    return type(module) is EcaModule or (type(module) is EffectiveSEModule and not module.add_maxpool)


def _name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__name__}"


def _pair(side: Any) -> Size:
    return (side, side) if isinstance(side, int) else (side[0], side[1])
