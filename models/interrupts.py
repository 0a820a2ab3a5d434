"""Ctrl-C ends `python -m models.summary` with one line and status 130, from its first import to its end.

Importing this module is enough; it does something only in a process that is starting `python -m` with a module of `models`.
`cluster.signals` does the same for the other commands, which `models` does not know.
"""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130  # the shell's exit status for Ctrl-C


def _end_now(signum: int, frame: FrameType | None) -> None:
    os.write(2, b"Interrupted.\n")
    os._exit(INTERRUPTED)


# "-m" stands there as long as Python looks for the module, whose package it imports first.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end_now)
