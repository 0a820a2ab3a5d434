"""`python -m benchmarks.stream [PART ...] [--json FILE]`: the stream against DataLoader, bare processes and WebDataset.

    local      lines of 128x512, batch 64, no augmentation; one consumer, then two training workers
    augmented  the same with light augmentation
    s3         from a bucket, against WebDataset; cold and cached. Needs --bucket s3://NAME/PATH and the AWS_* variables
    training   a small SATRN on two workers: waiting, the first batch, the ends of epochs
    memory     images from 64x64 to 4000x4000 pixels under the default bound
    growth     tiny images, 10 thousand to 1 million rows; then the plan alone up to 100 million

Peers are timed in turns; metrics are medians over all rounds.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.stream_data import lines_dataset, local_files, tiny_dataset, write_tars
from benchmarks.stream_growth import plan_alone
from benchmarks.stream_memory import peak_memory
from benchmarks.stream_peers import BATCH, bare_processes, steady_rate, torch_loader, webdataset
from cluster.errors import UserError, run_command
from cluster.scratch import scratch_folder
from cluster.session import ray_session
from data_pipeline.augmentation.config import Augmentation
from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.dataset.token_targets import TokenTargets
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.storage.base import Storage, open_storage
from data_pipeline.stream import CacheConfig, StreamConfig, StreamPosition, TrainStream

PARTS = ("local", "augmented", "s3", "training", "memory", "growth")
Metrics = dict[str, Any]


def stream(uri: str, config: StreamConfig, rank: int = 0, ranks: int = 1) -> TrainStream:
    """The stream of a rank, in batches of 64 for each."""
    dataset = open_dataset(uri)
    targets = TokenTargets(Tokenizer(dataset.manifest.charset))
    size = BATCH * ranks
    return TrainStream(
        dataset, "train", targets, config, seed=0, global_batch_size=size, rank=rank, world_size=ranks, local_world_size=ranks
    )


def sizes(uri: str, config: StreamConfig, epochs: int, rank: int = 0, ranks: int = 1) -> Iterator[int]:
    """Images of each batch as it comes."""
    for batch in stream(uri, config, rank, ranks).batches(StreamPosition(), epochs):
        yield len(batch.ids)


def rate(uri: str, config: StreamConfig, epochs: int) -> float:
    """Images/s of one consumer."""
    return steady_rate(sizes(uri, config, epochs))


def _rank_rate(uri: str, config: StreamConfig, epochs: int, rank: int, ranks: int) -> float:
    return steady_rate(sizes(uri, config, epochs, rank, ranks))


def two_workers(uri: str, config: StreamConfig, epochs: int) -> float:
    """Measure images/s of two training workers together, each a process with its part of every batch."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_rank_rate, uri, config, epochs, rank, 2) for rank in range(2)]
        return sum(future.result() for future in futures)


