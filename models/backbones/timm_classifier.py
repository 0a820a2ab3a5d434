"""Backbone of a classifier from any timm network.

Legend: B batch, C channels, H W height and width in pixels, F channels of the feature map, h w its height and width,
D width of the pooled features.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.timm_layouts import Layout, find_layout
from models.backbones.timm_networks import HEADLESS, check_reserved, create_network, drop_unused
from models.checks import check_numbers
from models.classifier_config import ClassifierBackboneConfig
from models.errors import ModelConfigError
from models.layers.recomputation import count_batches_once

KEY = "classifier.backbone"
BLANK_SIDE = 64  # pixels on each side of the first image to try
RATES = ("drop_rate", "drop_path_rate")


class TimmClassifierBackbone(nn.Module):
    """timm network in two parts, before and after the pooling of its features.

    `forward`: images to features; `finish`: pooled features to the input of a head, through what the network has after its
    pooling (the norm of ConvNeXt, the convolution of MobileNetV3, its classifier where it is kept). With `pools_inside`,
    `finish` pools, too: only the network knows whether it reads a mean or a class token, and which norm belongs to it.

    `to_map` is the module whose output is the last feature map (B, F, h, w), if `has_map`; `out_dim`: D.
    """

    def __init__(self, config: ClassifierBackboneConfig, in_channels: int, pools_inside: bool) -> None:
        super().__init__()
        check_numbers(config, KEY)
        check_reserved(KEY, config.options, RATES)
        self.name = config.name
        self.pre_logits = not config.keep_classifier
        self.net: Any = _create(config, in_channels, pools_inside)
        (self.to_map, self.restore, self.has_map), self.out_dim = self._probe(config, in_channels, pools_inside)
        self.name, self.recomputes = config.name, False
        if config.grad_checkpointing:
            self.checkpoint_gradients()
        # Convolutions are faster in this layout on CPUs, and tensor cores prefer it.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def checkpoint_gradients(self) -> None:
        """Switches on gradient checkpointing (Chen et al. 2016). Raises ModelConfigError for a network that has none."""
        _checkpoint(self.net, self.name)
        count_batches_once(self.net)
        self.recomputes = True

    def forward(self, images: Tensor) -> Tensor:
        """Normalized images (B, C, H, W) to a map (B, F, h, w), or to other features that `finish` pools."""
        features: Tensor = self.to_map(self.net.forward_features(images))
        return features

    def finish(self, pooled: Tensor) -> Tensor:
        """Pooled features (B, F, 1, 1), with `pools_inside` the unpooled ones, to (B, D)."""
        features: Tensor = self.net.forward_head(self.restore(pooled), pre_logits=self.pre_logits)
        return features.flatten(1)

    def train(self, mode: bool = True) -> "TimmClassifierBackbone":
        """Sets the mode. Norms may have been replaced by synchronized ones since the last call."""
        super().train(mode)
        if self.recomputes:
            count_batches_once(self.net)
        return self

    def size_error(self, images: Tensor, error: Exception) -> ModelConfigError | None:
        """Explanation of an `error` of a pass over `images` by their size; None if the network takes such a size.

        The pass is repeated without memory, on the meta device, so that other errors (memory, a device) do not occur.
        """
        if not images.is_meta:
            state = {name: tensor.to("meta") for name, tensor in chain(self.net.named_parameters(), self.net.named_buffers())}
            try:
                with torch.no_grad():
                    torch.func.functional_call(self.net, state, (images.to("meta"),))
            except Exception as again:  # timm's networks raise errors of many classes for bad inputs
                error = again
            else:
                return None
        return _size_error(self.name, (images.shape[-2], images.shape[-1]), error)

    def _probe(self, config: ClassifierBackboneConfig, in_channels: int, pools_inside: bool) -> tuple[Layout, int]:
        """Layout of the features and their width D, from a blank image; removes what does not contribute to them."""
        self.net.eval()
        height, width, features = _features(self.net, config, in_channels)
        layout = find_layout(self.net, features, pools_inside)
        if layout is None:
            found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ModelConfigError(
                "classifier.pooling.name",
                f"{self.name!r} gives features {found} of {height}x{width} pixels, neither a map nor tokens; set it to average",
            )
        self.to_map, self.restore, self.has_map = layout

        def finish(features: Any) -> Any:
            x = self.to_map(features)
            return self.finish(x if pools_inside else x.mean((2, 3), keepdim=True))

        try:
            with torch.enable_grad():
                pooled = finish(features)
        except Exception as error:  # as above
            raise ModelConfigError(
                f"{KEY}.name", f"{self.name!r} gives no features of an image: {type(error).__name__}: {error}"
            ) from error
        blank = torch.zeros(1, in_channels, height, width)
        drop_unused(self.net, pooled, lambda: finish(self.net.forward_features(blank)))
        self.net.train()
        return layout, pooled.shape[1]


def _create(config: ClassifierBackboneConfig, in_channels: int, pools_inside: bool) -> Any:
    """The network, with its own pooling and its classifier as configured."""
    if config.keep_classifier and not pools_inside:
        raise ModelConfigError(
            "classifier.pooling.name", f"must be average, the network's own, with {KEY}.keep_classifier = true"
        )
    end: dict[str, Any] = {} if config.keep_classifier else {"num_classes": 0} if pools_inside else dict(HEADLESS)
    rates = {name: getattr(config, name) for name in RATES if getattr(config, name) is not None}
    try:
        return create_network(KEY, config.name, in_channels, config.pretrained, config.options, {**end, **rates})
    except ModelConfigError as error:
        if pools_inside or not isinstance(error.__cause__, AssertionError):
            raise
        raise ModelConfigError(
            "classifier.pooling.name",
            f"{config.name!r} needs its own pooling ({error.__cause__}); set it to average, or use another network",
        ) from error


def _features(net: Any, config: ClassifierBackboneConfig, in_channels: int) -> tuple[int, int, Any]:
    """Features of a blank image of the first size that a network takes: (height, width, features)."""
    problem = None
    for height, width in _sizes(net, config.options.get("img_size")):
        try:
            with torch.enable_grad():
                return height, width, net.forward_features(torch.zeros(1, in_channels, height, width))
        except Exception as error:  # as above
            problem = _size_error(config.name, (height, width), error)
    assert problem is not None
    raise problem


def _sizes(net: Any, img_size: Any) -> Iterator[tuple[int, int]]:
    """Sizes to try: the one that a network was built for, or a small one and that of its pretrained weights."""
    if img_size is not None:
        yield (img_size, img_size) if isinstance(img_size, int) else (img_size[0], img_size[1])
        return
    yield BLANK_SIDE, BLANK_SIDE
    yield tuple(net.pretrained_cfg["input_size"][1:])


def _size_error(name: str, size: tuple[int, int], error: Exception) -> ModelConfigError:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return ModelConfigError(
        f"{KEY}.name",
        f"{name!r} does not accept images of {size[0]}x{size[1]} pixels, H x W ({reason[0]}); use another size or network, "
        f"or an option that timm has for it: {KEY}.options = {{img_size: [{size[0]}, {size[1]}]}} or "
        "{dynamic_img_size: true}",
    )


def _checkpoint(net: Any, name: str) -> None:
    """Switches on gradient checkpointing."""
    try:
        net.set_grad_checkpointing(True)
    except Exception as error:  # an assertion, or whatever a network without this method raises
        raise ModelConfigError(f"{KEY}.grad_checkpointing", f"{name!r} has none; set it to false ({error})") from error
