"""Figures of a sequence recognizer as sums and counts: they add up over batches, ranks and files, and are divided once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from rapidfuzz.distance import Levenshtein


@dataclass
class SequenceSums:
    """Sums over `count` predictions."""

    count: int = 0
    exact: int = 0  # token sequences that are equal
    within_one: int = 0  # at most one edit
    within_two: int = 0
    edits: int = 0  # Levenshtein distance in tokens
    tokens: int = 0  # tokens of the truths
    characters_edits: int = 0
    characters: int = 0
    source_wer: float = 0.0  # sum of the source system's per-sample rate
    loss: float = 0.0  # teacher-forced, of all heads, neither smoothed nor with repulsion, summed over loss_tokens
    loss_tokens: int = 0
    rejected: int = 0  # rows whose image could not be decoded: read, counted, not judged

    def add(self, prediction: str, truth: str) -> None:
        """Count one prediction; both are tokens separated by one space."""
        predicted, true = prediction.split(), truth.split()
        edits = Levenshtein.distance(predicted, true)
        self.count += 1
        self.exact += edits == 0
        self.within_one += edits <= 1
        self.within_two += edits <= 2
        self.edits += edits
        self.tokens += len(true)
        self.characters_edits += Levenshtein.distance(prediction, truth)
        self.characters += len(truth)
        self.source_wer += source_wer(prediction, truth)

    def __iadd__(self, other: SequenceSums) -> SequenceSums:
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))
        return self

    def averages(self) -> dict[str, float]:
        """The figures, as shares.

        `exact_match` is the expression rate; `wer` and `cer` are edits over the length of the truths, corpus-wide;
        `source_wer` and `score` = .9 exact_match + .1 (1 - source_wer) are the formula-OCR competition's.
        """
        count = max(self.count, 1)
        exact, rate = self.exact / count, self.source_wer / count
        figures = {
            "count": float(self.count),
            "exact_match": exact,
            "within_1": self.within_one / count,
            "within_2": self.within_two / count,
            "wer": self.edits / max(self.tokens, 1),
            "cer": self.characters_edits / max(self.characters, 1),
            "source_wer": rate,
            "score": 0.9 * exact + 0.1 * (1 - rate),
            "rejected": float(self.rejected),
        }
        if self.loss_tokens:
            figures["loss"] = self.loss / self.loss_tokens
        return figures


def source_wer(prediction: str, truth: str) -> float:
    """The competition's rate of one sample: edits over the longer of both, in words of texts that end in a space.

    The trailing space gives each side one empty word more, so two empty texts differ by nothing and the rate is at most 1.
    """
    predicted, true = (f"{' '.join(text.split())} ".split(" ") if text.split() else [""] for text in (prediction, truth))
    return Levenshtein.distance(predicted, true) / max(len(predicted), len(true))


class GroupedSums:
    """Sums over everything, and over each group (printed, handwritten) apart."""

    def __init__(self) -> None:
        self.total = SequenceSums()
        self.groups: dict[str, SequenceSums] = {}

    def of(self, group: str) -> Iterable[SequenceSums]:
        """The sums that a sample of `group` counts into."""
        yield self.total
        if group:
            yield self.groups.setdefault(group, SequenceSums())

    def add(self, prediction: str, truth: str, group: str = "") -> None:
        """Count one prediction."""
        for sums in self.of(group):
            sums.add(prediction, truth)

    def __iadd__(self, other: GroupedSums) -> GroupedSums:
        self.total += other.total
        for name, sums in other.groups.items():
            self.groups[name] = self.groups.get(name, SequenceSums())
            self.groups[name] += sums
        return self

    def averages(self, prefix: str) -> dict[str, float]:
        """Flat figures: `val/wer`, and `val/printed/wer` where there is more than one group."""
        flat = {f"{prefix}/{key}": value for key, value in self.total.averages().items()}
        if len(self.groups) > 1:
            for name, sums in sorted(self.groups.items()):
                flat |= {f"{prefix}/{name}/{key}": value for key, value in sums.averages().items()}
        return flat
