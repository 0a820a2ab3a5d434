"""A throttle for Ray Data's scheduling loop.

While a consumer is slower than its readers, which is what a training step wants, the loop finds results that it may not fetch
yet and spins without a pause: it took two thirds of a core from the training process it runs in (Ray 2.60, py-spy).
"""

from __future__ import annotations

import time
from typing import Any

from cluster.ray_internals import execution_callback

PAUSE_S = 0.02  # a window of decoded rows lasts seconds, so 50 iterations a second are plenty


class SchedulerThrottle(execution_callback()):  # type: ignore[misc]
    """Sleeps between two iterations of the scheduling loop."""

    def on_execution_step(self, executor: Any) -> None:
        """Sleep; Ray Data calls this after each iteration."""
        time.sleep(PAUSE_S)
