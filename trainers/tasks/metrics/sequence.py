"""Metrics of a sequence recognizer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rapidfuzz.distance import Levenshtein

from trainers.config.criterion import Directions
from trainers.tasks.metrics.base import Metrics
from trainers.tasks.presentation import MetricColumn

# What `SequenceMetrics.averages` gives: the metrics that consoles and tables show, and those that only a report has room for.
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


@dataclass
class SequenceMetrics(Metrics):
    """Sums over predicted token sequences."""

    exact: int = 0  # token sequences that are equal
    within_one: int = 0  # at most one edit
    within_two: int = 0
    edits: int = 0  # Levenshtein distance in tokens
    tokens: int = 0  # tokens of the truths
    characters_edits: int = 0
    characters: int = 0
    source_wer: float = 0.0  # sum of the source system's per-sample rate

    def add(self, prediction: Mapping[str, Any], target: Mapping[str, Any]) -> None:
        """Count one prediction; both are tokens separated by one space."""
        self.add_text(prediction["prediction"], target["text"])

    def add_text(self, prediction: str, truth: str) -> None:
        """Count one text beside its truth."""
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

    def averages(self) -> dict[str, float]:
        """The metrics, as shares; over no prediction at all they are NaN.

        `exact_match` is the expression rate; `wer` and `cer` are edits over the length of the truths, corpus-wide;
        `source_wer` and `score` = .9 exact_match + .1 (1 - source_wer) are the formula-OCR competition's.
        """
        count = self.count or math.nan
        exact, rate = self.exact / count, self.source_wer / count
        return {
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


def source_wer(prediction: str, truth: str) -> float:
    """The competition's rate of one sample: edits over the longer of both, in words of texts that end in a space.

    The trailing space gives each side one empty word more, so two empty texts differ by nothing and the rate is at most 1.
    """
    predicted, true = (f"{' '.join(text.split())} ".split(" ") if text.split() else [""] for text in (prediction, truth))
    return Levenshtein.distance(predicted, true) / max(len(predicted), len(true))
