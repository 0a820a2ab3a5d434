"""`python -m benchmarks.stream_interference DATASET`: what decoding costs a loop that is bound by the host, per execution.

A step is thousands of tiny operations of torch from one thread, as a loop launches the kernels of a small network on a GPU. It
is timed alone, then beside the stream that feeds it, which decodes all the time: waiting for a batch is not counted. Medians
over interleaved rounds, each of the step's median.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import torch

from benchmarks.machine import machine
from cluster.errors import run_command
from data_pipeline.dataset.manifest import Dataset, open_dataset
from data_pipeline.dataset.targets import NoTargets
from data_pipeline.stream import StreamConfig, StreamPosition, TrainStream
from data_pipeline.stream.config import Execution

EXECUTIONS: tuple[Execution, ...] = ("threads", "process")
OPERATIONS = 3000  # of a step


def batches(dataset: Dataset, execution: Execution, batch: int) -> Generator[int, None, None]:
    """Images of each batch, as one decoding thread gives them."""
    config = StreamConfig(execution=execution, threads=1)
    stream = TrainStream(dataset, "train", NoTargets(), config, seed=0, global_batch_size=batch)
    with contextlib.closing(stream.batches(StreamPosition(), 1_000_000)) as made:
        for item in made:
            yield len(item.ids)


def step_ms(source: Iterator[int], steps: int) -> float:
    """The median time of a step, without the wait for its batch; the first ones warm up."""
    scalar, times = torch.zeros(1), []
    for _ in range(steps + 3):
        next(source)
        started = time.perf_counter()
        for _ in range(OPERATIONS):
            scalar.add_(1)
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[3:])


def images_per_s(source: Iterator[int], seconds: float) -> float:
    """The rate of a stream that nothing runs beside."""
    for _ in range(10):
        next(source)
    started, images = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        images += next(source)
    return images / (time.perf_counter() - started)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream_interference", description=__doc__)
    parser.add_argument("dataset", help="folder or URI")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100, help="of each round (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the metrics to this file, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_dataset(args.dataset)
    steps: dict[str, list[float]] = {name: [] for name in ("alone", *EXECUTIONS)}
    rates: dict[str, list[float]] = {name: [] for name in EXECUTIONS}
    for number in range(args.rounds):
        steps["alone"].append(step_ms(itertools.repeat(0), args.steps))
        for execution in EXECUTIONS:
            with contextlib.closing(batches(dataset, execution, args.batch)) as source:
                steps[execution].append(step_ms(source, args.steps))
                rates[execution].append(images_per_s(source, seconds=2))
        print(f"round {number + 1}: " + ", ".join(f"{name} {times[-1]:.2f} ms" for name, times in steps.items()), flush=True)
    step, rate = ({name: statistics.median(values) for name, values in found.items()} for found in (steps, rates))
    print(f"alone    {step['alone']:7.2f} ms a step")
    for name in EXECUTIONS:
        ratio = step[name] / step["alone"]
        print(f"{name:8} {step[name]:7.2f} ms a step: {ratio:.2f} times; the stream alone {rate[name]:,.0f} images/s")
    metrics = {"machine": machine(), "step_ms": step, "images_per_s": rate}
    print(metrics["machine"])
    if args.json:
        args.json.write_text(json.dumps(metrics, indent=1))
    return 0


if __name__ == "__main__":
    run_command(main)
