"""How much memory the stream takes while images of all sizes go through it: `python -m benchmarks.stream memory`."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil

from benchmarks.stream_data import mixed_dataset
from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.dataset.token_targets import TokenTargets
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.stream import StreamConfig, StreamPosition, TrainStream

BATCH_PIXELS = 32_000_000  # two of the largest images
EPOCHS = 2


def peak_memory(scratch: Path) -> dict[str, Any]:
    """Measure how much a process grows while it consumes a stream of images from 64x64 to 4000x4000, slowly and at speed."""
    uri = mixed_dataset(str(scratch / "mixed")).storage.uri
    metrics: dict[str, Any] = {"bound_mib": StreamConfig().memory_mb}
    for name, pause_s in (("at speed", 0.0), ("slow consumer", 0.05)):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            metrics[name] = pool.submit(_measure, uri, pause_s).result()
        print(
            f"  {name}: {metrics[name]['images']} images in {metrics[name]['batches']} batches, at most "
            f"{metrics[name]['mib']:.0f} MiB of {metrics['bound_mib']} MiB"
        )
    return metrics


def _measure(uri: str, pause_s: float) -> dict[str, Any]:
    dataset = open_dataset(uri)
    config = StreamConfig(augmentation="light", execution="threads", batch_pixels=BATCH_PIXELS)
    stream = TrainStream(
        dataset, "train", TokenTargets(Tokenizer(dataset.manifest.charset)), config, seed=0, global_batch_size=64
    )
    process, peak, stop = psutil.Process(), 0, threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.005):
            peak = max(peak, process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    images = batches = 0
    for batch in stream.batches(StreamPosition(), EPOCHS):
        images, batches = images + len(batch.ids), batches + 1
        time.sleep(pause_s)
    stop.set()
    watcher.join()
    return {"images": images, "batches": batches, "mib": peak / 2**20}
