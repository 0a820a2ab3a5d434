"""Which tokens may come next.

A grammar follows all rows of a search: `restrict` takes forbidden tokens out of the log-probabilities, which stay those
of the model (they are not normalised again), `reorder` and `advance` take the rows to what they read next.

Legend: R rows (greedy: one an image; beam search: K an image), V vocabulary.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from models.decoding.settings import Decoding
from models.errors import ModelConfigError
from models.spec import OutputSpec


class Grammar(ABC):
    """What the rows of a search may emit."""

    @abstractmethod
    def restrict(self, log_probs: Tensor, remaining: int) -> Tensor:
        """`log_probs` (R, V) with -inf at what must not be the next token, the first of `remaining` that there is room for."""

    @abstractmethod
    def reorder(self, rows: Tensor) -> None:
        """Row r goes on from what row `rows[r]` has emitted: int64 (R,)."""

    @abstractmethod
    def advance(self, tokens: Tensor) -> None:
        """The rows emit `tokens` int64 (R,)."""


class AnyTokens(Grammar):
    """No rule."""

    def restrict(self, log_probs: Tensor, remaining: int) -> Tensor:
        """All of it."""
        return log_probs

    def reorder(self, rows: Tensor) -> None:
        """Nothing to do."""

    def advance(self, tokens: Tensor) -> None:
        """Nothing to do."""


class OpenGroups:
    """The groups that are open in each row: `close_ids[i]` closes what `open_ids[i]` opens, innermost first.

    `depth` (R,) counts them. The stack holds the token that ends each; at its bottom lies EOS, which ends the text.
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
        """The token (R, 1) that ends the innermost group of each row, EOS where none is open."""
        return self.stack.gather(1, self.depth[:, None])

    def reorder(self, rows: Tensor) -> None:
        """Row r goes on from row `rows[r]`."""
        self.depth, self.stack = self.depth[rows], self.stack[rows]

    def advance(self, tokens: Tensor) -> None:
        """The rows emit `tokens` (R,)."""
        # What lies above the top does not count, so that every token may leave there what would end its group.
        self.stack.scatter_(1, self.depth[:, None] + 1, self.end_of[tokens][:, None])
        # Rows that a search has given up may have emitted what is forbidden.
        self.depth = (self.depth + self.change[tokens]).clamp(0, self.depth_limit)


class WholeTexts(Grammar):
    """Texts that hold neither BOS nor PAD, whose groups are closed, and that end with EOS within the limit."""

    def __init__(self, spec: OutputSpec, rows: int, limit: int, device: torch.device) -> None:
        self.groups = OpenGroups(spec, rows, limit // 2, device)
        inner = ~self.groups.closes
        inner[[spec.bos_id, spec.eos_id, spec.pad_id]] = False
        # By how many tokens may still come besides those that end what is open: none, one, more.
        self.allowed = torch.stack([torch.zeros_like(inner), inner & ~self.groups.opens, inner])

    def restrict(self, log_probs: Tensor, remaining: int) -> Tensor:
        """-inf at what leads to no whole text."""
        spare = (remaining - 1 - self.groups.depth).clamp(0, 2)
        allowed = self.allowed[spare].scatter(1, self.groups.end(), True)
        return log_probs.masked_fill(~allowed, -torch.inf)

    def reorder(self, rows: Tensor) -> None:
        """Row r goes on from row `rows[r]`."""
        self.groups.reorder(rows)

    def advance(self, tokens: Tensor) -> None:
        """The rows emit `tokens` (R,)."""
        self.groups.advance(tokens)


def build_grammar(decoding: Decoding, spec: OutputSpec, rows: int, limit: int, device: torch.device) -> Grammar:
    """The grammar that the settings ask for; candidates that are judged as texts have to be whole texts."""
    if decoding.balanced:
        check_groups(spec)
        return WholeTexts(spec, rows, limit, device)
    if decoding.two_way or decoding.ctc_weight > 0:
        return WholeTexts(without_groups(spec), rows, limit, device)
    return AnyTokens()


def without_groups(spec: OutputSpec) -> OutputSpec:
    """The same vocabulary, which names no groups."""
    return OutputSpec(spec.num_classes, spec.bos_id, spec.eos_id, spec.pad_id, spec.max_length)


def right_to_left(spec: OutputSpec) -> OutputSpec:
    """The vocabulary as a decoder sees it that reads from right to left: ends begin, and what closes opens."""
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
    """Raises ModelConfigError where balanced texts are asked of a vocabulary that does not say what these are."""
    if not spec.open_ids or not spec.close_ids:
        raise ModelConfigError("decoding.balanced", "the vocabulary names no groups (OutputSpec.open_ids and close_ids)")
    ids = [*spec.open_ids, *spec.close_ids]
    if len(spec.open_ids) != len(spec.close_ids) or len(set(ids)) < len(ids):
        raise ModelConfigError(
            "decoding.balanced",
            f"open_ids {spec.open_ids} and close_ids {spec.close_ids} must be pairs, each token in one place only",
        )
