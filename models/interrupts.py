"""Handler of Ctrl-C for `python -m models.summary`: one line and status 130, from the first import on.

Importing this module installs it, only in a process that starts `python -m` with a module of `models`. `cluster.signals` does
the same for the other commands; `models` must not import it.
"""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130  # the shell's exit status for Ctrl-C


def _end_now(signum: int, frame: FrameType | None) -> None:
    os.write(2, b"Interrupted.\n")
    os._exit(INTERRUPTED)


# sys.argv[0] is "-m" while Python locates the module, which imports its package first.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end_now)
