"""The interface of a model that texts are decoded with."""

from typing import Protocol

from torch import nn

from models.decoders import Decoder
from models.decoders.directions import DirectionRule
from models.types import OutputSpec


class DecodableModel(Protocol):
    """Attributes of a `Recognizer` that decoding needs; they do not depend on how images became a memory.

    `directions`: the rule that the decoder is trained with; `ctc`: the CTC head, a `NoHead` where it is off.
    """

    output_spec: OutputSpec
    decoder: Decoder
    directions: DirectionRule
    ctc: nn.Module
