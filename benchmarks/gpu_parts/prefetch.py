"""Pinned prefetch: equal to plain copies to the byte, and beside the kernels."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Generator, Iterable

import torch

from benchmarks.gpu_parts.outcome import require
from benchmarks.gpu_parts.scene import LARGE_IMAGES, Scene
from data_pipeline.stream import Batch, StreamPosition
from trainers.engine.prefetch import prefetch_to_device
from trainers.tasks.device_batch import to_device

ROUNDS = 12
HIDDEN = 0.5  # of the copying time, at least, must lie beside kernels
TIMELINE = "prefetch_timeline.json"  # of the output: open it in chrome://tracing or Perfetto


def prefetch(scene: Scene) -> str:
    """Batches that were copied ahead equal those copied plainly to the byte, and the copies run beside the kernels."""
    stream = scene.training(scene.config("epochs=1")).stream

    def batches() -> Iterable[Batch]:
        return itertools.islice(stream.batches(StreamPosition(), 1), 12)

    plain = [to_device(batch, torch.device("cpu")) for batch in batches()]
    count = 0
    for number, (_, tensors) in enumerate(prefetch_to_device(_generator(batches()), scene.device)):
        # Work on the step's stream, and memory that changes hands, while the next ones come.
        noise = torch.randn(512, 512, device=scene.device)
        noise = noise @ noise
        same = all(torch.equal(a, b.cpu()) for a, b in zip(plain[number].tensors, tensors.tensors, strict=True))
        require(same, f"batch {number} differs")
        count += 1
    require(count == len(plain), f"{count} of {len(plain)} batches")
    return f"{count} batches equal to the byte; {_overlap(scene)}" if scene.gpu else f"{count} batches equal to the byte"


def _generator(batches: Iterable[Batch]) -> Generator[Batch, None, None]:
    yield from batches


def _overlap(scene: Scene) -> str:
    batch = scene.batches(scene.config(images=LARGE_IMAGES, batch=512), 1)[0][0]
    weights = torch.randn(8192, 8192, device=scene.device, dtype=torch.float16)

    def compute() -> None:
        x = weights
        for _ in range(4):
            x = x @ weights

    def serial() -> None:
        for _ in range(ROUNDS):
            to_device(batch, scene.device)
            torch.cuda.synchronize()
            compute()
            torch.cuda.synchronize()

    def ahead() -> None:
        for _ in prefetch_to_device(_generator(batch for _ in range(ROUNDS)), scene.device):
            compute()
        torch.cuda.synchronize()

    def copies() -> None:
        for _ in range(ROUNDS):
            to_device(batch, scene.device)
            torch.cuda.synchronize()

    def kernels() -> None:
        for _ in range(ROUNDS):
            compute()
        torch.cuda.synchronize()

    times = {work.__name__: _seconds(work) for work in (copies, kernels, serial, ahead)}
    beside = _beside(scene, ahead)
    hidden = (times["serial"] - times["ahead"]) / max(min(times["copies"], times["kernels"]), 1e-9)
    text = ", ".join(f"{name} {1e3 * value / ROUNDS:.2f}" for name, value in times.items())
    reading = (
        f"{batch.images.nbytes / 2**20:.0f} MiB a batch, ms each: {text}; {hidden:.0%} of the copying time hidden, {beside}"
    )
    require(hidden > HIDDEN, reading)
    return reading


def _beside(scene: Scene, work: Callable[[], None]) -> str:
    """By the profiler: the share of the copies that ran beside kernels. The timeline is kept."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        work()
    seen.export_chrome_trace(str(scene.out / TIMELINE))
    on_device = [event for event in seen.events() if "CUDA" in str(event.device_type)]
    copies = [event.time_range for event in on_device if "Memcpy HtoD" in event.name]
    kernels = [event.time_range for event in on_device if "Memcpy" not in event.name and "Memset" not in event.name]
    beside = sum(max(0.0, min(a.end, b.end) - max(a.start, b.start)) for a in copies for b in kernels)
    whole = sum(span.end - span.start for span in copies)
    return f"{beside / max(whole, 1e-9):.0%} by the profiler ({TIMELINE})"


def _seconds(work: Callable[[], None], repeats: int = 3) -> float:
    """Median seconds of `work`, which waits for the device."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
