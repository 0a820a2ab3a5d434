"""Settings of decoding."""

from dataclasses import dataclass
from typing import Literal

from models.errors import ModelConfigError

DecodingMethod = Literal["greedy", "beam"]
MAX_LENGTH_PENALTY = 10  # beyond, log-probability / length ** length_penalty underflows float32


@dataclass
class Decoding:
    """Settings of decoding. A recognizer with a decoder uses it; one without uses its CTC head."""

    method: DecodingMethod = "greedy"  # greedy: the likeliest token at each step; beam: the likeliest of several texts
    max_length: int | None = None  # None: the output spec's; fewer tokens, EOS included, where it is given
    beam_size: int = 5  # hypotheses an image, of method beam
    num_best: int = 1  # candidates that are returned, at most beam_size
    # Candidates are ranked by log-probability / length ** length_penalty, EOS counted. Ignored by decoding with a CTC head.
    length_penalty: float = 1.0
    two_way: bool = False  # candidates of both directions, each scored by both (needs decoder.direction both)
    ctc_weight: float = 0.0  # weight of the CTC head's log-probability in the ranking of candidates (needs both heads)
    balanced: bool = False  # only texts whose groups, OutputSpec.open_ids[i] to close_ids[i], are closed when it ends
    return_attention: bool = False  # where the decoder looked comes back with each token


def check_settings(decoding: Decoding) -> None:
    """Raises ModelConfigError for settings that no model can serve."""
    for name in ("beam_size", "num_best", "max_length"):
        if not isinstance(getattr(decoding, name), int) and (name, decoding.max_length) != ("max_length", None):
            raise ModelConfigError(f"decoding.{name}", f"{getattr(decoding, name)!r} is not a whole number")
    if decoding.beam_size < 1:
        raise ModelConfigError("decoding.beam_size", f"{decoding.beam_size} is less than one hypothesis")
    max_best = decoding.beam_size if decoding.method == "beam" else 1
    if not 1 <= decoding.num_best <= max_best:
        raise ModelConfigError(
            "decoding.num_best",
            f"{decoding.num_best} is not in 1..{max_best}, the number that method {decoding.method} finds (decoding.beam_size)",
        )
    if not 0 <= decoding.length_penalty <= MAX_LENGTH_PENALTY:
        raise ModelConfigError("decoding.length_penalty", f"{decoding.length_penalty} is not in 0..{MAX_LENGTH_PENALTY}")
    if not 0 <= decoding.ctc_weight <= 1:
        raise ModelConfigError("decoding.ctc_weight", f"{decoding.ctc_weight} is not in 0..1")
