"""Networks that read images, in plain torch: tensors and plain ints in, logits and token ids out."""

from models.config import BackboneConfig, CtcConfig, DecoderConfig, EncoderConfig, ModelConfig, SmallCnnConfig, TimmConfig
from models.decoding import Candidates, Decoding, Generation, check_decoding
from models.errors import ModelConfigError
from models.memory import Memory
from models.output import Output, reverse_targets
from models.recognizer import Recognizer, build_model
from models.spec import OutputSpec

__all__ = [
    "BackboneConfig",
    "Candidates",
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
    "Recognizer",
    "SmallCnnConfig",
    "TimmConfig",
    "build_model",
    "check_decoding",
    "reverse_targets",
]
