"""Private APIs of Ray: one file uses them, and each of them is there."""

from __future__ import annotations

import re

from cluster import ray_internals
from tests.support.places import ROOT

PRIVATE = re.compile(r"^\s*(?:from|import) ray\.\S*\b_[a-z]\w*|\bray\._private", re.MULTILINE)


def test_one_file_uses_them() -> None:
    files = [file for folder in ("cluster", "data_pipeline", "trainers") for file in (ROOT / folder).rglob("*.py")]
    assert [file.name for file in files if PRIVATE.search(file.read_text())] == ["ray_internals.py"]


def test_they_are_there(ray_cluster: None) -> None:
    assert ray_internals.draining_nodes() == set()
    assert callable(ray_internals.execution_callback().on_execution_step)
    assert not ray_internals.is_submitted_job()
