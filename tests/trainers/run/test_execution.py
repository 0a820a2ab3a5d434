"""How the stream of a worker executes: what is configured, else what suits the machine."""

from __future__ import annotations

import os
from typing import get_args

import pytest
import torch

from data_pipeline.stream.config import Execution, StreamConfig
from trainers.run.execution import choose_execution

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")


@pytest.mark.parametrize("configured", [execution for execution in get_args(Execution) if execution != "auto"])
def test_what_is_configured_holds(configured: Execution) -> None:
    assert choose_execution(StreamConfig(execution=configured), GPU, lambda: pytest.fail("asked")) == configured


def test_auto_spares_the_process_that_launches_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [choose_execution(StreamConfig(), device, lambda: True) for device in (GPU, CPU)] == ["ray", "ray"]
    assert [choose_execution(StreamConfig(), device, lambda: False) for device in (GPU, CPU)] == ["process", "threads"]
    monkeypatch.delattr(os, "memfd_create")
    assert choose_execution(StreamConfig(), GPU, lambda: False) == "threads"


def test_auto_moves_what_holds_the_interpreters_lock_to_a_process() -> None:
    stream = StreamConfig(augmentation=["rotate_90", {"albumentations": "Blur"}])
    assert [choose_execution(stream, device, lambda: False) for device in (GPU, CPU)] == ["process", "process"]
    assert choose_execution(stream, CPU, lambda: True) == "ray"
