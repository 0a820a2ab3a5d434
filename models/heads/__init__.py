"""Heads that read the memory or the states of the decoder, beside the decoder's own map to tokens.

Each is built from (its config, width of its input, OutputSpec); a head that is off is `NoHead`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from torch import nn

from models.checks import check_numbers, lookup
from models.config import CountingConfig, CtcConfig, StructureConfig
from models.heads.counting import COUNTING_HEADS
from models.heads.ctc import CTC_HEADS
from models.heads.structure import STRUCTURE_HEADS
from models.types import OutputSpec

HeadKind = Literal["ctc", "counting", "structure"]
HEADS: dict[HeadKind, Mapping[Any, Callable[..., nn.Module]]] = {
    "ctc": CTC_HEADS,
    "counting": COUNTING_HEADS,
    "structure": STRUCTURE_HEADS,
}


def build_head(
    kind: HeadKind, config: CtcConfig | CountingConfig | StructureConfig, input_dim: int, output_spec: OutputSpec
) -> nn.Module:
    """Builds the configured head over an input of width `input_dim`, 0 where there is none (no decoder).

    Raises:
        ModelConfigError: bad settings, or a head without what it needs.
    """
    check_numbers(config, f"model.{kind}")
    return lookup(HEADS[kind], config.head, f"model.{kind}.head")(config, input_dim, output_spec)


__all__ = ["HEADS", "build_head"]
