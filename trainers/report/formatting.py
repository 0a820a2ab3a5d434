"""How a number or a setting is written in a report, by the name of its key."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from trainers.tasks.metrics.sequence import DIRECTIONS

# Shares of one, written in percent. The last part of a key counts: `val/exact_match` is an `exact_match`.
SHARES = {
    "exact_match": "Exact match",
    "within_1": "≤ 1 error",
    "within_2": "≤ 2 errors",
    "wer": "WER",
    "source_wer": "WER of the source",
    "cer": "CER",
    "score": "Score",
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "micro_f1": "Micro F1",
    "mean_average_precision": "mAP",
    "wait_share": "Waiting for data",
}
LOWER_IS_BETTER = frozenset({name for name, direction in DIRECTIONS.items() if direction == "min"} | {"wait_share"})
HEADLINES = ("exact_match", "wer", "score", "accuracy", "macro_f1", "count")  # the tiles of a page, where they occur
# The curves of a run; a source of the data (`val/printed/exact_match`) gets the first that occurs, not all.
CURVES = ("exact_match", "accuracy", "macro_f1", "wer", "cer", "score")
_LABELS = SHARES | {"loss": "Loss", "lr": "Learning rate", "count": "Images", "images_per_s": "Images/s"}


def last_part(key: str) -> str:
    """`exact_match` of `val/exact_match`."""
    return key.rsplit("/", 1)[-1]


def label(key: str) -> str:
    """What a reader calls the figure."""
    name = last_part(key)
    return _LABELS.get(name, name.replace("_", " ").capitalize())


def curve_label(key: str) -> str:
    """The figure, and the source of the data where it is of one: `Exact match, printed`."""
    source = key.split("/")[1:-1]
    return ", ".join([label(key), *source])


def is_share(key: str) -> bool:
    """Whether the figure is a share of one."""
    return last_part(key) in SHARES


def written(key: str, value: Any) -> str:
    """The value as a reader wants it: percent, whole numbers with thousands set apart, else four digits."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return "–" if math.isnan(value) else str(value)
    if is_share(key):
        return f"{100 * value:.1f} %"
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:.4g}"


def columns(groups: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The keys that occur in any group, in the order in which they first do; the count last."""
    found = list(dict.fromkeys(key for group in groups.values() for key in group))
    return sorted(found, key=lambda key: last_part(key) == "count")


def flattened(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Pairs of a dotted name and a value as text, for nested mappings and short lists."""
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flattened(value, f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(written(name, item) for item in value)
        else:
            yield name, written(name, value)
