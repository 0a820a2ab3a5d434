"""Dispatch to the decoding method of the settings."""

from collections.abc import Callable

from models.checks import lookup
from models.decoders import Decoder, NoDecoder
from models.decoding.base import DecodableModel
from models.decoding.beam import beam_decode
from models.decoding.ctc import best_path, prefix_beam_search
from models.decoding.grammar import check_groups
from models.decoding.greedy import greedy_decode
from models.decoding.rescoring import check_heads, rescored_decode
from models.decoding.settings import Decoding, DecodingMethod, check_settings
from models.decoding.stopping import length_limit
from models.errors import ModelConfigError
from models.types import Generation, Memory, OutputSpec

METHODS: dict[DecodingMethod, Callable[[Decoder, Memory, Decoding, OutputSpec], Generation]] = {
    "greedy": greedy_decode,
    "beam": beam_decode,
}


def decode(model: DecodableModel, memory: Memory, decoding: Decoding) -> Generation:
    """Decodes the texts of the images in `memory` with the heads of `model`.

    Raises:
        ModelConfigError: invalid settings, or settings that need a head that the model does not have.
    """
    check_decoding(model, decoding)
    if isinstance(model.decoder, NoDecoder):
        return ctc_decode(model, memory, decoding)
    if decoding.two_way or decoding.ctc_weight > 0:
        return rescored_decode(model, memory, decoding)
    return METHODS[decoding.method](model.decoder, memory, decoding, model.output_spec)


def ctc_decode(model: DecodableModel, memory: Memory, decoding: Decoding) -> Generation:
    """Decodes with the CTC head, for a model without a decoder."""
    logits, columns = model.ctc(memory)
    if decoding.method == "beam":
        return prefix_beam_search(logits, columns, decoding, model.output_spec)
    return best_path(logits, columns, memory, decoding, model.output_spec)


def check_decoding(model: DecodableModel, decoding: Decoding) -> None:
    """Raises ModelConfigError for invalid settings, or settings that need a head that the model does not have."""
    lookup(METHODS, decoding.method, "decoding.method")
    check_settings(decoding)
    length_limit(decoding, model.output_spec)
    if decoding.balanced:
        check_groups(model.output_spec)
    if isinstance(model.decoder, NoDecoder):
        _check_ctc(decoding)
    else:
        check_heads(model, decoding)


def _check_ctc(decoding: Decoding) -> None:
    """Raises ModelConfigError for settings that a CTC head alone cannot serve."""
    if decoding.two_way:
        raise ModelConfigError("decoding.two_way", "the model has no decoder, and a CTC head has no direction")
    if decoding.ctc_weight > 0:
        raise ModelConfigError("decoding.ctc_weight", "the model has no decoder: its CTC head decodes alone; set 0")
    if decoding.balanced and decoding.method == "greedy":
        raise ModelConfigError("decoding.balanced", "a best CTC path cannot balance groups; use decoding.method=beam")
    if decoding.return_attention and decoding.method == "beam":
        raise ModelConfigError(
            "decoding.return_attention", "a CTC beam search has no single alignment; use decoding.method=greedy"
        )
