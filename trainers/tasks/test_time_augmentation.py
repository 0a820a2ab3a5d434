"""Views of images for test-time augmentation, by the names that `labeling.tta` has.

Legend: B batch, C channels, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from cluster.errors import UserError
from cluster.yaml_text import shown
from trainers.config.labeling import ViewName, view_problem, zoom_of


def view(images: Tensor, name: str, background: int | Sequence[int] = 255) -> Tensor:
    """The images uint8 (B, C, H, W) seen otherwise, of the same size; margins get `background`, a level for each channel.

    Raises:
        UserError: there is no such view, or images that are not square are to be turned by 90 degrees.
    """
    if problem := view_problem(name):
        raise UserError(f"labeling.tta={shown(name)}: {problem}.")
    zoom = zoom_of(name)
    if zoom is None:
        return VIEWS[name](images)  # type: ignore[index]
    kind, amount = zoom
    return _scaled(images, amount, background) if kind == "scale" else _cropped(images, amount)


def require_views(names: Sequence[str], height: int, width: int) -> None:
    """Check that images of this size have all these views.

    Raises:
        UserError: one of them turns images that are not square.
    """
    for name in names:
        if name in ("rotate_90", "rotate_270") and height != width:
            raise UserError(
                f"labeling.tta={name}: images of {height} x {width} pixels are not square, so turned by 90 degrees they have "
                "another size. Leave it out, or prepare square images."
            )


def _turned(times: int) -> Callable[[Tensor], Tensor]:
    """Counterclockwise, by `times` 90 degrees."""

    def turn(images: Tensor) -> Tensor:
        require_views([f"rotate_{90 * times}"], *images.shape[-2:])
        return images.rot90(times, (-2, -1))

    return turn


VIEWS: dict[ViewName, Callable[[Tensor], Tensor]] = {
    "identity": lambda images: images,
    "rotate_90": _turned(1),
    "rotate_180": _turned(2),
    "rotate_270": _turned(3),
    "flip_horizontal": lambda images: images.flip(-1),
    "flip_vertical": lambda images: images.flip(-2),
}


def _cropped(images: Tensor, share: float) -> Tensor:
    """The center, of `share` of the height and the width, scaled back to the whole size."""
    height, width = images.shape[-2:]
    return _resized(_center(images, max(1, round(height * share)), max(1, round(width * share))), height, width)


def _scaled(images: Tensor, factor: float, background: int | Sequence[int]) -> Tensor:
    """Scaled by `factor` about the center: smaller ones get a margin, larger ones are cut."""
    height, width = images.shape[-2:]
    new_height, new_width = max(1, round(height * factor)), max(1, round(width * factor))
    scaled = _resized(images, new_height, new_width)
    if factor >= 1:
        return _center(scaled, height, width)
    levels = torch.tensor(background, dtype=images.dtype, device=images.device).reshape(-1, 1, 1)
    whole = levels.expand(images.shape).clone()
    _center(whole, new_height, new_width).copy_(scaled)
    return whole


def _center(images: Tensor, height: int, width: int) -> Tensor:
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    return images[..., top : top + height, left : left + width]


def _resized(images: Tensor, height: int, width: int) -> Tensor:
    resized = F.interpolate(images.float(), (height, width), mode="bilinear", antialias=True, align_corners=False)
    return resized.round().clamp(0, 255).to(images.dtype)
