"""Commands as users type them, in this process, and the one message of a mistake."""

from __future__ import annotations

import contextlib
import importlib
import io
import subprocess
import sys
from typing import cast

import pytest

from cluster.errors import run_command

Finished = subprocess.CompletedProcess[str]


def command_here(module: str, *args: str) -> Finished:
    """A command in this process, and in its session if it has one: a process of its own takes seconds to start."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", [module, *args])
        with pytest.raises(SystemExit) as ended:
            run_command(importlib.import_module(module).main)
    return Finished([module, *args], cast(int, ended.value.code), out.getvalue(), err.getvalue())


def only_message(result: Finished) -> str:
    """The one message of a command that refused."""
    assert result.returncode == 2, (result.stdout, result.stderr)
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    return lines[0]
