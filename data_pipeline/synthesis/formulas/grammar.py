"""Random formulas that look like mathematics: what is drawn, how long and how deep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cluster.errors import UserError
from data_pipeline.synthesis.formulas.nodes import STRUCTURE_TOKENS, Node, depth, ink_width, tokens
from data_pipeline.synthesis.formulas.statements import statement
from data_pipeline.synthesis.formulas.symbols import VISIBLE_TOKENS

__all__ = ["FormulaConfig", "charset", "random_formula", "tokens"]

_DRAWS = 2000


@dataclass
class FormulaConfig:
    """What formulas are drawn.

    min_tokens, max_tokens: bounds of a formula's length in LaTeX tokens, braces included.
    max_depth: how many scripts, fractions and roots may lie inside each other.
    max_width: bound of a formula's width on paper, in widths of a digit.
    num_writers: how many handwritings there are.
    """

    min_tokens: int = 3
    max_tokens: int = 24
    max_depth: int = 2
    max_width: float = 10.5
    num_writers: int = 200

    def __post_init__(self) -> None:
        for key, lowest in (("min_tokens", 1), ("max_depth", 1), ("max_width", 4.0), ("num_writers", 1)):
            if getattr(self, key) < lowest:
                raise UserError(f"formulas: {key}={getattr(self, key)} is too small; it must be at least {lowest}")
        if self.max_tokens < self.min_tokens:
            raise UserError(
                f"formulas: max_tokens={self.max_tokens} is less than min_tokens={self.min_tokens}; raise max_tokens"
            )


def random_formula(rng: np.random.Generator, config: FormulaConfig) -> Node:
    """Draw formulas until one is within the bounds of the configuration.

    Raises UserError when 2,000 draws gave none, which means that the bounds exclude nearly every formula.
    """
    for _ in range(_DRAWS):
        node = statement(rng, config.max_depth)
        if (
            config.min_tokens <= len(tokens(node)) <= config.max_tokens
            and depth(node) <= config.max_depth
            and ink_width(node) <= config.max_width
        ):
            return node
    raise UserError(
        f"formulas: none of {_DRAWS} drawn formulas has {config.min_tokens} to {config.max_tokens} tokens, depth up to "
        f"{config.max_depth} and width up to {config.max_width}; widen min_tokens..max_tokens, max_depth or max_width"
    )


def charset(config: FormulaConfig) -> list[str]:
    """All tokens that a formula can have, in declared order."""
    return [*VISIBLE_TOKENS, *STRUCTURE_TOKENS]
