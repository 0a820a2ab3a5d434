"""Python processes that tests start, signal and listen to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from tests.support.places import ROOT

HEAD = "import sys; sys.path.insert(0, '.')\nfrom cluster.errors import run_command\nfrom cluster.signals import *\n"


@contextmanager
def started(*words: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that hears Ctrl-C, also where these tests run in the background of a shell."""
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=os.environ | settings, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(stream: IO[str] | None, text: str) -> None:
    assert stream is not None
    for line in stream:
        if text in line:
            return
    raise AssertionError(f"'{text}' never came")