def in_turns(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Measure the median rate of each peer; each round prints its own."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, run in ways.items():
            rates[name].append(run())
        print(f"  round {number + 1}: " + ", ".join(f"{name} {values[-1]:,.0f}" for name, values in rates.items()), flush=True)
    return {name: statistics.median(values) for name, values in rates.items()}


def against_loader(scratch: Path, rounds: int, epochs: int, augmentation: Augmentation) -> Metrics:
    """All ways of the stream, two training workers, DataLoader and bare processes over the same files."""
    dataset = lines_dataset(str(scratch / "lines"))
    uri, files = dataset.storage.uri, local_files(dataset)
    threads = StreamConfig(augmentation=augmentation, execution="threads")
    ways: dict[str, Callable[[], float]] = {
        "bare": lambda: bare_processes(files, epochs, augmentation),
        "DataLoader": lambda: torch_loader(files, epochs, augmentation),
        "threads": lambda: rate(uri, threads, epochs),
        "process": lambda: rate(uri, replace(threads, execution="process"), epochs),
        "tasks": lambda: rate(uri, replace(threads, execution="ray"), epochs),
        "two workers": lambda: two_workers(uri, threads, epochs),
    }
    with ray_session(min_cpus=2):
        rate(uri, replace(threads, execution="ray"), 2)  # its processes start
        rates = in_turns(ways, rounds)
    for name, value in rates.items():
        print(
            f"  {name:12} {value:8,.0f} images/s: {value / rates['DataLoader']:.2f} x DataLoader, "
            f"{value / rates['bare']:.2f} x bare"
        )
    print(f"  two workers  {rates['two workers'] / rates['threads']:.2f} x one consumer")
    return {"images_per_s": rates}


def from_bucket(bucket: str, scratch: Path, rounds: int, epochs: int) -> Metrics:
    """The same lines from S3: uncached, on a cold and a warm cache; WebDataset's tars lie beside them."""
    if find_spec("webdataset") is None:
        raise UserError("WebDataset is not installed: `pip install --no-deps -r requirements-bench.txt`.")
    dataset = lines_dataset(bucket + "/lines", images=3 * 4096)
    urls = [_signed(file) for file in write_tars(dataset, open_storage(bucket + "/tars"))]
    config = StreamConfig(augmentation="none", execution="threads")
    warm = replace(config, cache=CacheConfig("disk", str(scratch / "warm")))
    rate(bucket + "/lines", warm, 1)
    number = iter(range(10**6))

    def cold() -> float:
        """One epoch, all of it read remotely and kept."""
        cache = CacheConfig("disk", str(scratch / f"cold-{next(number)}"))
        return rate(bucket + "/lines", replace(config, cache=cache), 1)

    ways: dict[str, Callable[[], float]] = {
        "WebDataset": lambda: webdataset(urls, epochs),
        "stream": lambda: rate(bucket + "/lines", config, epochs),
        "cold cache": cold,
        "warm cache": lambda: rate(bucket + "/lines", warm, epochs),
    }
    rates = in_turns(ways, rounds)
    for name, value in rates.items():
        print(f"  {name:12} {value:8,.0f} images/s  {value / rates['WebDataset']:.2f} x WebDataset")
    return {"images_per_s": rates}


def _signed(file: Storage) -> str:
    """An address of an object that curl may fetch."""
    from botocore.session import get_session

    client = get_session().create_client("s3", endpoint_url=os.environ.get("AWS_ENDPOINT_URL"))
    bucket, _, key = file.path.partition("/")
    return str(client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": key}))


def training(scratch: Path) -> Metrics:
    """Measure how a training run of three epochs waits for its data."""
    from data_pipeline.dataset.image_policy import ImagePolicy
    from data_pipeline.synthesis.formulas.build import synthesize_formulas
    from data_pipeline.synthesis.formulas.grammar import FormulaConfig
    from trainers.config.load import load_config
    from trainers.run.directory import new_run
    from trainers.run.launch_ray import launch_ray
    from trainers.run.preflight import preflight
    from trainers.tracking import Console

    with ray_session(min_cpus=3):
        synthesize_formulas(
            f"{scratch}/formulas", {"train": 3200, "val": 64}, 0, ImagePolicy(), FormulaConfig(), overwrite=False
        )
        own = [f"data.dataset={scratch}/formulas", f"runs_dir={scratch}/runs", "data.test_split=''", "epochs=3"]
        config = load_config("configs/train/formulas.yaml", [*own, "tracking.log_interval=10", "tracking.wandb=false"])
        history = launch_ray(preflight(config), new_run(config), Console(io.StringIO())).history
    waits = [row["data/wait_share"] for row in history if "train/loss" in row and row["step"] > 20]
    first = [row["epoch/first_wait_s"] for row in history if "epoch/first_wait_s" in row]
    metrics = {
        "wait_share": statistics.mean(waits),
        "first_batch_s": first[0],
        "epoch_boundary_s": max(first[1:]),
        "images_per_s": statistics.median(row["data/images_per_s"] for row in history if "train/loss" in row),
    }
    print(f"  {metrics['images_per_s']:.0f} images/s; waiting after 20 steps {metrics['wait_share']:.2%} of the time")
    print(
        f"  first batch after {first[0]:.2f} s, those of later epochs after {', '.join(f'{wait:.3f} s' for wait in first[1:])}"
    )
    return metrics


def growth(scratch: Path, rows: list[int], rounds: int) -> Metrics:
    """Microseconds per image of one whole epoch, from the manifest to the last batch."""
    uris = {count: tiny_dataset(str(scratch / f"tiny-{count}"), count).storage.uri for count in rows}

    def epoch(count: int) -> float:
        started = time.perf_counter()
        assert sum(sizes(uris[count], StreamConfig(augmentation="none", execution="threads"), 1)) == count
        return 1e6 * (time.perf_counter() - started) / count

    costs: dict[int, list[float]] = {count: [] for count in rows}
    for _ in range(rounds):
        for count in rows:
            costs[count].append(statistics.median(epoch(count) for _ in range(9 if count < 50_000 else 1)))
        print("  round: " + ", ".join(f"{count:,} rows {times[-1]:.1f} us" for count, times in costs.items()), flush=True)
    metrics: Metrics = {"us_per_image": {count: statistics.median(times) for count, times in costs.items()}}
    for count, cost in metrics["us_per_image"].items():
        print(f"  {count:10,} rows: {cost:.1f} us an image, start included")
    metrics["plan"] = [plan_alone(count) for count in (10**6, 10**7, 10**8)]
    for row in metrics["plan"]:
        print(
            f"  plan of {row['rows']:11,} rows, {row['row_groups']:9,} row groups: manifest read in {row['manifest_s']:.2f} s "
            f"({row['manifest_mb']:.0f} MB), windows of an epoch in {row['epoch_s']:.3f} s, order of a window in "
            f"{1e3 * row['window_s']:.2f} ms, {row['memory_mb']:.0f} MB",
            flush=True,
        )
    return metrics


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stream", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all that can run)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10, help="of 4,096 images in each round (default %(default)s)")
    parser.add_argument("--bucket", help="s3://NAME/PATH to write to; what lies there is replaced")
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000], help="sizes of `growth`")
    parser.add_argument("--json", type=Path, help="write the metrics to this file, too")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        raise UserError(f"No part {', '.join(sorted(unknown))}. There are {', '.join(PARTS)}.")
    parts = args.parts or [part for part in PARTS if part != "s3" or args.bucket]
    if "s3" in parts and not args.bucket:
        raise UserError("s3 needs --bucket s3://NAME/PATH.")
    metrics: Metrics = {"machine": machine()}
    for part in parts:
        print(f"{part}:", flush=True)
        with scratch_folder("bench") as scratch:
            match part:
                case "local":
                    metrics[part] = against_loader(scratch, args.rounds, args.epochs, "none")
                case "augmented":
                    metrics[part] = against_loader(scratch, args.rounds, args.epochs, "light")
                case "s3":
                    metrics[part] = from_bucket(args.bucket, scratch, args.rounds, max(1, args.epochs // 3))
                case "training":
                    metrics[part] = training(scratch)
                case "memory":
                    metrics[part] = peak_memory(scratch)
                case "growth":
                    metrics[part] = growth(scratch, args.rows, args.rounds)
    print(metrics["machine"])
    if args.json:
        args.json.write_text(json.dumps(metrics, indent=1))
    return 0


if __name__ == "__main__":
    run_command(main)
