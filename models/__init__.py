"""Networks that read images, in plain torch: tensors and plain ints in, logits and token ids out."""

from models.config import BackboneConfig, DecoderConfig, EncoderConfig, ModelConfig, SmallCnnConfig, TimmConfig
from models.decoding import Candidates, Decoding, Generation
from models.errors import ModelConfigError
from models.recognizer import Recognizer, build_model
from models.spec import OutputSpec

__all__ = [
    "BackboneConfig",
    "DecoderConfig",
    "Decoding",
    "EncoderConfig",
    "Generation",
    "ModelConfig",
    "ModelConfigError",
    "OutputSpec",
    "Recognizer",
    "SmallCnnConfig",
    "TimmConfig",
    "build_model",
]
