"""How to decode, and what comes of it.

Legend: B batch, n candidates of an image, T emitted positions, h w height and width of the feature map.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from models.errors import ModelConfigError
from models.spec import OutputSpec

DecodingMethod = Literal["greedy", "beam"]
MAX_LENGTH_PENALTY = 10  # beyond, float32 has no room for log-probability / length ** length_penalty


@dataclass
class Decoding:
    """How to decode. A recognizer with a decoder reads with it; one without reads with its CTC head."""

    method: DecodingMethod = "greedy"
    max_length: int | None = None  # None: the output spec's; fewer tokens, EOS included, where it is given
    beam_size: int = 5  # hypotheses an image, of method beam
    num_best: int = 1  # candidates that are returned, at most beam_size
    # Candidates are ranked by log-probability / length ** length_penalty, EOS counted. No part of reading with a CTC head.
    length_penalty: float = 1.0
    two_way: bool = False  # candidates of both directions, each judged by both (needs decoder.direction both)
    ctc_weight: float = 0.0  # share of the CTC head's log-probability in the rank of candidates (needs both heads)
    balanced: bool = False  # only texts whose groups, OutputSpec.open_ids[i] to close_ids[i], are closed when it ends
    return_attention: bool = False


@dataclass(frozen=True)
class Candidates:
    """The best texts of each image, best first.

    `token_ids` int64 (B, n, T): as in `Generation`; `lengths` int64 (B, n); `log_probs` (B, n): of the texts;
    `scores` (B, n): what they are ranked by, -inf where an image has fewer candidates (their rows are PAD, of length 0).
    """

    token_ids: Tensor
    lengths: Tensor
    log_probs: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Generation:
    """What was decoded.

    `token_ids` int64 (B, T): without BOS, up to and with EOS, then PAD; a row that reached the length limit has no EOS.
    `lengths` int64 (B,): tokens before EOS. `log_probs` (B,): sum over the emitted tokens, EOS included; of a CTC head:
    of the best path (greedy) or of all paths of the text (beam).
    `attention` (B, T, h, w): of the decoder's last layer to the memory, mean over heads, or None; 0 after EOS.
    `candidates`: the n best, of method beam.
    """

    token_ids: Tensor
    lengths: Tensor
    log_probs: Tensor
    attention: Tensor | None = None
    candidates: Candidates | None = None


def check_settings(decoding: Decoding) -> None:
    """Raises ModelConfigError for settings that no model can serve."""
    for name in ("beam_size", "num_best", "max_length"):
        if not isinstance(getattr(decoding, name), int) and (name, decoding.max_length) != ("max_length", None):
            raise ModelConfigError(f"decoding.{name}", f"{getattr(decoding, name)!r} is no whole number")
    if decoding.beam_size < 1:
        raise ModelConfigError("decoding.beam_size", f"{decoding.beam_size} is less than one hypothesis")
    most = decoding.beam_size if decoding.method == "beam" else 1
    if not 1 <= decoding.num_best <= most:
        raise ModelConfigError(
            "decoding.num_best",
            f"{decoding.num_best} is not in 1..{most}, what method {decoding.method} finds (decoding.beam_size)",
        )
    if not 0 <= decoding.length_penalty <= MAX_LENGTH_PENALTY:
        raise ModelConfigError("decoding.length_penalty", f"{decoding.length_penalty} is not in 0..{MAX_LENGTH_PENALTY}")
    if not 0 <= decoding.ctc_weight <= 1:
        raise ModelConfigError("decoding.ctc_weight", f"{decoding.ctc_weight} is not in 0..1")


def length_limit(decoding: Decoding, spec: OutputSpec) -> int:
    """The most tokens to emit. Raises ModelConfigError for one that the model cannot emit."""
    limit = spec.max_length if decoding.max_length is None else decoding.max_length
    if not 1 <= limit <= spec.max_length:
        raise ModelConfigError("decoding.max_length", f"{limit} is not in 1..{spec.max_length}, the model's longest output")
    return limit
