"""Probing of a timm network with blank images: its map, strides and image sizes.

Legend: B batch, C channels, H W height and width in pixels, F channels of the map, h w height and width of the map.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.backbones.input_padding import InputPadding, NoInputPadding, PadToMultiple, PadToSize
from models.backbones.timm_networks import drop_unused
from models.errors import ModelConfigError

MIN_SIDE = 64  # pixels on each side of a blank image, rounded up to the coarsest stride

Tap = Callable[[Any, Tensor], Tensor]  # a network and images (B, C, H, W) to a map (B, F, h, w)


class NetworkProbe(NamedTuple):
    """Result of a probe.

    `tap`: the first that gives a map; `channels`: F; `strides`: (vertical, horizontal); `input_padding`: for the images.
    """

    tap: Tap
    channels: int
    strides: tuple[int, int]
    input_padding: InputPadding


def probe_network(
    key: str, name: str, net: Any, taps: Sequence[Tap], in_channels: int, img_size: int | Sequence[int] | None
) -> NetworkProbe:
    """Probes a network with blank images, of `img_size` (height, width) if it was built for one size.

    Removes modules that do not contribute to the map. `key` and `name`: its config section and its name.

    Raises:
        ModelConfigError: a network that gives no map, or rejects such images.
    """
    height, width = _size(net, img_size)
    problem = ""
    net.eval()
    for tap in taps:

        def features(height: int, width: int, tap: Tap = tap) -> Tensor:
            return tap(net, torch.zeros(1, in_channels, height, width))

        try:
            with torch.enable_grad():
                output = features(height, width)
        except Exception as error:  # timm's networks raise errors of many classes for bad inputs
            problem = problem or (
                f"{name!r} does not accept images of {height}x{width} pixels ({error}); if timm has an option for it, set "
                f"{key}.options to {{dynamic_img_size: true}} or to {{img_size: [height, width]}} of the largest images"
            )
            continue
        shape = tuple(output.shape)
        if len(shape) == 4 and height % shape[2] == 0 and width % shape[3] == 0:
            drop_unused(net, output, lambda: features(height, width))
            strides = height // shape[2], width // shape[3]
            input_padding = _input_padding(key, net, features, strides, (height, width))
            net.train()
            return NetworkProbe(tap, shape[1], strides, input_padding)
        problem = problem or f"{name!r} gives features {shape} of {height}x{width} pixels, not a map (B, C, h, w)"
    raise ModelConfigError(f"{key}.name", problem)


def _coarsest(net: Any) -> int:
    return max(info["reduction"] for info in net.feature_info)


def _size(net: Any, img_size: int | Sequence[int] | None) -> tuple[int, int]:
    if isinstance(img_size, int):
        return img_size, img_size
    if img_size is not None:
        return img_size[0], img_size[1]
    side = -(-MIN_SIDE // _coarsest(net)) * _coarsest(net)
    return side, side


def _input_padding(
    key: str, net: Any, features: Callable[[int, int], Tensor], strides: tuple[int, int], size: tuple[int, int]
) -> InputPadding:
    """Padding that a network needs: it adds a column for an image one pixel too wide, rejects it, or ignores that pixel."""
    (down, right), (height, width) = strides, size

    def columns(height: int, width: int) -> int | None:
        try:
            with torch.no_grad():
                return features(height, width).shape[3]
        except Exception:  # as above
            return None

    if columns(height + down, 2 * width + 1) == 2 * width // right + 1:
        return NoInputPadding()
    for steps in strides, (_coarsest(net), _coarsest(net)):  # stages after the map may run as well
        if columns(height + steps[0], 2 * width) == 2 * width // right:
            return PadToMultiple(*steps)
    return PadToSize(height, width, f"{key}.options")
