"""Encoders: features (B, D, h, w) and a mask (B, h, w), True on image, to memory (B, S, D), S = h * w row by row.

Each is built from an EncoderConfig and has `embed_dim` (D).
"""

from collections.abc import Callable

from models.choices import choose
from models.config import EncoderConfig, EncoderName
from models.encoders.base import Encoder
from models.encoders.satrn import SatrnEncoder

ENCODERS: dict[EncoderName, Callable[[EncoderConfig], Encoder]] = {"satrn": SatrnEncoder}


def build_encoder(config: EncoderConfig) -> Encoder:
    """The configured encoder."""
    return choose(ENCODERS, config.name, "model.encoder.name")(config)


__all__ = ["ENCODERS", "Encoder", "SatrnEncoder", "build_encoder"]
