"""Holder of a claim: the process, its machine and since when, as JSON and in words."""

from __future__ import annotations

import datetime
import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

CLOCK_S = 5.0  # two readings of when a process was started may differ by so much


@dataclass(frozen=True)
class Holder:
    """A process that uses a folder for `what`. `machine` tells hosts of one name, and containers of one host, apart."""

    what: str
    host: str
    pid: int
    since: str
    machine: str
    process_started: float

    @classmethod
    def this(cls, what: str) -> Holder:
        """The calling process."""
        since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        return cls(what, socket.gethostname(), os.getpid(), since, _machine(), psutil.Process().create_time())

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Holder:
        """Read what `to_json` wrote; unknown keys are ignored.

        Raises:
            KeyError: one is missing.
        """
        names = cls.__dataclass_fields__
        return cls(**{name: content[name] for name in names})

    def to_json(self, **more: Any) -> bytes:
        """The holder and `more` as JSON."""
        return json.dumps({**asdict(self), **more}).encode()

    def is_known_dead(self) -> bool:
        """Whether it ran on this machine and has ended. Nothing is known about processes of other machines."""
        if self.machine != _machine():
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.process_started) > CLOCK_S
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False

    def __str__(self) -> str:
        return f"a {self.what} (process {self.pid} on {self.host}, since {self.since})"


def _machine() -> str:
    """The host, its boot and the namespace in which its process ids count."""
    parts = [socket.gethostname()]
    for file, read in ((Path("/proc/sys/kernel/random/boot_id"), Path.read_text), (Path("/proc/self/ns/pid"), os.readlink)):
        try:
            parts.append(str(read(file)).strip())
        except OSError:
            parts.append("")
    return "/".join(parts)
