"""A head that tells the structure of a text from the states of the decoder that writes it.

Legend: B batch, T target positions, D width of the decoder, L levels.
"""

from collections.abc import Callable

from torch import Tensor, nn

from models.checks import check_numbers
from models.choices import choose
from models.config import StructureConfig, StructureHeadName
from models.errors import ModelConfigError
from models.spec import OutputSpec

KEY = "model.structure"


class NestingHead(nn.Module):
    """How many groups the next token stands in, by a linear map (cf. the nested levels of PosFormer, Guan et al. 2024)."""

    def __init__(self, config: StructureConfig, hidden_dim: int, output_spec: OutputSpec) -> None:
        super().__init__()
        if hidden_dim == 0:
            raise ModelConfigError(
                f"{KEY}.head", "nesting reads the states of a decoder, but model.decoder.name is none; set it to none"
            )
        if not output_spec.open_ids or not output_spec.close_ids:
            raise ModelConfigError(
                f"{KEY}.head", "nesting, but the vocabulary names no groups (OutputSpec.open_ids and close_ids); set it to none"
            )
        self.drop = nn.Dropout(config.drop_rate)
        self.head = nn.Linear(hidden_dim, config.max_level + 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """States (B, T, D) to logits (B, T, L) of the levels from 0 to `max_level`."""
        return self.head(self.drop(hidden))


class NoStructureHead(nn.Module):
    """In the place of a head that is off."""

    def __init__(self, config: StructureConfig, hidden_dim: int, output_spec: OutputSpec) -> None:
        super().__init__()

    def forward(self, hidden: Tensor | None) -> None:
        """Nothing."""
        return None


StructureHead = NestingHead | NoStructureHead
STRUCTURE_HEADS: dict[StructureHeadName, Callable[[StructureConfig, int, OutputSpec], StructureHead]] = {
    "none": NoStructureHead,
    "nesting": NestingHead,
}


def build_structure_head(config: StructureConfig, hidden_dim: int, output_spec: OutputSpec) -> StructureHead:
    """The configured head over hidden states of width `hidden_dim`, 0 where there is no decoder.

    Raises:
        ModelConfigError: it has no states to read, or no groups to count.
    """
    check_numbers(config, KEY)
    return choose(STRUCTURE_HEADS, config.head, f"{KEY}.head")(config, hidden_dim, output_spec)
