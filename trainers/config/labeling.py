"""The section `labeling`: how a classifier's probabilities are made and become labels, which a prediction may change."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from cluster.yaml_text import shown
from trainers.config.rules import Rule, broken

ViewName = Literal["identity", "rotate_90", "rotate_180", "rotate_270", "flip_horizontal", "flip_vertical"]
VIEWS: tuple[ViewName, ...] = ("identity", "rotate_90", "rotate_180", "rotate_270", "flip_horizontal", "flip_vertical")
ZOOMS = {"scale": (0.25, 4.0), "crop": (0.1, 1.0)}  # views with a number behind their name, and its limits
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 1000.0

_ZOOM = re.compile(r"(scale|crop)_([0-9]+(?:\.[0-9]+)?|\.[0-9]+)")


@dataclass
class LabelingConfig:
    """How a classifier's probabilities are made and become labels; a prediction may change it."""

    threshold: float = 0.5  # of multi-label: a class is present where its probability is above this
    thresholds: dict[str, float] = field(default_factory=dict)  # by class, in the place of `threshold`
    temperature: float = 1.0  # logits are divided by it (Guo et al. 2017): above 1 less certain, below 1 more
    temperatures: dict[str, float] = field(default_factory=dict)  # by head of a multi-task model, in the place of `temperature`
    # Test-time augmentation: views of each image, whose probabilities are averaged; none: the image as it is. Of identity,
    # rotate_90, rotate_180, rotate_270 (counterclockwise), flip_horizontal, flip_vertical, scale_F (scale_0.9: smaller, with
    # a margin of background; scale_1.1: larger, cut to size) and crop_F (crop_0.9: the center, scaled back).
    tta: list[str] = field(default_factory=list)

    def validate(self) -> list[str]:
        """What is wrong with the values, by key."""
        views = [zoom_of(name) or name for name in self.tta]  # scale_0.9 is scale_0.90
        twice = sorted({shown(name) for name, view in zip(self.tta, views, strict=True) if views.count(view) > 1})
        return broken(
            *_thresholds("threshold", {"": self.threshold}),
            *_thresholds("thresholds", self.thresholds),
            *_temperatures("temperature", {"": self.temperature}),
            *_temperatures("temperatures", self.temperatures),
            *((not (problem := view_problem(name)), f"labeling.tta={shown(name)}: {problem}") for name in self.tta),
            (not twice, f"labeling.tta={', '.join(twice)}: given twice, which would count double; leave one out"),
        )


def zoom_of(name: str) -> tuple[str, float] | None:
    """`("scale", 0.9)` of the view scale_0.9; None of a view without a number."""
    match = _ZOOM.fullmatch(name)
    return (match[1], float(match[2])) if match else None


def view_problem(name: str) -> str:
    """What is wrong with the name of a view; empty for one that there is."""
    if name in VIEWS:
        return ""
    zoom = zoom_of(name)
    if zoom is None:
        return f"no view of an image; there are {', '.join(VIEWS)}, and with a number scale_0.9, crop_0.9"
    low, high = ZOOMS[zoom[0]]
    return "" if low <= zoom[1] <= high else f"the number behind {zoom[0]}_ is from {low:g} to {high:g}"


def _thresholds(key: str, values: Mapping[str, float]) -> Iterator[Rule]:
    for name, value in values.items():
        where = _where(key, name)
        yield name != "" or key == "threshold", f"{where} has an empty class name"
        yield value != 0, f"{where}={value}: the class would be present in nearly every image; a number between 0 and 1"
        yield value != 1, f"{where}={value}: the class would be present in no image; a number between 0 and 1"
        yield 0 <= value <= 1, f"{where}={value}: a probability between 0 and 1"


def _temperatures(key: str, values: Mapping[str, float]) -> Iterator[Rule]:
    for name, value in values.items():
        where = _where(key, name)
        yield name != "" or key == "temperature", f"{where} has an empty head name"
        yield (
            MIN_TEMPERATURE <= value <= MAX_TEMPERATURE,
            f"{where}={value}: from {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}; 1 changes nothing",
        )


def _where(key: str, name: str) -> str:
    return f"labeling.{key}.{shown(name)}" if name else f"labeling.{key}"
