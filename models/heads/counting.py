"""A head that counts tokens (CAN, Li et al. 2022, "When Counting Meets HMER: Counting-Aware Network for Handwritten
Mathematical Expression Recognition").

Legend: B batch, S source positions, M width of the memory, V vocabulary.
"""

from collections.abc import Callable

from torch import Tensor, nn

from models.checks import check_numbers
from models.choices import choose
from models.config import CountingConfig, CountingHeadName
from models.memory import Memory
from models.spec import OutputSpec

# A head starts by seeing next to nothing: with half a token of each class at each of some hundred places, the first steps
# would go into forgetting them.
START = -6.0


class LinearCountingHead(nn.Module):
    """The chance that a place holds a token, by a linear map, summed over the places of the map that are image."""

    def __init__(self, config: CountingConfig, memory_dim: int, output_spec: OutputSpec) -> None:
        super().__init__()
        self.drop = nn.Dropout(config.drop_rate)
        self.head = nn.Linear(memory_dim, output_spec.num_classes)
        nn.init.constant_(self.head.bias, START)

    def forward(self, memory: Memory) -> Tensor:
        """Counts (B, V) in float32 or better, from 0 to the number of places."""
        chances = self.head(self.drop(memory.tokens[:, memory.prefix :]))
        chances = chances.to(self.head.weight.dtype).sigmoid()
        if memory.mask is None:
            return chances.sum(1)
        return chances.masked_fill(~memory.mask[:, memory.prefix :, None], 0.0).sum(1)


class NoCountingHead(nn.Module):
    """In the place of a head that is off."""

    def __init__(self, config: CountingConfig, memory_dim: int, output_spec: OutputSpec) -> None:
        super().__init__()

    def forward(self, memory: Memory) -> None:
        """Nothing."""
        return None


CountingHead = LinearCountingHead | NoCountingHead
COUNTING_HEADS: dict[CountingHeadName, Callable[[CountingConfig, int, OutputSpec], CountingHead]] = {
    "none": NoCountingHead,
    "linear": LinearCountingHead,
}


def build_counting_head(config: CountingConfig, memory_dim: int, output_spec: OutputSpec) -> CountingHead:
    """The configured head over a memory of width `memory_dim`."""
    check_numbers(config, "model.counting")
    return choose(COUNTING_HEADS, config.head, "model.counting.head")(config, memory_dim, output_spec)
