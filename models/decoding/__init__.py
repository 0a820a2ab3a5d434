"""Decoding: from the memory of images to token ids."""

from models.decoding.decode import check_decoding, decode
from models.decoding.settings import Candidates, Decoding, DecodingMethod, Generation

__all__ = ["Candidates", "Decoding", "DecodingMethod", "Generation", "check_decoding", "decode"]
