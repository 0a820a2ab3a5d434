"""What an evaluation stores, and says of images that it could not use."""

from __future__ import annotations

import json
import math

from trainers.engine.rejected import rejected_lines
from trainers.prediction.evaluation import to_json


def test_metrics_of_nothing_are_null() -> None:
    record = {"checkpoint": "c", "metrics": {"test": {"count": 0.0, "wer": math.nan}}}

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    assert json.loads(to_json(record), parse_constant=refuse)["metrics"] == {"test": {"count": 0.0, "wer": None}}


def test_a_few_of_many_images_are_named() -> None:
    lines = rejected_lines("test", {f"image-{number}": "truncated" for number in range(1007)})
    assert len(lines) == 6 and lines[0] == "warning: image 'image-0' of split 'test' is left out: truncated"
    assert lines[-1] == "warning: 1,002 more images are left out"
    assert rejected_lines("test", {}) == []
