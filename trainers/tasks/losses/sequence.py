"""The loss of all heads of a recognizer."""

from __future__ import annotations

import torch
from torch import Tensor

from models import ModelOutput, OutputSpec, reverse_targets
from trainers.config.loss import LossConfig
from trainers.tasks.losses.auxiliary import counting_loss, structure_loss
from trainers.tasks.losses.ctc import ctc_loss
from trainers.tasks.losses.targets import Targets
from trainers.tasks.losses.tokens import token_loss


def sequence_loss(output: ModelOutput, targets: Targets, spec: OutputSpec, config: LossConfig) -> Tensor:
    """The loss of all heads, summed over the counted positions of `targets`, in float32: a scalar.

    Both directions of a decoder count half each. A term of weight 0 is still a term: DDP waits for each gradient.
    """
    terms: list[tuple[float, Tensor]] = []
    if output.logits is not None:
        terms.append((1 - config.ctc_weight if output.ctc_logits is not None else 1.0, _read(output, targets, spec, config)))
    if output.ctc_logits is not None:
        assert output.ctc_lengths is not None
        loss = ctc_loss(output.ctc_logits, output.ctc_lengths, targets, spec)
        terms.append((config.ctc_weight if output.logits is not None else 1.0, loss))
    if output.repulsion is not None:
        terms.append((config.repulsion_weight, output.repulsion.float() * targets.counted.sum()))
    if output.counts is not None:
        terms.append((config.counting_weight, counting_loss(output.counts, targets, spec)))
    if output.levels is not None:
        terms.append((config.structure_weight, structure_loss(output.levels, targets, spec)))
    return torch.stack([weight * term for weight, term in terms]).sum()


def _read(output: ModelOutput, targets: Targets, spec: OutputSpec, config: LossConfig) -> Tensor:
    """The loss of the decoder, in each direction that it has."""
    assert output.logits is not None
    loss = token_loss(output.logits, targets.tgt_out, targets.counted, spec, config)
    if output.reverse_logits is None:
        return loss
    _, reverse_out = reverse_targets(targets.tgt_in, spec)
    return (loss + token_loss(output.reverse_logits, reverse_out, targets.counted, spec, config)) / 2
