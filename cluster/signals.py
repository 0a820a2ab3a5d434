"""Signals that end a command: while it imports, in the midst of any call, and at the second Ctrl-C at once.

A Python signal handler runs only when the main thread comes back to the interpreter, which may be in a call to a storage that
does not answer, in a collective, or at the end of a process, waiting for a thread. The second Ctrl-C is therefore handled by a
thread that the C level wakes (`signal.set_wakeup_fd`).
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130  # the shell's exit status for Ctrl-C
SAME_S = 0.2  # timeout(1) sends one signal to a process and one to its group: two so close together are one

_words = "Interrupted."
_last_acts: list[Callable[[], None]] = []
_watched = False
_terminations: list[float] = []  # when SIGTERM came
_done_at = math.inf  # when the command was done: a signal that is seen right then may be what ended it


def end_quietly_while_importing() -> None:
    """Have Ctrl-C end this process with one line and status 130, until `watch_signals` takes over.

    Does something only in a process that is starting `python -m` with a module of the package that calls it: the imports of a
    command take seconds. Packages call it in their `__init__`, before anything else.
    """
    starting = sys.argv[:1] == ["-m"]  # as long as Python looks for the module, whose package it imports first
    if starting and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end_now)


def _end_now(signum: int, frame: FrameType | None) -> None:
    os.write(2, b"Interrupted.\n")
    os._exit(INTERRUPTED)


def say_when_interrupted(words: str) -> None:
    """Set the line that a command says when it is interrupted: where to resume from, as soon as that is known."""
    global _words
    _words = words


def words_when_interrupted() -> str:
    """Return the line that a command says when it is interrupted."""
    return _words


def before_a_sudden_end(act: Callable[[], None]) -> None:
    """Have `act`, which must be quick, called before the second Ctrl-C ends the process: neither `finally` nor `atexit` run."""
    _last_acts.append(act)


def watch_signals() -> None:
    """Let the first Ctrl-C raise KeyboardInterrupt in the main thread, and the second end the process, to its last moment."""
    global _watched
    _watched = True
    if signal.getsignal(signal.SIGINT) is _end_now:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_forget_wakeup)  # else a signal to a forked child would count here
    let_sigterm_interrupt()
    # First registered, last called: from there on Python takes its handlers away, and a signal that comes twice would kill.
    atexit.register(_ignore_signals)
    # A copy of standard error: while Ray starts, it is redirected.
    threading.Thread(target=_watch, args=(reading, os.dup(2)), name="inkray-signals", daemon=True).start()


def let_sigterm_interrupt() -> None:
    """Let SIGTERM end a command as the first Ctrl-C does, if it is watched; once more after `ray.init`, which takes it away."""
    if _watched and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    if _count(_terminations):
        raise KeyboardInterrupt


def end_at_the_next_signal() -> None:
    """Have the next Ctrl-C or SIGTERM end the process at once: its command is done, it waits for threads that are not."""
    global _done_at
    if _watched:
        _done_at = time.monotonic()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda signum, frame: None)  # no KeyboardInterrupt in what runs at the end


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _forget_wakeup() -> None:
    with contextlib.suppress(ValueError):
        signal.set_wakeup_fd(-1)


def _watch(reading: int, stderr: int) -> None:
    times: dict[int, list[float]] = {signal.SIGINT: [], signal.SIGTERM: []}
    while True:
        for number in os.read(reading, 64):
            if number in times and _count(times[number]):
                # A launcher may send SIGTERM more than once: what it has begun to end takes the time that it takes.
                done = time.monotonic() - _done_at >= SAME_S
                if done or (number == signal.SIGINT and len(times[number]) > 1):
                    _end(stderr)


def _end(stderr: int) -> None:
    with contextlib.suppress(OSError):
        os.write(stderr, f"{_words}\n".encode(errors="backslashreplace"))
    for act in _last_acts:
        with contextlib.suppress(Exception):
            act()
    os._exit(INTERRUPTED)


def _count(times: list[float]) -> bool:
    """Add a signal that comes now, and say whether it is another than the last."""
    now = time.monotonic()
    another = not times or now - times[-1] >= SAME_S
    if another:
        times.append(now)
    return another


@contextmanager
def counted_signals() -> Iterator[list[float]]:
    """Ctrl-C, and SIGTERM (a cluster takes the machine back), are counted instead of raised in the midst of a call.

    Yields the times at which they came.
    """
    received: list[float] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, lambda signum, _: _count(received)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
