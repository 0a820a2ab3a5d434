"""Mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019) of a batch on its device, drawn from (seed, step).

timm's `Mixup` of mode `batch`, with draws of its own: timm's come from numpy's global state, which other threads share.

Legend: B batch, C channels, H W height and width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainers.config.mixup import MixupConfig

_MIXING = 4099  # in the place of a purpose, beside the seeds of other draws


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    bottom: int
    left: int
    right: int


class Draw(NamedTuple):
    """The share of an image that stays its own, and where the other one is pasted; None: both are blended."""

    share: float
    box: Box | None = None


def draw(config: MixupConfig, seed: int, step: int, height: int, width: int) -> Draw | None:
    """What is mixed in a step; None: nothing. All ranks and micro-batches draw the same."""
    if not config.enabled:
        return None
    rng = np.random.default_rng([seed, step, _MIXING])
    mixed, cut = rng.random() < config.prob, rng.random() < config.switch_prob
    if not mixed:
        return None
    cut = config.cutmix_alpha > 0 and (cut or not config.mixup_alpha > 0)
    alpha = config.cutmix_alpha if cut else config.mixup_alpha
    share = float(rng.beta(alpha, alpha))
    if not cut:
        return Draw(share)
    # A box of 1 - share of the image, its center anywhere: what lies outside is cut off, and the share is what is left.
    ratio, center = math.sqrt(1 - share), rng.random(2)
    top, bottom = _span(height, ratio, center[0])
    left, right = _span(width, ratio, center[1])
    return Draw(1 - (bottom - top) * (right - left) / (height * width), Box(top, bottom, left, right))


def mix(
    images: Tensor, targets: Mapping[str, Tensor], weights: Tensor, config: MixupConfig, seed: int, step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Images uint8 (B, C, H, W) and shares of classes, each float (B, K), mixed with those of another row; copies.

    The first row that counts is paired with the last, the second with the one before it: a row in the middle, rows of weight
    0 and a row alone stay as they are. Pairs are rows of what is handed in, a micro-batch: another number of workers or
    another micro-batch size mixes other pairs, by the same share.
    """
    drawn = draw(config, seed, step, *images.shape[-2:])
    if drawn is None or len(images) < 2:
        return images, dict(targets)
    partner = _partners(weights)
    others, share, box = images[partner], drawn.share, drawn.box
    if box is None:
        mixed = (images.float() * share + others.float() * (1 - share)).round_().to(images.dtype)
    else:
        mixed = images.clone()
        part = (..., slice(box.top, box.bottom), slice(box.left, box.right))
        mixed[part] = others[part]
    return mixed, {name: shares * share + shares[partner] * (1 - share) for name, shares in targets.items()}


def class_shares(targets: Tensor, num_classes: int) -> Tensor:
    """Class indices int64 (B,) as shares of classes, float (B, K): all 1 of one class; none of one that is not known."""
    shares = torch.zeros((len(targets), num_classes), device=targets.device)
    return shares.scatter_(1, targets.clamp(min=0)[:, None], (targets >= 0).float()[:, None])


def _span(size: int, ratio: float, center: float) -> tuple[int, int]:
    length, middle = int(size * ratio), int(center * size)
    return max(0, middle - length // 2), min(size, middle + (length + 1) // 2)


def _partners(weights: Tensor) -> Tensor:
    """The row that each row is mixed with, int64 (B,), without waiting for the device; itself where it does not count."""
    counted = weights != 0
    places = torch.argsort(~counted, stable=True)  # the rows that count first, in order
    number = counted.cumsum(0) - 1
    last = counted.sum() - 1
    rows = torch.arange(len(weights), device=weights.device)
    return torch.where(counted, places[(last - number).clamp(min=0)], rows)
