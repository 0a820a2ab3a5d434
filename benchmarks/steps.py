"""The commands of Inkray as steps of a benchmark: each is done once, so that a benchmark that was stopped is continued."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cluster.errors import UserError


def command(module: str, *args: str) -> str:
    """Run a command, its log shown; returns what it printed.

    Raises:
        UserError: it failed.
    """
    words = [sys.executable, "-u", "-m", module, *args]
    print(f"\n$ python -m {module} {shlex.join(args)}", flush=True)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            print(line, end="", flush=True)
    if process.returncode:
        raise UserError(f"python -m {module} ended with status {process.returncode}. What is done is kept: start again.")
    return "".join(lines)


class Trained(NamedTuple):
    """A run that has ended."""

    run: str
    """Its folder."""
    seconds: float
    """From start to end; NaN where it was stopped amid and resumed."""


def train(runs: Path, config: list[str]) -> Trained:
    """Train the one run below `runs` on this machine without Ray, or resume it."""
    begun = sorted(runs.iterdir()) if runs.exists() else []
    started = time.perf_counter()
    if begun:
        command("trainers.train", "--local", "--resume", str(begun[0]))
    else:
        command("trainers.train", "--local", *config, f"runs_dir={runs}")
    (run,) = runs.iterdir()
    return Trained(str(run), float("nan") if begun else time.perf_counter() - started)


class Steps:
    """Steps that are done once: a file below the scratch folder holds what each gave.

    Args:
        scratch: Of the benchmark.
        asked: All that decides what the steps give.

    Raises:
        UserError: The scratch folder was begun with something else asked.
    """

    def __init__(self, scratch: Path, asked: dict[str, Any]) -> None:
        self._folder = scratch / "steps"
        self._folder.mkdir(parents=True, exist_ok=True)
        if (before := self.once("arguments", lambda: asked)) != asked:
            raise UserError(f"{scratch} was begun with other arguments: {before}. Name the same ones, or another folder.")

    def once(self, name: str, do: Callable[[], Any]) -> Any:
        """What `do` gives, or gave an earlier time, as JSON."""
        file = self._folder / f"{name}.json"
        if not file.exists():
            result = do()
            unfinished = file.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(result))
            unfinished.rename(file)
        return json.loads(file.read_text())

    def seconds(self, name: str, module: str, *args: str) -> float:
        """The seconds that a command takes, or took an earlier time."""

        def measured() -> float:
            started = time.perf_counter()
            command(module, *args)
            return time.perf_counter() - started

        found: float = self.once(name, measured)
        return found

    def trained(self, name: str, runs: Path, config: list[str]) -> Trained:
        """What `train` gives, or gave an earlier time."""
        return Trained(*self.once(name, lambda: train(runs, config)))
