"""Encoders, from features (B, D, h, w) and a mask (B, h, w), True on the image, to the memory.

Each is built from an EncoderConfig.
"""

from collections.abc import Callable

from models.checks import check_numbers, lookup
from models.config import EncoderConfig, EncoderName
from models.encoders.base import Encoder
from models.encoders.bilstm import BiLstmEncoder
from models.encoders.none import NoEncoder
from models.encoders.transformer import TransformerEncoder

ENCODERS: dict[EncoderName, Callable[[EncoderConfig], Encoder]] = {
    "none": NoEncoder,
    "bilstm": BiLstmEncoder,
    "transformer": TransformerEncoder,
}


def build_encoder(config: EncoderConfig) -> Encoder:
    """Builds the configured encoder."""
    check_numbers(config, "model.encoder")
    return lookup(ENCODERS, config.name, "model.encoder.name")(config)


__all__ = ["ENCODERS", "BiLstmEncoder", "Encoder", "NoEncoder", "TransformerEncoder", "build_encoder"]
