"""One kind of progress bar for all commands."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress(total: int, unit: str, description: str, initial: int = 0) -> tqdm[Any]:
    """A bar on standard error: live on a terminal, a line every 15 s in a log file."""
    live = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=initial,
        unit=f" {unit}",
        desc=description,
        mininterval=0.5 if live else 15,
        maxinterval=10 if live else 60,
        ascii=not live,
    )
