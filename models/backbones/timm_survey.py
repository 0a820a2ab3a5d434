"""What the features of blank images show of a network of timm.

Legend: B batch, C channels, H W height and width in pixels, F channels of the map, h w height and width of the map.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.backbones.canvas import AsItIs, Canvas, Fixed, Multiple
from models.backbones.timm_networks import drop_unused
from models.errors import ModelConfigError

SMALLEST = 64  # pixels on each side of a blank image, or a little more

Tap = Callable[[Any, Tensor], Tensor]  # a network and images (B, C, H, W) to a map (B, F, h, w)


class Survey(NamedTuple):
    """The first `tap` that gives a map, its `channels` F, its `strides` (vertical, horizontal), the `canvas` for images."""

    tap: Tap
    channels: int
    strides: tuple[int, int]
    canvas: Canvas


def survey(
    key: str, name: str, net: Any, taps: Sequence[Tap], in_channels: int, img_size: int | Sequence[int] | None
) -> Survey:
    """Looks at the features of blank images, of `img_size` (height, width) if the network is made for one size.

    Takes out of the network what has no part in its map. `key` and `name`: its section of the config, and its name.

    Raises:
        ModelConfigError: a network that gives no map, or none of such images.
    """
    height, width = _size(net, img_size)
    problem = ""
    net.eval()
    for tap in taps:

        def features(height: int, width: int, tap: Tap = tap) -> Tensor:
            return tap(net, torch.zeros(1, in_channels, height, width))

        try:
            with torch.enable_grad():
                seen = features(height, width)
        except Exception as error:  # timm's networks check their input with assertions and errors of many classes
            problem = problem or (
                f"{name!r} does not take images of {height}x{width} pixels ({error}); if timm has an option for it, set "
                f"{key}.options to {{dynamic_img_size: true}} or to {{img_size: [height, width]}} of the largest images"
            )
            continue
        shape = tuple(seen.shape)
        if len(shape) == 4 and height % shape[2] == 0 and width % shape[3] == 0:
            drop_unused(net, seen, lambda: features(height, width))
            strides = height // shape[2], width // shape[3]
            canvas = _canvas(key, net, features, strides, (height, width))
            net.train()
            return Survey(tap, shape[1], strides, canvas)
        problem = problem or f"{name!r} gives features {shape} of {height}x{width} pixels, not a map (B, C, h, w)"
    raise ModelConfigError(f"{key}.name", problem)


def _coarsest(net: Any) -> int:
    return max(info["reduction"] for info in net.feature_info)


def _size(net: Any, img_size: int | Sequence[int] | None) -> tuple[int, int]:
    if isinstance(img_size, int):
        return img_size, img_size
    if img_size is not None:
        return img_size[0], img_size[1]
    side = -(-SMALLEST // _coarsest(net)) * _coarsest(net)
    return side, side


def _canvas(
    key: str, net: Any, features: Callable[[int, int], Tensor], strides: tuple[int, int], size: tuple[int, int]
) -> Canvas:
    """Of an image one pixel too wide a network makes one more column, refuses it, or does not see that pixel."""
    (down, right), (height, width) = strides, size

    def columns(height: int, width: int) -> int | None:
        try:
            with torch.no_grad():
                return features(height, width).shape[3]
        except Exception:  # as above
            return None

    if columns(height + down, 2 * width + 1) == 2 * width // right + 1:
        return AsItIs()
    for steps in strides, (_coarsest(net), _coarsest(net)):  # stages behind the map may be computed, too
        if columns(height + steps[0], 2 * width) == 2 * width // right:
            return Multiple(*steps)
    return Fixed(height, width, f"{key}.options")
