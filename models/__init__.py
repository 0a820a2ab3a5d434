"""Networks that read images, in plain torch: tensors and plain ints in, logits and token ids out."""

import models.interrupts  # noqa: F401  # first: torch takes seconds to import

# isort: split
from models.config import (
    BackboneConfig,
    CountingConfig,
    CtcConfig,
    DecoderConfig,
    EncoderConfig,
    ModelConfig,
    SmallCnnConfig,
    StructureConfig,
    TimmConfig,
)
from models.decoders.sampled_tokens import OwnTokens
from models.decoding import Candidates, Decoding, Generation, check_decoding
from models.errors import ModelConfigError
from models.memory import Memory
from models.output import Output, reverse_targets
from models.recognizer import Recognizer, build_model
from models.spec import OutputSpec

__all__ = [
    "BackboneConfig",
    "Candidates",
    "CountingConfig",
    "CtcConfig",
    "DecoderConfig",
    "Decoding",
    "EncoderConfig",
    "Generation",
    "Memory",
    "ModelConfig",
    "ModelConfigError",
    "Output",
    "OutputSpec",
    "OwnTokens",
    "Recognizer",
    "SmallCnnConfig",
    "StructureConfig",
    "TimmConfig",
    "build_model",
    "check_decoding",
    "reverse_targets",
]
