"""Constraints on the next token in decoding.

A grammar follows all rows of a search: `restrict` removes forbidden tokens from the log-probabilities, which stay those of
the model (they are not normalized again); `reorder` and `advance` update the rows after each step.

Legend: R rows (greedy: one an image; beam search: K an image), V vocabulary.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from models.decoding.settings import Decoding
from models.errors import ModelConfigError
from models.types import OutputSpec


class Grammar(ABC):
    """Base class of constraints on the tokens that the rows of a search emit."""

    @abstractmethod
    def restrict(self, log_probs: Tensor, remaining: int) -> Tensor:
        """Sets `log_probs` (R, V) to -inf at forbidden next tokens; `remaining` tokens fit, the next one included."""

    @abstractmethod
    def reorder(self, rows: Tensor) -> None:
        """Makes row r continue the text of row `rows[r]`: int64 (R,)."""

    @abstractmethod
    def advance(self, tokens: Tensor) -> None:
        """Appends `tokens` int64 (R,) to the rows."""


class Unrestricted(Grammar):
    """Grammar that allows every token."""

    def restrict(self, log_probs: Tensor, remaining: int) -> Tensor:
        """`log_probs` unchanged."""
        return log_probs

    def reorder(self, rows: Tensor) -> None:
        """Does nothing: there is no state."""

    def advance(self, tokens: Tensor) -> None:
        """Does nothing: there is no state."""


class OpenGroups:
    """Stack of the open groups of each row: `close_ids[i]` closes what `open_ids[i]` opens, innermost first.

    `depth` (R,) counts them. The stack holds the closing token of each; at its bottom is EOS, which ends the text.
    """

    def __init__(self, spec: OutputSpec, rows: int, depth_limit: int, device: torch.device) -> None:
        self.depth_limit = depth_limit if spec.open_ids else 0
        self.depth = torch.zeros(rows, dtype=torch.long, device=device)
        self.stack = torch.full((rows, self.depth_limit + 2), spec.eos_id, device=device)
        opening = torch.tensor(spec.open_ids, dtype=torch.long, device=device)
        closing = torch.tensor(spec.close_ids, dtype=torch.long, device=device)
        self.end_of = torch.full((spec.num_classes,), spec.eos_id, device=device)
        self.end_of[opening] = closing
        self.opens = torch.zeros(spec.num_classes, dtype=torch.bool, device=device)
        self.opens[opening] = True
        self.closes = torch.zeros_like(self.opens)
        self.closes[closing] = True
        self.change = self.opens.long() - self.closes.long()

    def end(self) -> Tensor:
        """Closing token (R, 1) of the innermost group of each row, EOS where none is open."""
        return self.stack.gather(1, self.depth[:, None])

    def reorder(self, rows: Tensor) -> None:
        """Makes row r continue from row `rows[r]`."""
        self.depth, self.stack = self.depth[rows], self.stack[rows]

    def advance(self, tokens: Tensor) -> None:
        """Appends `tokens` (R,) to the rows."""
        # Entries above the top do not count, so every token may write the closing token of its group there.
        self.stack.scatter_(1, self.depth[:, None] + 1, self.end_of[tokens][:, None])
        # Rows that a search has abandoned may have emitted forbidden tokens.
        self.depth = (self.depth + self.change[tokens]).clamp(0, self.depth_limit)


class CompleteTexts(Grammar):
    """Grammar of texts without BOS and PAD, with all groups closed, that end with EOS within the limit."""

    def __init__(self, spec: OutputSpec, rows: int, limit: int, device: torch.device) -> None:
        self.groups = OpenGroups(spec, rows, limit // 2, device)
        inner = ~self.groups.closes
        inner[[spec.bos_id, spec.eos_id, spec.pad_id]] = False
        # Indexed by the number of tokens that fit besides those that close open groups: none, one, more.
        self.allowed = torch.stack([torch.zeros_like(inner), inner & ~self.groups.opens, inner])

    def restrict(self, log_probs: Tensor, remaining: int) -> Tensor:
        """Sets `log_probs` to -inf at tokens that cannot lead to a complete text."""
        spare = (remaining - 1 - self.groups.depth).clamp(0, 2)
        allowed = self.allowed[spare].scatter(1, self.groups.end(), True)
        return log_probs.masked_fill(~allowed, -torch.inf)

    def reorder(self, rows: Tensor) -> None:
        """Makes row r continue from row `rows[r]`."""
        self.groups.reorder(rows)

    def advance(self, tokens: Tensor) -> None:
        """Appends `tokens` (R,) to the rows."""
        self.groups.advance(tokens)


def build_grammar(decoding: Decoding, spec: OutputSpec, rows: int, limit: int, device: torch.device) -> Grammar:
    """Builds the grammar of the settings; candidates that are rescored have to be complete texts."""
    if decoding.balanced:
        check_groups(spec)
        return CompleteTexts(spec, rows, limit, device)
    if decoding.two_way or decoding.ctc_weight > 0:
        return CompleteTexts(without_groups(spec), rows, limit, device)
    return Unrestricted()


def without_groups(spec: OutputSpec) -> OutputSpec:
    """The same vocabulary without groups."""
    return OutputSpec(spec.num_classes, spec.bos_id, spec.eos_id, spec.pad_id, spec.max_length)


def right_to_left(spec: OutputSpec) -> OutputSpec:
    """The vocabulary as seen by a decoder from right to left: EOS begins a text, and closing tokens open groups."""
    return OutputSpec(
        spec.num_classes,
        spec.eos_id,
        spec.bos_id,
        spec.pad_id,
        spec.max_length,
        open_ids=spec.close_ids,
        close_ids=spec.open_ids,
    )


def check_groups(spec: OutputSpec) -> None:
    """Raises ModelConfigError where balanced texts are requested of a vocabulary without pairs of group tokens."""
    if not spec.open_ids or not spec.close_ids:
        raise ModelConfigError("decoding.balanced", "the vocabulary names no groups (OutputSpec.open_ids and close_ids)")
    ids = [*spec.open_ids, *spec.close_ids]
    if len(spec.open_ids) != len(spec.close_ids) or len(set(ids)) < len(ids):
        raise ModelConfigError(
            "decoding.balanced",
            f"open_ids {spec.open_ids} and close_ids {spec.close_ids} must be pairs, and no token may appear twice",
        )
