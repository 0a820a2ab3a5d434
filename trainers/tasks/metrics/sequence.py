"""Metrics of a sequence recognizer as sums and counts: they add up over batches, ranks and files, and are divided once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from rapidfuzz.distance import Levenshtein

from trainers.config.criterion import Direction, Directions
from trainers.tasks.presentation import MetricColumn

# What `SequenceSums.averages` gives: the metrics that consoles and tables show, and those that only a report has room for.
HEADLINES = (
    MetricColumn("count", "images", "7.0f"),
    MetricColumn("exact_match", "exact", "6.1%", "max", "Exact match"),
    MetricColumn("wer", "WER", "6.1%", "min"),
    MetricColumn("cer", "CER", "6.1%", "min"),
    MetricColumn("score", "score", ".4f", "max"),
)
DETAILS = (
    MetricColumn("within_1", "≤ 1 error", ".1%", "max"),
    MetricColumn("within_2", "≤ 2 errors", ".1%", "max"),
    MetricColumn("source_wer", "WER of the competition", ".1%", "min"),
    MetricColumn("loss", "loss", ".4f", "min"),
    MetricColumn("rejected", "rejected", ".0f"),
)
# All that says how good a recognizer is, and whether more or less of it is better.
DIRECTIONS: Directions = {column.key: column.better for column in (*HEADLINES, *DETAILS) if column.better is not None}
_OF_THE_WHOLE = {"loss"}  # of a split; its sources have none of their own
OTHER = "other"  # the sources of a split that are not reported apart


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
        """The metrics, as shares; over no prediction at all they are NaN.

        `exact_match` is the expression rate; `wer` and `cer` are edits over the length of the truths, corpus-wide;
        `source_wer` and `score` = .9 exact_match + .1 (1 - source_wer) are the formula-OCR competition's.
        """
        count = self.count or math.nan
        exact, rate = self.exact / count, self.source_wer / count
        figures = {
            "count": float(self.count),
            "exact_match": exact,
            "within_1": self.within_one / count,
            "within_2": self.within_two / count,
            "wer": self.edits / max(self.tokens, 1) if self.count else math.nan,
            "cer": self.characters_edits / max(self.characters, 1) if self.count else math.nan,
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


def reported_groups(rows: Mapping[str, int], limit: int) -> tuple[str, ...]:
    """The sources of a split that get metrics of their own, from the number of `rows` of each.

    Those are all if there are `limit` of them at most, else the `limit` with the most rows (of equals the first by name), and
    OTHER for the rest together. The choice follows from the dataset alone, so that the metrics of its runs compare. A split of
    one source has no groups; rows without a source count for the whole only.
    """
    sources = sorted((name for name in rows if name), key=lambda name: (-rows[name], name))
    if len(sources) < 2 or limit < 1:
        return ()
    if len(sources) <= limit:
        return tuple(sorted(sources))
    return (*sorted([name for name in sources if name != OTHER][:limit]), OTHER)


def reported_metrics(prefix: str, groups: Sequence[str]) -> dict[str, Direction]:
    """All metrics of `GroupedSums(groups).averages(prefix)` that weights can be compared by: names and directions."""
    whole = {f"{prefix}/{name}": direction for name, direction in DIRECTIONS.items()}
    parts = {name: direction for name, direction in DIRECTIONS.items() if name not in _OF_THE_WHOLE}
    return whole | {f"{prefix}/{group}/{name}": way for group in groups for name, way in parts.items()}


class GroupedSums:
    """Sums over everything, and over each group (printed, handwritten) apart.

    `groups` are those of `reported_groups`; without them each source that comes is one.
    """

    def __init__(self, groups: Sequence[str] | None = None) -> None:
        self.total = SequenceSums()
        self.groups: dict[str, SequenceSums] = {name: SequenceSums() for name in groups or ()}
        self._names = None if groups is None else frozenset(groups)

    def of(self, group: str) -> Iterable[SequenceSums]:
        """The sums that a sample of `group` counts into."""
        yield self.total
        if self._names is not None:
            group = group if group in self._names or not group else OTHER
            if group not in self._names:
                return
        if group:
            yield self.groups.setdefault(group, SequenceSums())

    def add(self, prediction: str, truth: str, group: str = "") -> None:
        """Count one prediction."""
        for sums in self.of(group):
            sums.add(prediction, truth)

    def reject(self, group: str = "") -> None:
        """Count one row whose image could not be decoded."""
        for sums in self.of(group):
            sums.rejected += 1

    def __iadd__(self, other: GroupedSums) -> GroupedSums:
        self.total += other.total
        for name, sums in other.groups.items():
            self.groups[name] = self.groups.get(name, SequenceSums())
            self.groups[name] += sums
        return self

    def averages(self, prefix: str) -> dict[str, float]:
        """Flat metrics: `val/wer`, and `val/printed/wer` where there is more than one group."""
        flat = {f"{prefix}/{key}": value for key, value in self.total.averages().items()}
        if len(self.groups) > 1:
            for name, sums in sorted(self.groups.items()):
                flat |= {f"{prefix}/{name}/{key}": value for key, value in sums.averages().items()}
        return flat
