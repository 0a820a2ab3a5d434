"""Contact sheets of an augmentation: a row for each image, first as it is, then as it is drawn in one epoch after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from data_pipeline.augmentation.chain import Chain
from data_pipeline.exploration.grid import GAP, Card, GridStyle, Pixels, draw_grid
from data_pipeline.exploration.text_layout import Word, wrap

DRAWS = 5
_EDGE = (76, 110, 245)  # marks the image that the others of its row come from


@dataclass(frozen=True)
class Example:
    """An image of a dataset: uint8 (H, W[, 3]), the id of its row, which its draws follow from, and its caption."""

    pixels: Pixels
    sample_id: str
    caption: str


def augmented_grid(examples: Sequence[Example], chain: Chain, seed: int = 0, draws: int = DRAWS) -> Pixels:
    """A contact sheet, RGB uint8 (H, W, 3): the images that a run with `seed` trains on in its first epochs."""
    style = GridStyle()
    highest = max((example.pixels.shape[0] / example.pixels.shape[1] for example in examples), default=0.0)
    wide = style.card_width - 2 * GAP
    style = replace(style, image_height=round(min(max(style.image_height, wide * highest), wide)))  # square ones fill a card
    cards = []
    for example in examples:
        words = [Word(word) for word in example.caption.split()]
        cards.append(Card(example.pixels, caption=wrap(words, style.text_width, 1) or [[]], edge=_EDGE))
        for epoch in range(draws):
            image = chain(example.pixels, seed, epoch, example.sample_id)
            cards.append(Card(image, caption=[[Word(f"epoch {epoch}")]]))
    return draw_grid(cards, 1 + draws, style)
