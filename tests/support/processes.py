"""Training commands as processes of their own, to be killed, interrupted and started again."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import torch

from data_pipeline.storage.base import Storage, open_storage
from tests.support.places import ROOT
from trainers.checkpoint.format import STATE, WEIGHTS, read_checked
from trainers.checkpoint.select import complete_checkpoints

# A session of its own gets SIGKILL for all that it has started.
_TIMEOUT_S = 300


class Running:
    """A command that runs; its lines are read as they come."""

    def __init__(self, *words: str, environment: dict[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-u", *words],
            cwd=ROOT,
            env=os.environ | (environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._timer = threading.Timer(_TIMEOUT_S, self.kill)
        self._timer.start()

    def until(self, text: str) -> str:
        """Read to the first line that has `text` in it, and return it; at the end of the output that is an error."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"'{text}' never came:\n{self.text}")

    def end(self) -> int:
        """Read all that comes, and give the exit status."""
        assert self.process.stdout is not None
        self.lines += self.process.stdout.readlines()
        status = self.process.wait(60)
        self._timer.cancel()
        return status

    def kill(self) -> None:
        """End the command and all that it started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._timer.cancel()

    @property
    def text(self) -> str:
        """All that was printed."""
        return "".join(self.lines)

    @property
    def run(self) -> Storage:
        """The folder that the command said at its start."""
        return open_storage(next(line.split()[1] for line in self.lines if line.startswith("Run ")))


@contextlib.contextmanager
def running(*words: str, environment: dict[str, str] | None = None) -> Iterator[Running]:
    """A command for the time of a `with`; nothing of it outlives that."""
    command = Running(*words, environment=environment)
    try:
        yield command
    finally:
        command.kill()
        command.process.wait(60)


def last_state(run: Storage) -> dict[str, Any]:
    """Everything that the newest checkpoint of `run` holds to resume from: weights, and the trainer's state."""
    from safetensors.torch import load

    checkpoint = run.child(list(complete_checkpoints(run))[-1])
    state, weights = read_checked(checkpoint, STATE, WEIGHTS)
    return {"weights": load(weights), **torch.load(io.BytesIO(state), weights_only=True)}


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two nests of dicts, lists and tensors differ, to the bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [path]
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return [f"{path}: {sorted(map(str, one.keys() ^ other.keys()))}"]
        return [text for key in one for text in differences(one[key], other[key], f"{path}.{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return [text for i, (a, b) in enumerate(zip(one, other, strict=True)) for text in differences(a, b, f"{path}[{i}]")]
    return [] if one == other else [f"{path}: {one!r} and {other!r}"]
