"""Benchmarks `python -m benchmarks.augmentation`: chains of our own steps and of albumentations, in threads and in processes.

Images/s of each chain by one thread, two threads and two processes; CPU time of an image, and how much of it is spent outside
of OpenCV's functions, where the interpreter's lock is held but for numpy's longer loops; and how long a loop of short Python
calls beside one thread takes, as a multiple of the loop alone. CPU times hold on a busy machine, too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch

from benchmarks.interleaved import medians
from benchmarks.machine import machine
from benchmarks.stream_data import line_image
from data_pipeline.augmentation.config import chain_of

OURS = ["shift_scale_rotate", "invert", "brightness_contrast", "noise", "blur"]
THEIRS = [
    {"albumentations": ["ShiftScaleRotate", "InvertImg", "RandomBrightnessContrast", "GaussNoise", "GaussianBlur"]},
]
CHAINS: dict[str, Any] = {
    "light": "light",
    "boards": "boards",
    "five of our own": OURS,
    "the same of albumentations": THEIRS,
    "formulas (albumentations)": "formulas",
}
SIZES = {"64x256": (64, 256), "256x256": (256, 256)}
WORKERS = 2
OPENCV = (
    *("warpAffine", "remap", "resize", "LUT", "add", "subtract", "multiply", "GaussianBlur", "blur", "filter2D", "erode"),
    *("bitwise_not", "cvtColor", "imencode", "imdecode", "randn"),
)


def work(chain: Any, size: tuple[int, int], first: int, images: int) -> None:
    """Augment `images` images of one size."""
    cv2.setNumThreads(0)
    augment, image = chain_of(chain), line_image(np.random.default_rng(0), *size)
    for number in range(first, first + images):
        augment(image, 0, 0, str(number))


def spread(pool: Executor, chain: Any, size: tuple[int, int], images: int) -> None:
    """The same, shared by the workers of a pool."""
    part = images // WORKERS
    for each in [pool.submit(work, chain, size, index * part, part) for index in range(WORKERS)]:
        each.result()


def cpu_times(chain: Any, size: tuple[int, int], images: int) -> tuple[float, float]:
    """CPU milliseconds of an image, and those of them that are spent outside of OpenCV's functions."""
    inside = 0.0

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal inside
            started = time.thread_time()
            try:
                return function(*args, **options)
            finally:
                inside += time.thread_time() - started

        return call

    work(chain, size, 0, 20)
    with ExitStack() as patched:
        for name in OPENCV:
            patched.enter_context(patch.object(cv2, name, timed(getattr(cv2, name))))
        started = time.thread_time()
        work(chain, size, 0, images)
        spent = time.thread_time() - started
    return 1e3 * spent / images, 1e3 * (spent - inside) / images


def held_up(chain: Any, size: tuple[int, int], rounds: int) -> float:
    """How many times as long a loop of tiny operations takes beside a thread that augments."""
    values = torch.zeros(8)

    def loop() -> None:
        for _ in range(3000):
            values.add_(1)

    def beside() -> None:
        done = threading.Event()

        def augment() -> None:
            while not done.is_set():
                work(chain, size, 0, 20)

        thread = threading.Thread(target=augment)
        thread.start()
        try:
            loop()
        finally:
            done.set()
            thread.join()

    def timed(run: Callable[[], None]) -> float:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    work(chain, size, 0, 20)
    pairs = [(timed(loop), timed(beside)) for _ in range(rounds)]
    return statistics.median(with_it for _, with_it in pairs) / statistics.median(alone for alone, _ in pairs)


def main() -> None:
    """Print a table; with `--json`, also write it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.augmentation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    head = f"{'images/s':36}{'1 thread':>10}{'2 threads':>11}{'2 processes':>13}"
    print(f"{head}{'CPU, outside OpenCV':>22}{'a loop beside 1 thread':>25}")
    found = {}
    with ThreadPoolExecutor(WORKERS) as threads, ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as processes:
        for size_name, size in SIZES.items():
            for name, chain in CHAINS.items():
                seconds = medians(
                    {
                        "1 thread": partial(work, chain, size, 0, args.images),
                        "2 threads": partial(spread, threads, chain, size, args.images),
                        "2 processes": partial(spread, processes, chain, size, args.images),
                    },
                    args.rounds,
                )
                rates = {way: args.images / each for way, each in seconds.items()}
                cpu, outside = cpu_times(chain, size, args.images)
                loop = held_up(chain, size, args.rounds)
                found[f"{size_name} {name}"] = {**rates, "cpu_ms": cpu, "outside_ms": outside, "loop": loop}
                cells = "".join(f"{rate:{width},.0f}" for rate, width in zip(rates.values(), (10, 11, 13), strict=True))
                print(f"{f'{size_name} {name}':36}{cells}{cpu:10.2f} ms, {outside:.2f} ms{loop:22.2f} x", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "augmentation": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
