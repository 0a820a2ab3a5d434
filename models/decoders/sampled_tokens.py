"""Scheduled sampling (Bengio et al. 2015): training a decoder on its own predictions in place of some of the ground truth.

Legend: B batch, T target positions, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from models.types import SampledTokens


def greedy_tokens(logits: Tensor, first: Tensor, pad_id: int) -> Tensor:
    """Most probable tokens (B, T) of logits (B, T, V), PAD and each text's `first` (B,) token excluded.

    Texts begin with BOS from left to right, with EOS from right to left.
    """
    ids = torch.arange(logits.shape[-1], device=logits.device)
    excluded = (ids == first[:, None]) | (ids == pad_id)
    return logits.detach().masked_fill(excluded[:, None], -torch.inf).argmax(-1)


@torch.no_grad()
def sample_in_parallel(predict: Callable[[Tensor], Tensor], tgt_in: Tensor, sampled: SampledTokens, pad_id: int) -> Tensor:
    """Decoder inputs (B, T) with predictions at the sampled positions, for a decoder that maps (B, T) to logits at once.

    Each of `sampled.passes` passes predicts from the mixture of ground truth and predictions that the pass before made
    (Duckworth et al. 2019, "Parallel Scheduled Sampling"; Mihaylova and Martins 2019). After n passes the first n positions
    equal those of decoding token by token, so T - 1 passes with a mask that is all True are free running.
    """
    use_sampled = sampled.mask & (tgt_in != pad_id)
    mixture = tgt_in
    # Autocast would cache the weights that it casts here, without a gradient, and reuse them in the pass that needs one.
    device = tgt_in.device.type
    with torch.autocast(device, enabled=torch.is_autocast_enabled(device), cache_enabled=False):
        for _ in range(sampled.passes):
            predicted = greedy_tokens(predict(mixture), tgt_in[:, 0], pad_id)
            mixture = torch.where(use_sampled, torch.cat([tgt_in[:, :1], predicted[:, :-1]], 1), tgt_in)
    return mixture
