"""`python -m data_pipeline.bench`: figures of a dataset, by both ways, and one message for a mistake."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.errors import UserError
from data_pipeline.bench import stream_config
from tests.support.places import ROOT


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "data_pipeline.bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)


def test_it_tells_what_each_part_can_feed(formulas: str, tmp_path: Path) -> None:
    done = bench(formulas, "--seconds", "0.5", "augmentation=strong", "cache.location=disk", f"cache.directory={tmp_path}")
    assert done.returncode == 0, done.stderr
    rates = [float(number.replace(",", "")) for number in re.findall(r"([\d,]+) images/s", done.stdout)]
    assert len(rates) == 6 and min(rates) > 0
    for part in ("300 images, strong augmentation", "from the cache", "stream, threads", "stream, ray", "bound by decoding"):
        assert part in done.stdout


def test_a_mistake_is_one_message(formulas: str) -> None:
    for arguments, message in (
        ([formulas, "--no-ray", "windows=3"], "Unknown key 'windows' in the command line"),
        ([formulas, "--no-ray", "threads=many"], "Bad value for 'threads' in the command line: 'many' is no whole number"),
        ([formulas, "--no-ray", "--split", "dev"], "has no split 'dev'"),
        (["nowhere"], "No dataset at 'nowhere'"),
    ):
        done = bench(*arguments)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_keys_may_be_written_as_in_a_run() -> None:
    config = stream_config(["stream.cache.location=memory", "augmentation=none"])
    assert config.cache.location == "memory" and config.augmentation == "none"
    with pytest.raises(UserError, match=r"'cache\.place' .*'here' is none of off, disk, memory"):
        stream_config(["cache.location=here"])
