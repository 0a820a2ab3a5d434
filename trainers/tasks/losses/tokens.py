"""The losses of a decoder at each position, without regard to whether the position counts.

Legend: B batch, T target positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from models import OutputSpec
from trainers.config.loss import LossConfig, SpecialTokens, TokenLossName
from trainers.tasks.losses.targets import is_special

# Logits float32 (B, T, V) and labels (B, T) to losses (B, T).
TokenLoss = Callable[[Tensor, Tensor, OutputSpec, LossConfig], Tensor]


def token_loss(logits: Tensor, labels: Tensor, counted: Tensor, spec: OutputSpec, config: LossConfig) -> Tensor:
    """The configured loss of logits (B, T, V) and labels (B, T), in float32, summed over the positions `counted` (B, T)."""
    return TOKEN_LOSSES[config.name](logits.float(), labels, spec, config).masked_fill(~counted, 0.0).sum()


def cross_entropy(logits: Tensor, labels: Tensor, spec: OutputSpec, config: LossConfig) -> Tensor:
    """-log p(label), smoothed over the vocabulary."""
    return _cross_entropy(logits, labels, config.label_smoothing)


def focal(logits: Tensor, labels: Tensor, spec: OutputSpec, config: LossConfig) -> Tensor:
    """alpha * (1 - p)^gamma * -log p of the label's p (Lin et al. 2017), alpha the same for all labels.

    With `normalize_logits`, p is that of the logits divided by their length.
    """
    plain = _cross_entropy(LOGITS[config.normalize_logits](logits), labels)
    # Where p is 1 to the last digit, a power below 1 has no gradient that is finite.
    missing = -torch.expm1(-plain)
    return config.focal_alpha * missing.clamp(min=torch.finfo(missing.dtype).tiny) ** config.focal_gamma * plain


def cosine(logits: Tensor, labels: Tensor, spec: OutputSpec, config: LossConfig) -> Tensor:
    """1 - cos(logits, one-hot label): how far the logits point away from the label, whatever their length.

    With special tokens excluded, a position whose label is one has no loss, and their logits do not enter the length.
    """
    columns, positions = SPECIALS[config.special_tokens](logits, labels, spec)
    directions = F.normalize(logits.masked_fill(columns, 0.0), dim=-1)
    return (1 - directions.gather(-1, labels[..., None])[..., 0]).masked_fill(positions, 0.0)


def focal_cosine(logits: Tensor, labels: Tensor, spec: OutputSpec, config: LossConfig) -> Tensor:
    """`focal` + cosine_weight * `cosine`.

    Both are divided by one number, that of all positions that count. With special tokens excluded the cosine term is hence
    a mean over all of them to which those whose label is special add 0: (text tokens / counted positions) of the mean over
    text tokens.
    """
    return focal(logits, labels, spec, config) + config.cosine_weight * cosine(logits, labels, spec, config)


TOKEN_LOSSES: dict[TokenLossName, TokenLoss] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "cosine": cosine,
    "focal_cosine": focal_cosine,
}


def _as_they_are(logits: Tensor) -> Tensor:
    return logits


def _of_length_one(logits: Tensor) -> Tensor:
    return F.normalize(logits, dim=-1)


LOGITS: dict[bool, Callable[[Tensor], Tensor]] = {False: _as_they_are, True: _of_length_one}


def _excluded(logits: Tensor, labels: Tensor, spec: OutputSpec) -> tuple[Tensor, Tensor]:
    """Columns (V,) and positions (B, T) that have no part in a loss: those of special tokens."""
    # Made on the device: a copy from the host would wait for it.
    return is_special(torch.arange(logits.shape[-1], device=logits.device), spec), is_special(labels, spec)


def _included(logits: Tensor, labels: Tensor, spec: OutputSpec) -> tuple[Tensor, Tensor]:
    """None."""
    return torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device), torch.zeros_like(labels, dtype=torch.bool)


SPECIALS: dict[SpecialTokens, Callable[[Tensor, Tensor, OutputSpec], tuple[Tensor, Tensor]]] = {
    "excluded": _excluded,
    "included": _included,
}


def _cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=label_smoothing, reduction="none")
    return losses.view_as(labels)
