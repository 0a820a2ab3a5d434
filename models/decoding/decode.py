"""The way of decoding that the settings ask for."""

from typing import TYPE_CHECKING

from models.decoding.greedy import greedy_decode
from models.decoding.settings import Decoding, Generation
from models.memory import Memory

if TYPE_CHECKING:
    from models.recognizer import Recognizer


def decode(model: "Recognizer", memory: Memory, decoding: Decoding) -> Generation:
    """Texts of the images in `memory`, by the heads of `model`."""
    return greedy_decode(model.decoder, memory, decoding, model.output_spec)
