"""Which tokens of a prediction are wrong, and which of the truth were missed."""

from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein


@dataclass(frozen=True)
class Token:
    """A token and whether it has no counterpart on the other side."""

    text: str
    wrong: bool


def mark_tokens(truth: str, prediction: str) -> tuple[list[Token], list[Token]]:
    """Both texts, split at blanks and aligned with the fewest edits (Levenshtein): truth, prediction.

    The tokens that are not wrong are the same on both sides, in the same order.
    """
    truth_tokens, predicted_tokens = truth.split(), prediction.split()
    marked: tuple[list[Token], list[Token]] = ([], [])
    for edit in Levenshtein.opcodes(truth_tokens, predicted_tokens):
        wrong = edit.tag != "equal"
        marked[0].extend(Token(text, wrong) for text in truth_tokens[edit.src_start : edit.src_end])
        marked[1].extend(Token(text, wrong) for text in predicted_tokens[edit.dest_start : edit.dest_end])
    return marked
