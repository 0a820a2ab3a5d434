"""How difficult boards of letters are."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.errors import UserError
from data_pipeline.synthesis.letters.glyphs import LETTERS

BOARD_SIDE = 256  # pixels at which boards are drawn
MAX_SCALE = 6.0  # a glyph of 28 pixels, enlarged so much and turned by 45 degrees, still fits a board
MIN_SCALE = 0.25


@dataclass(frozen=True)
class BoardConfig:
    """What boards look like. The defaults are those of the competition's winner, who drew such boards to train on.

    noise: the largest value of the noise, which is uniform from 0; 0: black.
    rotation: letters are turned by up to half as many degrees to either side; 360: any direction, 0: all stand upright.
    min_scale, max_scale: how much glyphs of 28 pixels are enlarged.
    overlap: whether letters may lie on one another. If not, 64 places are tried for each, and the one is taken at which the box
        around its ink covers least of the others': nothing, unless letters are too many or too large for the board.
    min_letters, max_letters: how many different letters a board has.
    dim: share of the letters that are dimmed, to 0.3 to 0.7 of their brightness.
    dilate: share of the letters whose strokes are made thicker.
    """

    noise: int = 254
    rotation: float = 360.0
    min_scale: float = 1.0
    max_scale: float = 2.0
    overlap: bool = True
    min_letters: int = 10
    max_letters: int = 14
    dim: float = 0.3
    dilate: float = 0.1

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: one that no board can have.
        """
        for key, low, high in (
            ("noise", 0, 255),
            ("rotation", 0, 360),
            ("min_scale", MIN_SCALE, MAX_SCALE),
            ("max_scale", MIN_SCALE, MAX_SCALE),
            ("min_letters", 0, len(LETTERS)),
            ("max_letters", 0, len(LETTERS)),
            ("dim", 0, 1),
            ("dilate", 0, 1),
        ):
            if not low <= getattr(self, key) <= high:
                raise UserError(f"letters: {key}={getattr(self, key)} is not a number from {low} to {high}")
        for name in ("scale", "letters"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low > high:
                raise UserError(f"letters: min_{name}={low} is more than max_{name}={high}")
