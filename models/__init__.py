"""Networks that read images, in plain torch: tensors and plain ints in, logits and token ids out."""

import models.interrupts  # noqa: F401  # first: torch takes seconds to import

# isort: split
from models.classifier import Classifier, build_classifier
from models.classifier_config import ClassifierBackboneConfig, ClassifierConfig, LabelHeadConfig, PoolingConfig
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
from models.decoders.directions import reverse_targets
from models.decoding import Decoding, check_decoding
from models.errors import ModelConfigError
from models.recognizer import Recognizer, build_model
from models.types import (
    Candidates,
    ClassifierOutput,
    Generation,
    HeadSpec,
    LabelSpec,
    Memory,
    ModelOutput,
    OutputSpec,
    SampledTokens,
)

__all__ = [
    "BackboneConfig",
    "Candidates",
    "Classifier",
    "ClassifierBackboneConfig",
    "ClassifierConfig",
    "ClassifierOutput",
    "CountingConfig",
    "CtcConfig",
    "DecoderConfig",
    "Decoding",
    "EncoderConfig",
    "Generation",
    "HeadSpec",
    "LabelHeadConfig",
    "LabelSpec",
    "Memory",
    "ModelConfig",
    "ModelConfigError",
    "ModelOutput",
    "OutputSpec",
    "PoolingConfig",
    "Recognizer",
    "SampledTokens",
    "SmallCnnConfig",
    "StructureConfig",
    "TimmConfig",
    "build_classifier",
    "build_model",
    "check_decoding",
    "reverse_targets",
]
