"""Training on what the model has written itself instead of the truth (scheduled sampling, Bengio et al. 2015).

Legend: B batch, T target positions, V vocabulary.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from models.errors import ModelConfigError


class OwnTokens(NamedTuple):
    """Where the decoder is fed its own likeliest token of the position before, not the truth.

    `mask` bool (B, T): True there. The first position and PAD are always the truth. `passes`: how often a transformer looks
    for its own tokens; an RNN, which has them as it goes, does not care.
    """

    mask: Tensor
    passes: int = 1


def check_own(own: OwnTokens | None, tgt_in: Tensor) -> None:
    """Raises ModelConfigError where `own` does not fit `tgt_in` (B, T)."""
    if own is None:
        return
    if own.mask.dtype != torch.bool or own.mask.shape != tgt_in.shape:
        found = f"{own.mask.dtype} {tuple(own.mask.shape)}"
        raise ModelConfigError("own.mask", f"must be a tensor of bool {tuple(tgt_in.shape)}, as tgt_in is, not {found}")
    if own.passes < 1:
        raise ModelConfigError("own.passes", f"must be 1 or more, not {own.passes}")


def own_choice(logits: Tensor, first: Tensor, pad_id: int) -> Tensor:
    """The likeliest tokens (B, T) of logits (B, T, V): neither PAD nor what `first` (B,) begins each text with.

    Texts begin with BOS from left to right, with EOS from right to left.
    """
    ids = torch.arange(logits.shape[-1], device=logits.device)
    never = (ids == first[:, None]) | (ids == pad_id)
    return logits.detach().masked_fill(never[:, None], -torch.inf).argmax(-1)


@torch.no_grad()
def mixed_in_parallel(read: Callable[[Tensor], Tensor], tgt_in: Tensor, own: OwnTokens, pad_id: int) -> Tensor:
    """What is fed, (B, T), of a decoder that reads (B, T) at once, to logits (B, T, V).

    Each of `own.passes` passes feeds on the mixture that the one before has made of the truth and its answers (Duckworth et
    al. 2019, "Parallel Scheduled Sampling"; Mihaylova and Martins 2019). What n passes give is, up to position n, what
    decoding token by token gives; so T - 1 passes with a mask that is all True are free running.
    """
    own_turn = own.mask & (tgt_in != pad_id)
    mixture = tgt_in
    # Autocast would keep the weights as they are cast here, without a gradient, and give them to the pass that needs one.
    device = tgt_in.device.type
    with torch.autocast(device, enabled=torch.is_autocast_enabled(device), cache_enabled=False):
        for _ in range(own.passes):
            chosen = own_choice(read(mixture), tgt_in[:, 0], pad_id)
            mixture = torch.where(own_turn, torch.cat([tgt_in[:, :1], chosen[:, :-1]], 1), tgt_in)
    return mixture
