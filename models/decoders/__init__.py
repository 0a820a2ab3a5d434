"""Decoders, from tokens and the memory to logits; each is built from (DecoderConfig, width of the memory, OutputSpec)."""

from collections.abc import Callable

from models.checks import check_numbers, lookup
from models.config import DecoderConfig, DecoderName
from models.decoders.base import Decoder, DecoderCache, DecoderOutput
from models.decoders.none import NoDecoder
from models.decoders.rnn import RnnDecoder
from models.decoders.transformer import TransformerDecoder
from models.types import OutputSpec

DECODERS: dict[DecoderName, Callable[[DecoderConfig, int, OutputSpec], Decoder]] = {
    "none": NoDecoder,
    "transformer": TransformerDecoder,
    "rnn": RnnDecoder,
}


def build_decoder(config: DecoderConfig, memory_dim: int, output_spec: OutputSpec) -> Decoder:
    """Builds the configured decoder over a memory of width `memory_dim`."""
    check_numbers(config, "model.decoder")
    return lookup(DECODERS, config.name, "model.decoder.name")(config, memory_dim, output_spec)


__all__ = [
    "DECODERS",
    "Decoder",
    "DecoderCache",
    "DecoderOutput",
    "NoDecoder",
    "RnnDecoder",
    "TransformerDecoder",
    "build_decoder",
]
