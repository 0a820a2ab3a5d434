"""Fixtures of the stream's tests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from data_pipeline.stream import StreamConfig
from tests.support.streams import CONFIG


@pytest.fixture(params=["threads", "process", "ray"])
def config(request: pytest.FixtureRequest) -> StreamConfig:
    """All ways of carrying out a plan; what they give is the same."""
    return replace(CONFIG, execution=request.param)
