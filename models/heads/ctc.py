"""The CTC head (Graves et al. 2006): logits of tokens and the blank for every column of the feature map.

Legend: B batch, S source positions, M width of the memory, h w height and width of the feature map, V vocabulary.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from models.config import CtcConfig, CtcHeadName
from models.heads.off import NoHead
from models.types import Memory, OutputSpec


class LinearCtcHead(nn.Module):
    """Linear map from the columns of the feature map, each the mean of its rows on the image, to tokens.

    The blank is `bos_id`, which is never part of a text.
    """

    def __init__(self, config: CtcConfig, memory_dim: int, output_spec: OutputSpec) -> None:
        super().__init__()
        self.drop = nn.Dropout(config.drop_rate)
        self.head = nn.Linear(memory_dim, output_spec.num_classes)

    def forward(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """Logits (B, w, V) and the number of columns of each image, int64 (B,)."""
        features, area = memory.tokens[:, memory.prefix :].unflatten(1, memory.size), memory.area()
        if area is None:
            logits = self.head(self.drop(features.mean(1)))
            return logits, torch.full((logits.shape[0],), logits.shape[1], device=logits.device)
        if memory.size[0] > 1:  # the first column shows how many rows are on the image
            features = features * (area / area[:, :, :1].sum(1, keepdim=True))[..., None].to(features.dtype)
        return self.head(self.drop(features.sum(1))), area[:, 0].sum(1)


CTC_HEADS: dict[CtcHeadName, Callable[..., nn.Module]] = {"none": partial(NoHead, outputs=2), "linear": LinearCtcHead}
