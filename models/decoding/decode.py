"""The way of decoding that the settings ask for."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from models.choices import choose
from models.decoders import Decoder, NoDecoder
from models.decoding.beam import beam_decode
from models.decoding.ctc import best_path, prefix_beam_search
from models.decoding.grammar import check_groups
from models.decoding.greedy import greedy_decode
from models.decoding.rescoring import check_heads, rescored_decode
from models.decoding.settings import Decoding, DecodingMethod, Generation, check_settings, length_limit
from models.errors import ModelConfigError
from models.memory import Memory
from models.spec import OutputSpec

if TYPE_CHECKING:
    from models.recognizer import Recognizer

METHODS: dict[DecodingMethod, Callable[[Decoder, Memory, Decoding, OutputSpec], Generation]] = {
    "greedy": greedy_decode,
    "beam": beam_decode,
}


def decode(model: "Recognizer", memory: Memory, decoding: Decoding) -> Generation:
    """Texts of the images in `memory`, by the heads of `model`.

    Raises:
        ModelConfigError: settings that make no sense, or that need a head that the model does not have.
    """
    check_decoding(model, decoding)
    if isinstance(model.decoder, NoDecoder):
        return read_with_ctc(model, memory, decoding)
    if decoding.two_way or decoding.ctc_weight > 0:
        return rescored_decode(model, memory, decoding)
    return METHODS[decoding.method](model.decoder, memory, decoding, model.output_spec)


def read_with_ctc(model: "Recognizer", memory: Memory, decoding: Decoding) -> Generation:
    """Texts by the CTC head, of a model that has no decoder."""
    logits, columns = model.ctc(memory)
    if decoding.method == "beam":
        return prefix_beam_search(logits, columns, decoding, model.output_spec)
    return best_path(logits, columns, memory, decoding, model.output_spec)


def check_decoding(model: "Recognizer", decoding: Decoding) -> None:
    """Raises ModelConfigError for settings that make no sense, or that need a head that the model does not have."""
    choose(METHODS, decoding.method, "decoding.method")
    check_settings(decoding)
    length_limit(decoding, model.output_spec)
    if decoding.balanced:
        check_groups(model.output_spec)
    if isinstance(model.decoder, NoDecoder):
        _check_ctc(decoding)
    else:
        check_heads(model, decoding)


def _check_ctc(decoding: Decoding) -> None:
    """Raises ModelConfigError for what a CTC head alone cannot do."""
    if decoding.two_way:
        raise ModelConfigError("decoding.two_way", "the model has no decoder, and a CTC head reads in no direction")
    if decoding.ctc_weight > 0:
        raise ModelConfigError("decoding.ctc_weight", "the model has no decoder: its CTC head reads alone; set 0")
    if decoding.balanced and decoding.method == "greedy":
        raise ModelConfigError("decoding.balanced", "the best path of a CTC head knows no groups; use decoding.method=beam")
    if decoding.return_attention and decoding.method == "beam":
        raise ModelConfigError("decoding.return_attention", "a text of many paths has no one place; use decoding.method=greedy")
