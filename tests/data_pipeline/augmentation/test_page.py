"""docs/augmentation.md has a row for every step, with its arguments and their defaults, and for every preset."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

from cluster.values import Typing
from data_pipeline.augmentation.config import STEPS, read_chain
from data_pipeline.augmentation.presets import PRESETS
from data_pipeline.stream.config import StreamConfig
from tests.support.places import ROOT

PAGE = (ROOT / "docs" / "augmentation.md").read_text()


def written(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(written, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def row(name: str) -> str:
    """A step's row: the first paragraph of its docstring, its arguments in order, the probability last."""
    fields = sorted(dataclasses.fields(STEPS[name]), key=lambda field: field.name == "p")
    arguments = ", ".join(f"`{field.name}={written(field.default)}`" for field in fields)
    described = " ".join((inspect.getdoc(STEPS[name]) or "").split("\n\n")[0].split())
    return f"| `{name}` | {described} | {arguments} |"


def test_every_step_and_preset_has_a_row() -> None:
    missing = [row(name) for name in STEPS if row(name) not in PAGE]
    assert not missing, "\n" + "\n".join(missing)
    assert [name for name in PRESETS if f"| `{name}` |" not in PAGE] == []


def test_the_examples_can_be_used() -> None:
    examples = re.findall(r"stream\.augmentation='?([^'`\s]+)", PAGE)
    assert len(examples) >= 2
    for example in examples:
        typing = Typing(StreamConfig, "the page")
        value = typing.override(f"augmentation={example}")["augmentation"]
        assert typing.problems == [] and read_chain(value)[1] == [], (example, read_chain(value)[1])
