"""The counting head (CAN, Li et al. 2022, "When Counting Meets HMER: Counting-Aware Network for Handwritten
Mathematical Expression Recognition").

Legend: B batch, S source positions, M width of the memory, V vocabulary.
"""

from torch import Tensor, nn

from models.config import CountingConfig, CountingHeadName
from models.heads.off import NoHead
from models.types import Memory, OutputSpec

# Bias that makes initial counts nearly 0: half a token of each class at some hundred positions would cost the first steps of
# training to unlearn.
INITIAL_BIAS = -6.0


class LinearCountingHead(nn.Module):
    """Linear map to the probability of each token at a position, summed over the image area of the feature map."""

    def __init__(self, config: CountingConfig, memory_dim: int, output_spec: OutputSpec) -> None:
        super().__init__()
        self.drop = nn.Dropout(config.drop_rate)
        self.head = nn.Linear(memory_dim, output_spec.num_classes)
        nn.init.constant_(self.head.bias, INITIAL_BIAS)

    def forward(self, memory: Memory) -> Tensor:
        """Counts (B, V) in float32 or better, from 0 to the number of positions."""
        probs = self.head(self.drop(memory.tokens[:, memory.prefix :]))
        probs = probs.to(self.head.weight.dtype).sigmoid()
        if memory.mask is None:
            return probs.sum(1)
        return probs.masked_fill(~memory.mask[:, memory.prefix :, None], 0.0).sum(1)


COUNTING_HEADS: dict[CountingHeadName, type[nn.Module]] = {"none": NoHead, "linear": LinearCountingHead}
