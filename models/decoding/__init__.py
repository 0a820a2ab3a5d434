"""Decoding: from the memory of images to token ids."""

from models.decoding.decode import check_decoding, decode
from models.decoding.settings import Decoding, DecodingMethod

__all__ = ["Decoding", "DecodingMethod", "check_decoding", "decode"]
