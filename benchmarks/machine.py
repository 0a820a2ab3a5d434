"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version


def machine() -> str:
    """Cores, load, versions: one line."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass  # not Linux
    load = os.getloadavg()[0]
    try:
        ray = f"ray {version('ray')}"
    except PackageNotFoundError:  # benchmarks of plain torch need none
        ray = "no ray"
    return f"{os.cpu_count()} cores, {model}, load {load:.1f}; torch {version('torch')}, {ray}"
