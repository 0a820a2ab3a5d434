"""Stream on a machine with a GPU: what its cores feed, and what feeding costs the training loop beside it."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import get_args

from benchmarks.gpu_parts.scene import Scene
from benchmarks.gpu_parts.throughput import Cell, measure
from benchmarks.stream_data import lines_dataset
from benchmarks.stream_peers import BATCH, steady_rate, torch_loader
from data_pipeline.augmentation.config import Augmentation
from data_pipeline.dataset.token_targets import TokenTargets
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.stream import StreamConfig, StreamPosition, TrainStream
from data_pipeline.stream.config import Execution

IMAGES, EPOCHS = 2048, 12  # of 128x512 pixels
FILE = "stream.jsonl"
LOCAL: tuple[Execution, ...] = tuple(way for way in get_args(Execution) if way not in ("auto", "ray"))


def feeding(augmentation: Augmentation) -> Callable[[Scene], str]:
    """Images/s of 128x512 that are read, decoded and augmented with nobody to wait for; DataLoader in turns with it."""

    def feed(scene: Scene) -> str:
        cores, epochs = (1, 2) if scene.tiny else (os.cpu_count() or 1, EPOCHS)
        folder = scene.scratch / "lines"
        dataset = lines_dataset(str(folder), scene.many(IMAGES, tiny=256))
        files = sorted(str(file) for file in folder.glob("train/*.parquet"))
        targets = TokenTargets(Tokenizer(["a", "b", "c"]))

        def ours(execution: Execution) -> float:
            config = StreamConfig(execution=execution, augmentation=augmentation, threads=cores)
            stream = TrainStream(dataset, "train", targets, config, seed=1, global_batch_size=BATCH)
            return steady_rate(len(batch) for batch in stream.batches(StreamPosition(), epochs))

        peer = f"DataLoader, {cores} workers"
        rates: dict[str, list[float]] = {name: [] for name in (*LOCAL, peer)}
        for _ in range(scene.many(3, tiny=1)):
            for execution in LOCAL:
                rates[execution].append(ours(execution))
            rates[peer].append(torch_loader(files, epochs, augmentation, cores))
        scene.append(FILE, {"augmentation": augmentation, "cores": cores, "images_per_s": rates})
        medians = {name: statistics.median(values) for name, values in rates.items()}
        return "; ".join(f"{name} {rate:,.0f} images/s ({rate / medians[peer]:.2f})" for name, rate in medians.items())

    return feed


SMALL = Cell("satrn_small", batch=256)
CELLS = (  # feeding a recognizer that is fast, and one that is not
    SMALL,
    replace(SMALL, decoded=True),
    replace(SMALL, overrides=("stream.execution=threads",)),
    replace(SMALL, overrides=("stream.execution=threads", "stream.threads=2")),
    Cell("satrn_baseline"),
    Cell("satrn_baseline", decoded=True),
    Cell("satrn_baseline", overrides=("stream.execution=threads",)),
)
MEASUREMENTS: dict[str, Callable[[Scene], str]] = {
    "decoding": feeding("none"),
    "decoding and augmentation": feeding("light"),
    **{f"training {cell.title}": partial(measure, cell=cell) for cell in CELLS},
}
