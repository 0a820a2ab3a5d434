"""docs/configuration.md is what the dataclasses say."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import UserError
from tests.support.places import ROOT
from trainers.config import document
from trainers.config.train import TrainConfig


def keys(values: Any, above: str = "") -> list[str]:
    found = []
    for item in dataclasses.fields(values):
        value = getattr(values, item.name)
        found += keys(value, f"{above}{item.name}.") if dataclasses.is_dataclass(value) else [above + item.name]
    return found


def test_the_page_is_not_stale_and_has_every_key_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = ROOT / "docs" / "configuration.md"
    rows = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    assert sorted(row.split("`")[1] for row in rows) == sorted(keys(TrainConfig()))
    assert [row for row in rows if row.endswith("|  |")] == [], "each key is described by a comment behind its field"
    monkeypatch.setattr("sys.argv", ["document", "--check", str(page)])
    document.main()
    stale = tmp_path / "stale.md"
    stale.write_text(page.read_text().replace("0.002", "0.001").replace("| `seed` |", "| `sead` |"))
    for file in (stale, tmp_path / "none.md"):
        monkeypatch.setattr("sys.argv", ["document", "--check", str(file)])
        with pytest.raises(UserError, match=r"is stale: run python -m trainers.config.document > "):
            document.main()


@dataclasses.dataclass
class Commented:
    """One."""

    # Above the first, on
    # two lines.
    first: int = 1  # and behind
    second: str = "# no comment"
    third: int | None = (
        None  # inside
    )  # fmt: skip

    # Of nothing.

    fourth: float = 0.5


def test_comments_above_and_behind_a_field_are_its_description() -> None:
    assert document.field_comments(Commented) == {
        "first": "Above the first, on two lines. and behind",
        "second": "",
        "third": "inside fmt: skip",
        "fourth": "",
    }


def test_the_sections_of_training_describe_every_key() -> None:
    config = TrainConfig()
    sections: list[Any] = [config, *(getattr(config, item.name) for item in dataclasses.fields(config))]
    for values in (each for each in sections if type(each).__module__.startswith("trainers.config")):
        comments = document.field_comments(type(values))
        plain = [item.name for item in dataclasses.fields(values) if not dataclasses.is_dataclass(getattr(values, item.name))]
        assert plain and all(comments[name] for name in plain), (type(values), comments)
