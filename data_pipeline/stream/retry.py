"""Storage that fails for a moment is asked again: with growing, uneven pauses, until a stated time is over."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from data_pipeline.storage.base import StorageError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0

Result = TypeVar("Result")


def retried(read: Callable[[], Result], timeout_s: float, stop: threading.Event) -> tuple[Result, int]:
    """What `read` gives, and how many attempts failed before. Only errors that may pass are worth another attempt, and only
    until `stop` is set.

    Raises:
        StorageError: one that will not pass, at once; or the last one, `timeout_s` after the first attempt, with how often.
    """
    started, failed = time.monotonic(), 0
    while True:
        try:
            return read(), failed
        except StorageError as error:
            failed += 1
            # Uneven, so that those who failed together do not come back together.
            pause = min(FIRST_PAUSE_S * 2 ** (failed - 1), LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)
            spent = time.monotonic() - started
            if not error.transient or stop.is_set():
                raise
            if spent + pause > timeout_s:
                raise StorageError(
                    f"{error} Given up after {failed} attempts in {spent:.0f} s (stream.storage_timeout_s={timeout_s:g}).",
                    transient=True,
                ) from error
        stop.wait(pause)
