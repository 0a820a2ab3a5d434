"""A grid of images with truth and prediction below each, wrong and missed words in red."""

from collections.abc import Sequence

from data_pipeline.exploration.grid import Card, GridStyle, Pixels, draw_grid
from data_pipeline.exploration.text_layout import MUTED, Color, Line, Word, line_length, printable, shorten, wrap
from trainers.report.token_diff import Token, mark_tokens
from trainers.tasks.presentation import Example

RIGHT: Color = (26, 127, 75)
WRONG: Color = (209, 36, 47)
STYLE = GridStyle(card_width=490, image_height=120, font_size=13, max_enlargement=3.0)
LABEL_WIDTH = 5  # characters
MAX_LINES = 4  # of the truth, and of the prediction


def draw_sample_grid(examples: Sequence[Example], columns: int = 3, max_examples: int = 30) -> Pixels:
    """The first `max_examples` examples as an image, RGB uint8 (H, W, 3); no examples give an empty grid."""
    return draw_grid([_card(example) for example in examples[:max_examples]], columns, STYLE)


def _card(example: Example) -> Card:
    truth, prediction = mark_tokens(example.truth, example.prediction)
    color = RIGHT if example.correct else WRONG
    mark = Word("✓" if example.correct else "✗", color, bold=True)
    caption = [*_labeled("truth", truth), *_labeled("pred.", prediction or [Token("(nothing)", True)])]
    return Card(example.image, _header(mark, example.id, example.source), caption, edge=color)


def _header(mark: Word, name: str, source: str) -> Line:
    """The mark and the name on the left, the source on the right; of long ones the beginning."""
    right = shorten([Word(source, MUTED)], STYLE.text_width // 3)
    left = shorten([mark, Word(name, MUTED)], STYLE.text_width - line_length(right) - 2)
    blanks = STYLE.text_width - line_length(left) - line_length(right) - 2
    return [*left, Word(" " * blanks), *right] if source else left


def _labeled(label: str, tokens: Sequence[Token]) -> list[Line]:
    """Tokens in lines behind a label."""
    words = [Word(printable(token.text), WRONG, bold=True) if token.wrong else Word(printable(token.text)) for token in tokens]
    lines = wrap(words, STYLE.text_width - LABEL_WIDTH - 1, MAX_LINES) or [[]]
    return [[Word(f"{label if not index else '':{LABEL_WIDTH}}", MUTED), *line] for index, line in enumerate(lines)]
