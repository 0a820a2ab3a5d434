"""The CTC head (Graves et al. 2006): every column of the memory names a token or the blank.

Legend: B batch, S source positions, M width of the memory, h w height and width of the feature map, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.checks import check_numbers
from models.choices import choose
from models.config import CtcConfig, CtcHeadName
from models.memory import Memory
from models.spec import OutputSpec


class LinearCtcHead(nn.Module):
    """A linear map from the columns of the map, rows averaged, to tokens; `bos_id`, which no text holds, is the blank."""

    def __init__(self, config: CtcConfig, memory_dim: int, output_spec: OutputSpec) -> None:
        super().__init__()
        self.drop = nn.Dropout(config.drop_rate)
        self.head = nn.Linear(memory_dim, output_spec.num_classes)

    def forward(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """Logits (B, w, V) and how many columns of each image count, int64 (B,)."""
        columns = memory.tokens[:, memory.prefix :].unflatten(1, memory.size).mean(1)
        logits = self.head(self.drop(columns))
        if memory.mask is None:
            return logits, torch.full((logits.shape[0],), logits.shape[1], device=logits.device)
        # A column is on the image in all its rows or in none.
        return logits, memory.mask[:, memory.prefix :].unflatten(1, memory.size)[:, 0].sum(1)


class NoCtcHead(nn.Module):
    """In the place of a head that is off."""

    def __init__(self, config: CtcConfig, memory_dim: int, output_spec: OutputSpec) -> None:
        super().__init__()

    def forward(self, memory: Memory) -> tuple[None, None]:
        """Nothing."""
        return None, None


CtcHead = LinearCtcHead | NoCtcHead
CTC_HEADS: dict[CtcHeadName, Callable[[CtcConfig, int, OutputSpec], CtcHead]] = {"none": NoCtcHead, "linear": LinearCtcHead}


def build_ctc_head(config: CtcConfig, memory_dim: int, output_spec: OutputSpec) -> CtcHead:
    """The configured head over a memory of width `memory_dim`."""
    check_numbers(config, "model.ctc")
    return choose(CTC_HEADS, config.head, "model.ctc.head")(config, memory_dim, output_spec)
