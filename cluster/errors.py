"""The one kind of error that the user can fix, and so is shown without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

from cluster.redacted_output import redact_output
from cluster.redaction import message
from cluster.scratch import sweep
from cluster.signals import INTERRUPTED, end_at_the_next_signal, say_when_interrupted, watch_signals, words_when_interrupted

USER_ERROR = 2


class UserError(Exception):
    """What was wrong, where (key, path, row), and what to do about it, in one message."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self._message = message

    def __str__(self) -> str:
        # Not `args`: Ray Data adds advice on its own retries to those of any exception that passes through it.
        return self._message


def user_error_in(error: BaseException | None) -> UserError | None:
    """The `UserError` inside what Ray wrapped around it (task errors, worker group errors), or None."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        cause = getattr(found, "cause", None)
        # Ray's task error is also an instance of its cause's class, with a traceback for a message: the cause is wanted.
        if isinstance(found, UserError) and not isinstance(cause, BaseException):
            return found
        waiting += [cause if isinstance(cause, BaseException) else None, found.__cause__, found.__context__]
        failures = getattr(found, "worker_failures", None)
        waiting += list(failures.values()) if isinstance(failures, dict) else []
    return None


def run_command(main: Callable[[], int | None], when_interrupted: str = "Interrupted.") -> NoReturn:
    """Run a command line's `main` and exit: a user's mistake is one message on standard error and status 2.

    Ctrl-C ends it with the line `when_interrupted`, or what `say_when_interrupted` has been given since, and status 130: the
    first raises KeyboardInterrupt in `main`, the second ends the process wherever it is.
    """
    redact_output()
    say_when_interrupted(when_interrupted)
    if main.__module__ == "__main__":  # the process is this command's alone
        watch_signals()
    try:
        if main.__module__ == "__main__":
            sweep()
        status = main() or 0
    except KeyboardInterrupt:
        print(words_when_interrupted(), file=sys.stderr)
        status = INTERRUPTED
    except Exception as error:
        mistake = user_error_in(error)
        if mistake is None:
            raise
        print(f"error: {message(str(mistake))}", file=sys.stderr)
        status = USER_ERROR
    sys.stdout.flush()
    end_at_the_next_signal()
    sys.exit(status)
