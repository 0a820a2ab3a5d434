"""No decoder: the CTC head reads."""

from torch import Tensor

from models.config import DecoderConfig
from models.decoders.base import Answer, Decoder, DecoderCache
from models.decoders.sampled_tokens import OwnTokens
from models.errors import ModelConfigError
from models.memory import Memory
from models.spec import OutputSpec


def _missing() -> ModelConfigError:
    return ModelConfigError("model.decoder.name", "none: only the CTC head reads; decode with it, or configure a decoder")


class NoDecoder(Decoder):
    """Gives no logits and cannot be asked for tokens."""

    def __init__(self, config: DecoderConfig, memory_dim: int, output_spec: OutputSpec) -> None:
        super().__init__()
        self.out_dim = 0
        if config.direction != "forward":
            raise ModelConfigError(
                "model.decoder.direction", f"{config.direction}, but model.decoder.name is none; use forward"
            )

    def answer(self, tgt_in: Tensor, memory: Memory, own: OwnTokens | None = None) -> Answer:
        """Nothing: there are no logits."""
        return Answer(None, None)

    def start(self, memory: Memory, max_length: int, beams: int = 1) -> DecoderCache:
        """Raises ModelConfigError."""
        raise _missing()

    def step(self, tokens: Tensor, cache: DecoderCache, need_weights: bool = False) -> Tensor:
        """Raises ModelConfigError."""
        raise _missing()
