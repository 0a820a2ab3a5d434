"""Profile of steps on batches that lie on the device: top kernels, idle time; the trace is kept."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from benchmarks.gpu_parts.scene import Scene
from trainers.engine.step import TrainStep
from trainers.tasks.device_batch import DeviceBatch

STEPS = 3
KERNELS = 8


def profiled(scene: Scene, step: TrainStep, batches: Sequence[DeviceBatch], title: str) -> list[str]:
    """Where the device's time goes in steps on `batches`: lines of a table. The trace is `profile-TITLE.json` of the output."""
    from torch.profiler import ProfilerActivity, profile

    scene.synchronize()
    started = time.perf_counter()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if scene.gpu else [])]
    with profile(activities=activities, acc_events=True) as seen:
        for batch in batches[:STEPS]:
            step(batch)
        scene.synchronize()
    wall = time.perf_counter() - started
    name = re.sub(r"[^a-z0-9_]+", "-", title.lower()).strip("-")
    seen.export_chrome_trace(str(scene.out / f"profile-{name}.json.gz"))
    if not scene.gpu:
        return []
    spans = sorted(
        (event.time_range.start, event.time_range.end) for event in seen.events() if "CUDA" in str(event.device_type)
    )
    kernels = [event for event in seen.key_averages() if "cuda" in str(event.device_type).lower()]
    total = sum(event.self_device_time_total for event in kernels)
    kernels.sort(key=lambda event: -event.self_device_time_total)
    lines = [
        f"{title}: {STEPS} steps, {1e3 * wall:.1f} ms (profiled); device busy {total / 1e3:.1f} ms in "
        f"{sum(event.count for event in kernels)} kernels; {_idle(spans)}"
    ]
    for event in kernels[:KERNELS]:
        share = event.self_device_time_total / max(total, 1e-9)
        lines.append(f"  {share:6.1%} {event.self_device_time_total / 1e3:8.2f} ms {event.count:5} x {event.key[:100]}")
    return lines


def _idle(spans: list[tuple[float, float]]) -> str:
    """Gaps in which nothing runs on the device, in words; spans are in microseconds."""
    gaps, end = [], None
    for first, last in spans:
        if end is not None and first > end:
            gaps.append(first - end)
        end = max(last, end or last)
    return f"idle {sum(gaps) / 1e3:.1f} ms in {len(gaps)} gaps, the longest {max(gaps, default=0) / 1e3:.2f} ms"
