"""Retries of storage that fails for a moment: with growing, uneven pauses, until a stated time is over."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from data_pipeline.storage.errors import StorageError

FIRST_PAUSE_S, MAX_PAUSE_S = 0.2, 10.0

Result = TypeVar("Result")


def backoff_s(failures: int, first_s: float = FIRST_PAUSE_S, max_s: float = MAX_PAUSE_S) -> float:
    """The pause in seconds after this many failures in a row: it doubles each time, up to `max_s`.

    It is uneven, so that processes that failed together do not come back together.
    """
    return min(first_s * 2.0 ** min(failures - 1, 60), max_s) * random.uniform(0.5, 1.0)


def with_retries(read: Callable[[], Result], timeout_s: float, stop: threading.Event, setting: str) -> tuple[Result, int]:
    """Call `read` until it succeeds; return its result and how many attempts failed before.

    Only transient errors are retried, and only until `stop` is set. `setting` names the configuration key of `timeout_s`.

    Raises:
        StorageError: one that is not transient, at once; or the last one, `timeout_s` after the first attempt, with how often.
    """
    started, failures = time.monotonic(), 0
    while True:
        try:
            return read(), failures
        except StorageError as error:
            failures += 1
            pause = backoff_s(failures)
            spent = time.monotonic() - started
            if not error.transient or stop.is_set():
                raise
            if spent + pause > timeout_s:
                raise StorageError(
                    f"{error} Given up after {failures} attempts in {spent:.0f} s ({setting}={timeout_s:g}).", transient=True
                ) from error
        stop.wait(pause)
