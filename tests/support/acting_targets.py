"""A target encoder that does something in the process that encodes targets. Imports little, so that process does, too."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.errors import UserError
from data_pipeline.dataset.targets import NoTargets
from data_pipeline.storage.base import StorageError

_calls = itertools.count()


@dataclass(frozen=True)
class Acting(NoTargets):
    act: Callable[[], None]

    def encode(self, row: Mapping[str, Any]) -> Any:
        self.act()


def hang() -> None:
    time.sleep(600)


def hang_after_64() -> None:
    if next(_calls) >= 64:
        hang()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def name_heavy_modules() -> None:
    raise UserError(f"heavy: {sorted({'torch', 'ray', 'trainers'} & sys.modules.keys())}")


def miss() -> None:
    raise StorageError("is away", missing=True, transient=True)


class TwoWords(Exception):
    """Cannot be unpickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def break_down() -> None:
    raise TwoWords("wholly", "unexpected")


def divide() -> None:
    raise ZeroDivisionError("by nothing")
