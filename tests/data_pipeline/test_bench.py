"""`python -m data_pipeline.bench`: metrics of a dataset, by both executions, and one message for a mistake."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cluster.errors import UserError
from data_pipeline import bench
from data_pipeline.bench import stream_config


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    assert bench.main() == 0


def test_it_tells_what_each_part_can_feed(
    formulas: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = ["cache.location=disk", f"cache.directory={tmp_path}"]
    run(monkeypatch, formulas, "--seconds", "0.3", "augmentation=strong", *cache)
    printed = capsys.readouterr().out
    rates = [float(number.replace(",", "")) for number in re.findall(r"([\d,]+) images/s", printed)]
    assert len(rates) == 7 and min(rates) > 0
    for part in ("300 images, strong augmentation", "from the cache", "bound by decoding"):
        assert part in printed
    assert re.findall(r"stream, (\w+)", printed) == ["threads", "process", "ray"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["windows=3"], "Unknown key 'windows' in the command line"),
        (["threads=many"], "Bad value for 'threads' in the command line: 'many' is no whole number"),
        (["cache.place=disk"], "'cache.place' in the command line was renamed to 'cache.location'"),
        (["--split", "dev"], "has no split 'dev'"),
    ],
)
def test_a_mistake_is_one_message(
    formulas_dataset: str, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(monkeypatch, formulas_dataset, "--no-ray", *arguments)


def test_keys_may_be_written_as_in_a_run() -> None:
    config = stream_config(["stream.cache.location=memory", "augmentation=none"])
    assert config.cache.location == "memory" and config.augmentation == "none"
    with pytest.raises(UserError, match=r"'cache\.location' .*'here' is none of off, disk, memory"):
        stream_config(["cache.location=here"])
