"""Encoders: features (B, D, h, w) and a mask (B, h, w), True on image, to memory (B, S, D), S = h * w row by row.

Each is built from an EncoderConfig and has `embed_dim` (D).
"""

from torch import nn

from models.choices import choose
from models.config import EncoderConfig
from models.encoders.satrn import SatrnEncoder

ENCODERS = {"satrn": SatrnEncoder}


def build_encoder(config: EncoderConfig) -> nn.Module:
    """The configured encoder."""
    return choose(ENCODERS, config.name, "model.encoder.name")(config)


__all__ = ["ENCODERS", "SatrnEncoder", "build_encoder"]
