"""The rows that a classifier is wrong about although it is certain, most certain first, as it would say so itself."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainers.tasks.base import NotableRow


@dataclass(frozen=True)
class Mistake:
    """One wrong answer: how certain it was, from 0 to 1, what there is to say of it, and which output gave it."""

    certainty: float
    notes: Mapping[str, str]
    output: str


def wrong_class(names: Sequence[str], predicted: str, probs: Sequence[float], truth: str, prefix: str = "") -> Mistake | None:
    """What is wrong about one predicted class, if anything; `prefix` stands before the output's name."""
    if predicted == truth:
        return None
    place = {name: index for index, name in enumerate(names)}
    certainty = probs[place[predicted]]
    true = f"{truth} {shown(probs[place[truth]])}" if truth in place else truth
    notes = {"predicted": f"{predicted} {shown(certainty)}", "truth": true}
    return Mistake(certainty, notes, f"{prefix}{predicted}")


def wrong_label(
    names: Sequence[str], predictions: Iterable[str], probs: Sequence[float], labels: Iterable[str]
) -> Mistake | None:
    """The class whose presence a multi-label prediction is most wrong about, if any."""
    predicted, true = set(predictions), set(labels)
    wrong = [
        (1 - prob if name in true else prob, name)
        for name, prob in zip(names, probs, strict=True)
        if (name in predicted) != (name in true)
    ]
    if not wrong:
        return None
    certainty, name = max(wrong, key=lambda found: _or_zero(found[0]))
    missed = name in true
    notes = {
        "missed" if missed else "claimed": f"{name} {shown(1 - certainty if missed else certainty)}",
        "truth": " ".join(label for label in names if label in true) or "(none)",
    }
    return Mistake(certainty, notes, name)


def most_certain(mistakes: Iterable[Mistake | None], count: int) -> list[NotableRow]:
    """The `count` most certain mistakes of rows that may have one each; of equals the first rows."""
    rows = ((_or_zero(mistake.certainty), -row, mistake) for row, mistake in enumerate(mistakes) if mistake is not None)
    best = heapq.nlargest(count, rows, key=lambda found: found[:2])
    return [NotableRow(-negative, mistake.notes, mistake.output) for _, negative, mistake in best]


def shown(prob: Any) -> str:
    """A probability in brackets."""
    return f"({prob:.3f})"


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
