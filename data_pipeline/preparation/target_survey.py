"""Surveys of targets during preparation: which rows are rejected, and what the manifest states about the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from data_pipeline.dataset.token_targets import MAX_TOKENS, TEXT


class TargetSurvey(Protocol):
    """How a task's targets are checked and summarized while a dataset is built. Pickled; shards are surveyed apart."""

    def problem(self, target: Mapping[str, Any]) -> str:
        """Why a row with this target is rejected; empty if it is not."""

    def of(self, targets: Sequence[Mapping[str, Any]]) -> Any:
        """Survey the targets of one shard."""

    def stats(self, found: Sequence[Any]) -> dict[str, Any]:
        """The `target_stats` of a split, from what was found in its shards."""

    def target(self, declared: Mapping[str, Any], found: Sequence[Any]) -> dict[str, Any]:
        """The manifest's `target`, from what the source declares and what was found in all shards."""


class NoSurvey:
    """Accepts every target and states nothing that the source has not declared."""

    def problem(self, target: Mapping[str, Any]) -> str:
        """Reject nothing."""
        return ""

    def of(self, targets: Sequence[Mapping[str, Any]]) -> None:
        """Find nothing."""

    def stats(self, found: Sequence[Any]) -> dict[str, Any]:
        """Return no statistics."""
        return {}

    def target(self, declared: Mapping[str, Any], found: Sequence[Any]) -> dict[str, Any]:
        """Return what was declared."""
        return dict(declared)


@dataclass(frozen=True)
class TextSurvey:
    """Survey of a sequence dataset: rejects texts of more than `max_tokens` tokens, finds the longest and all tokens.

    The charset is as declared; where it is empty, it is the sorted tokens that occur.
    """

    max_tokens: int = MAX_TOKENS

    def problem(self, target: Mapping[str, Any]) -> str:
        """Why the text is rejected: it is too long."""
        count = len(target[TEXT].split())
        return f"{count:,} tokens, more than the {self.max_tokens:,} allowed" if count > self.max_tokens else ""

    def of(self, targets: Sequence[Mapping[str, Any]]) -> tuple[int, set[str]]:
        """The length of the longest text, and the tokens that occur."""
        texts = [target[TEXT].split() for target in targets]
        return max(map(len, texts), default=0), {token for text in texts for token in text}

    def stats(self, found: Sequence[tuple[int, set[str]]]) -> dict[str, Any]:
        """The length of the longest text of the split, in tokens."""
        return {"max_tokens": max((longest for longest, _ in found), default=0)}

    def target(self, declared: Mapping[str, Any], found: Sequence[tuple[int, set[str]]]) -> dict[str, Any]:
        """The declared charset, or all tokens that occur."""
        return {"charset": declared["charset"] or sorted({token for _, tokens in found for token in tokens})}
