"""The structure head: predicts the nesting of a text from the states of the decoder.

Legend: B batch, T target positions, D width of the decoder, L levels.
"""

from torch import Tensor, nn

from models.config import StructureConfig, StructureHeadName
from models.errors import ModelConfigError
from models.heads.off import NoHead
from models.types import OutputSpec

KEY = "model.structure"


class NestingHead(nn.Module):
    """Linear map to the nesting level of the next token (cf. the nested levels of PosFormer, Guan et al. 2024)."""

    def __init__(self, config: StructureConfig, hidden_dim: int, output_spec: OutputSpec) -> None:
        super().__init__()
        if hidden_dim == 0:
            raise ModelConfigError(
                f"{KEY}.head", "nesting needs the states of a decoder, but model.decoder.name is none; set it to none"
            )
        if not output_spec.open_ids or not output_spec.close_ids:
            raise ModelConfigError(
                f"{KEY}.head",
                "nesting, but the vocabulary defines no groups (OutputSpec.open_ids and close_ids); set it to none",
            )
        self.drop = nn.Dropout(config.drop_rate)
        self.head = nn.Linear(hidden_dim, config.max_level + 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """States (B, T, D) to logits (B, T, L) of the levels from 0 to `max_level`."""
        return self.head(self.drop(hidden))


STRUCTURE_HEADS: dict[StructureHeadName, type[nn.Module]] = {"none": NoHead, "nesting": NestingHead}
