"""Glyphs that boards are made of, and their division among the splits: no two splits share one."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cluster.errors import UserError
from data_pipeline.synthesis.parts import Part

LETTERS = tuple(string.ascii_lowercase)
GLYPH_SIDE = 28  # pixels, as in MNIST and EMNIST
_SHARES = {"val": 0.1, "test": 0.1}  # of the glyphs; train, or the folds, get the rest


@dataclass(frozen=True, eq=False)
class Glyphs:
    """Glyphs uint8 (N, 28, 28), white on black, sorted by letter: those of letter k are `starts[k]` to `starts[k + 1]`."""

    pixels: np.ndarray
    starts: tuple[int, ...]

    def of(self, letter: int) -> np.ndarray:
        """All glyphs of a letter, by its place in the alphabet."""
        return self.pixels[self.starts[letter] : self.starts[letter + 1]]


def as_glyphs(by_letter: Mapping[str, np.ndarray]) -> Glyphs:
    """Put together the glyphs of all letters."""
    counts = [len(by_letter[letter]) for letter in LETTERS]
    return Glyphs(np.concatenate([by_letter[letter] for letter in LETTERS]), (0, *map(int, np.cumsum(counts))))


def divide(glyphs: Glyphs, parts: Mapping[str, Part], seed: int) -> dict[str, Glyphs]:
    """Divide glyphs among splits: for each letter, those of one split are in no other, nor is a copy of one of them.

    A tenth of the different glyphs goes to `val` and to `test` each, where they exist, and the rest in equal parts to the
    others. Which glyph goes where is a function of its pixels and the seed, whatever their order.

    Raises:
        UserError: a letter has fewer different glyphs than there are splits.
    """
    others = [split for split in parts if split not in _SHARES]
    rest = 1 - sum(share for split, share in _SHARES.items() if split in parts)
    shares = [_SHARES.get(split, rest / max(1, len(others))) for split in parts]
    divided: dict[str, dict[str, np.ndarray]] = {split: {} for split in parts}
    for number, letter in enumerate(LETTERS):
        different = {hashlib.sha256(f"{seed} ".encode() + glyph.tobytes()).digest(): glyph for glyph in glyphs.of(number)}
        if len(different) < len(parts):
            raise UserError(
                f"letter '{letter}' has {len(different)} different glyphs, and the {len(parts)} splits need one each, which no "
                "other split has. Give more glyphs, or fewer --folds."
            )
        ordered = np.stack([different[key] for key in sorted(different)])
        # Each split gets one, and of what is left its share.
        spare = len(ordered) - len(parts)
        cuts = [round(sum(shares[:place]) * spare) + place for place in range(len(parts) + 1)]
        for place, split in enumerate(parts):
            divided[split][letter] = ordered[cuts[place] : cuts[place + 1]]
    return {split: as_glyphs(by_letter) for split, by_letter in divided.items()}
