"""Output of a command without secrets: log lines, tracebacks, warnings, whichever library prints them."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

from cluster.redaction import redact


class RedactedStream:
    """A text stream that hands on what is written to it redacted; in all else it is the stream that it stands for."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text` without its secrets; returns the characters taken."""
        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each of `lines`."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "_stream":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self._stream, name)


def redact_output() -> None:
    """From here on, standard output and standard error of this process are redacted, also where a log handler holds them."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, RedactedStream):
            redacted = RedactedStream(stream)
            setattr(sys, name, redacted)
            # Libraries that were imported already log to the stream that they found then.
            for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
                for handler in getattr(logger, "handlers", ()):
                    if getattr(handler, "stream", None) is stream:
                        handler.setStream(redacted)
