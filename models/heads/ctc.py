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
    """A linear map from the columns of the map, each the mean of its rows on the image, to tokens.

    `bos_id`, which no text holds, is the blank.
    """

    def __init__(self, config: CtcConfig, memory_dim: int, output_spec: OutputSpec) -> None:
        super().__init__()
        self.drop = nn.Dropout(config.drop_rate)
        self.head = nn.Linear(memory_dim, output_spec.num_classes)

    def forward(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """Logits (B, w, V) and how many columns of each image count, int64 (B,)."""
        places, area = memory.tokens[:, memory.prefix :].unflatten(1, memory.size), memory.area()
        if area is None:
            logits = self.head(self.drop(places.mean(1)))
            return logits, torch.full((logits.shape[0],), logits.shape[1], device=logits.device)
        if memory.size[0] > 1:  # the first column is on the image in all rows that are
            places = places * (area / area[:, :, :1].sum(1, keepdim=True))[..., None].to(places.dtype)
        return self.head(self.drop(places.sum(1))), area[:, 0].sum(1)


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
