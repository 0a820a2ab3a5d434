"""The losses of a token sequence, each summed over what it is over, so that ranks can add theirs up.

Legend: B batch, T target positions, w columns of the feature map, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models import Output, OutputSpec, reverse_targets


@dataclass
class LossConfig:
    """What is minimised."""

    label_smoothing: float = 0.0  # of the cross-entropy
    ctc_weight: float = 0.3  # share of CTC where a model has a decoder and a CTC head (Watanabe et al. 2017)
    repulsion_weight: float = 0.1  # of model.repulsion, per token


def sequence_loss(output: Output, tgt_in: Tensor, tgt_out: Tensor, spec: OutputSpec, config: LossConfig) -> Tensor:
    """The loss of all heads, summed over the tokens of `tgt_out` (B, T), in float32; rows of PAD alone do not count.

    Both directions of a decoder count half each. `tgt_in` (B, T) is what `output` was computed from.
    """
    terms: list[tuple[float, Tensor]] = []
    if output.logits is not None:
        loss = cross_entropy(output.logits, tgt_out, spec.pad_id, config.label_smoothing)
        if output.reverse_logits is not None:
            _, reverse_out = reverse_targets(tgt_in, spec)
            reverse_out = reverse_out.masked_fill((tgt_out == spec.pad_id).all(1, keepdim=True), spec.pad_id)
            loss = (loss + cross_entropy(output.reverse_logits, reverse_out, spec.pad_id, config.label_smoothing)) / 2
        terms.append((1 - config.ctc_weight if output.ctc_logits is not None else 1.0, loss))
    if output.ctc_logits is not None:
        assert output.ctc_lengths is not None
        loss = ctc_loss(output.ctc_logits, output.ctc_lengths, tgt_out, spec)
        terms.append((config.ctc_weight if output.logits is not None else 1.0, loss))
    if output.repulsion is not None:
        terms.append((config.repulsion_weight, output.repulsion.float() * (tgt_out != spec.pad_id).sum()))
    return torch.stack([weight * term for weight, term in terms]).sum()


def cross_entropy(logits: Tensor, tgt_out: Tensor, pad_id: int, label_smoothing: float) -> Tensor:
    """Of logits (B, T, V) and labels (B, T), summed, PAD left out."""
    return F.cross_entropy(
        logits.float().flatten(0, 1),
        tgt_out.flatten(),
        ignore_index=pad_id,
        label_smoothing=label_smoothing,
        reduction="sum",
    )


def ctc_loss(logits: Tensor, columns: Tensor, tgt_out: Tensor, spec: OutputSpec) -> Tensor:
    """-log p(text) over all alignments (Graves et al. 2006), summed over the images of logits (B, w, V).

    The text of a row of `tgt_out` (B, T) ends before EOS. A text that its image's `columns` (B,) cannot hold, two equal
    tokens needing a blank between them, adds nothing: no weights could read it.
    """
    lengths = ((tgt_out != spec.pad_id) & (tgt_out != spec.eos_id)).sum(1)
    losses = F.ctc_loss(
        logits.float().log_softmax(-1).transpose(0, 1),
        tgt_out,
        columns,
        lengths,
        blank=spec.bos_id,
        reduction="none",
        zero_infinity=True,
    )
    return losses.masked_fill((tgt_out == spec.pad_id).all(1), 0.0).sum()
