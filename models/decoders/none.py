"""The placeholder of a decoder that is off, where only the CTC head reads."""

from torch import Tensor

from models.config import DecoderConfig
from models.decoders.base import Decoder, DecoderCache, DecoderOutput
from models.errors import ModelConfigError
from models.types import Memory, OutputSpec, SampledTokens


def _missing() -> ModelConfigError:
    return ModelConfigError("model.decoder.name", "none: the model only has a CTC head; decode with it, or add a decoder")


class NoDecoder(Decoder):
    """Decoder without parameters: no logits, and an error where tokens are to be decoded."""

    def __init__(self, config: DecoderConfig, memory_dim: int, output_spec: OutputSpec) -> None:
        super().__init__()
        self.out_dim = 0
        if config.direction != "forward":
            raise ModelConfigError(
                "model.decoder.direction", f"{config.direction}, but model.decoder.name is none; use forward"
            )

    def decode_hidden(self, tgt_in: Tensor, memory: Memory, sampled: SampledTokens | None = None) -> DecoderOutput:
        """Empty output."""
        return DecoderOutput(None, None)

    def start(self, memory: Memory, max_length: int, beams: int = 1) -> DecoderCache:
        """Raises ModelConfigError."""
        raise _missing()

    def step(self, tokens: Tensor, cache: DecoderCache, need_weights: bool = False) -> Tensor:
        """Raises ModelConfigError."""
        raise _missing()
