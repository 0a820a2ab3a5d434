"""What a command prints, whoever prints it, without secrets: log lines, tracebacks, warnings, output of Ray's workers."""

from __future__ import annotations

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
        return getattr(self._stream, name)


def redact_output() -> None:
    """From here on, standard output and standard error of this process are redacted."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, RedactedStream):
            setattr(sys, name, RedactedStream(stream))
