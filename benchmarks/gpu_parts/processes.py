"""Commands in processes of their own, which end with all that they have started."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


class Command:
    """`python -m ...`, out of reach of Ctrl-C; its output goes to the file `log`."""

    def __init__(self, words: Sequence[str], log: Path, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self.log, self.started = log, time.monotonic()
        path = os.pathsep.join([str(ROOT), *sys.path])
        variables = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path, **(environment or {})}
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=directory,
                env=variables,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it has printed."""
        return self.log.read_text()

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    @property
    def seconds(self) -> float:
        """Since its start."""
        return time.monotonic() - self.started

    def wait(self, timeout_s: float) -> None:
        """Wait for its end, but not longer than this; then it is killed."""
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it at once, and all that it has started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._process.pid)
            for each in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
        self._process.wait()
