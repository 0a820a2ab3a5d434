"""`python -m data_pipeline.bench DATASET [key=value ...]`: what this storage and these CPUs can feed, part by part.

Keys are those of the stream's configuration: `augmentation=strong cache.location=disk window_row_groups=64`. Reading, decoding
and augmenting are timed apart, then the stream as a whole, by threads of one process, by a process beside it and by Ray tasks.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from omegaconf import OmegaConf

from cluster.arguments import finite_number, whole_number
from cluster.errors import UserError, run_command
from cluster.numbers import with_number_problems
from cluster.session import ray_session
from cluster.values import Typing
from data_pipeline.augmentation.config import Augmentation, chain_of
from data_pipeline.dataset.manifest import Dataset, open_dataset
from data_pipeline.dataset.targets import NoTargets
from data_pipeline.stream import StreamConfig, StreamPosition, StreamStats, TrainStream
from data_pipeline.stream.collator import Collator
from data_pipeline.stream.config import RENAMED, Execution
from data_pipeline.stream.reader import RowGroupReader
from data_pipeline.stream.rows import Rows
from data_pipeline.stream.shared_memory import can_share_memory
from data_pipeline.stream.stream import decoding_threads
from data_pipeline.stream.threads import LOCAL_READS, REMOTE_READS

EPOCHS = 10_000  # more than there is time for


@dataclass(frozen=True)
class Speed:
    """The images of `seconds`, their statistics, and how long the first took to come."""

    images: int
    seconds: float
    stats: StreamStats
    first_s: float = 0.0

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / max(self.seconds, 1e-9)


class Bench:
    """Measures what feeds the images of one split."""

    def __init__(self, dataset: Dataset, split: str, config: StreamConfig, batch_size: int, seconds: float) -> None:
        self._dataset, self._split, self._config = dataset, split, config
        self._batch_size, self._seconds = batch_size, seconds
        self._targets = NoTargets()  # of any task: encoding a target takes no time beside decoding its image
        self.threads = decoding_threads(config, 1)

    def _stream(self, config: StreamConfig) -> TrainStream:
        return TrainStream(self._dataset, self._split, self._targets, config, seed=0, global_batch_size=self._batch_size)

    def reading(self) -> Speed:
        """Read row groups in the order of training, as many at a time as the stream does."""
        plan = self._stream(self._config).plan
        reader = RowGroupReader(self._dataset, self._split, plan.groups, self._config)
        at_a_time = REMOTE_READS if reader.remote else LOCAL_READS
        numbers = (int(group) for epoch in itertools.count() for window in plan.windows(epoch) for group in window.groups)
        started, first_s, images, stats = time.monotonic(), 0.0, 0, StreamStats()
        with ThreadPoolExecutor(at_a_time) as pool:
            while time.monotonic() - started < self._seconds:
                for rows, part in pool.map(reader.read, itertools.islice(numbers, 4 * at_a_time)):
                    first_s = first_s or time.monotonic() - started
                    images, stats = images + len(rows.ids), stats + part
        return Speed(images, time.monotonic() - started, stats, first_s)

    def decoding(self, augmentation: Augmentation, threads: int) -> Speed:
        """Collate batches of rows that are in memory already."""
        plan = self._stream(self._config).plan
        reader = RowGroupReader(self._dataset, self._split, plan.groups, self._config)
        groups = [reader.read(int(number))[0] for number in plan.windows(0)[0].groups[:16]]
        collator = Collator(self._dataset.manifest.image, self._targets, chain_of(augmentation), 0)

        def decode(rows: Rows) -> StreamStats:
            return collator(0, len(rows.ids), [(rows, index) for index in range(len(rows.ids))]).stats

        decode(groups[0])
        started, stats, endless = time.monotonic(), StreamStats(), itertools.cycle(groups)
        with ThreadPoolExecutor(threads) as pool:
            while time.monotonic() - started < self._seconds:
                stats = sum(pool.map(decode, itertools.islice(endless, 4 * threads)), stats)
        return Speed(stats.images, time.monotonic() - started, stats)

    def streaming(self, execution: Execution) -> Speed:
        """Consume the stream as training does; its first batch is timed apart."""
        batches = self._stream(replace(self._config, execution=execution)).batches(StreamPosition(), EPOCHS)
        started = time.monotonic()
        next(batches)
        first_s, begun = time.monotonic() - started, time.monotonic()
        images, stats = 0, StreamStats()
        while time.monotonic() - begun < self._seconds:
            batch = next(batches)
            images, stats = images + len(batch.ids), stats + batch.stats
        seconds = time.monotonic() - begun
        batches.close()
        return Speed(images, seconds, stats, first_s)


def report(bench: Bench, config: StreamConfig, with_ray: bool) -> Iterator[str]:
    """Yield a line for each measurement as it is made, then a conclusion."""
    reading = bench.reading()
    cached = reading.stats.cached / max(reading.stats.cached + reading.stats.reads, 1)
    yield (
        f"reading            {reading.rate:10,.0f} images/s  {reading.stats.read_bytes / 1e6 / reading.seconds:.1f} MB/s read, "
        f"{cached:.0%} from the cache, first rows after {reading.first_s:.2f} s"
    )
    alone = bench.decoding("none", 1)
    yield f"decoding, 1 thread {alone.rate:10,.0f} images/s  {1e3 / alone.rate:.2f} ms an image, no augmentation"
    decoding = bench.decoding(config.augmentation, bench.threads)
    yield f"{f'decoding, {bench.threads} threads':18}{decoding.rate:11,.0f} images/s  augmentation {config.augmentation}"
    executions: dict[Execution, Callable[[], Speed]] = {"threads": lambda: bench.streaming("threads")}
    if can_share_memory():
        executions["process"] = lambda: bench.streaming("process")
    if with_ray:
        executions["ray"] = lambda: bench.streaming("ray")
    speeds: dict[Execution, Speed] = {}
    for execution, measure in executions.items():
        speeds[execution] = speed = measure()
        padding = 1 - speed.stats.pixels / max(speed.stats.padded_pixels, 1)
        yield (
            f"stream, {execution:11}{speed.rate:10,.0f} images/s  first batch after {speed.first_s:.2f} s, "
            f"{padding:.0%} padding" + (f", {speed.stats.retries} retries" if speed.stats.retries else "")
        )
    best = max(speeds, key=lambda name: speeds[name].rate)
    bound = "storage" if reading.rate < decoding.rate else "decoding"
    advice = {
        "storage": "stream.cache.location=disk reads it once"
        if config.cache.location == "off"
        else "a faster store, or more machines",
        "decoding": "more cores feed more, and machines without GPUs may join the cluster (stream.execution=ray)",
    }[bound]
    yield f"This machine feeds {speeds[best].rate:,.0f} images/s (stream.execution={best}), bound by {bound}: {advice}."


def stream_config(overrides: list[str]) -> StreamConfig:
    """The defaults with `key=value` overrides, with or without `stream.` in front.

    Raises:
        UserError: an unknown key or a bad value, by name.
    """
    merged = OmegaConf.structured(StreamConfig)
    typing = Typing(StreamConfig, "the command line", renames=RENAMED)
    for override in overrides:
        merged = typing.merge(merged, typing.override(override.removeprefix("stream.")))
    config = typing.finish(merged)
    found = typing.problems
    if config is not None:
        found += [f"Bad value: {problem}." for problem in with_number_problems(config, config.validate(), "stream")]
    if found:
        raise UserError(" ".join(found))
    assert isinstance(config, StreamConfig)
    return config


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m data_pipeline.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="folder or URI")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="of the stream's configuration")
    parser.add_argument("--split", default="train")
    parser.add_argument("--batch-size", type=whole_number(1, 1_000_000), default=64)
    parser.add_argument("--seconds", type=finite_number(0.01, 3600), default=5, help="of each part (default %(default)s)")
    parser.add_argument("--no-ray", action="store_true", help="leave out Ray tasks")
    args = parser.parse_intermixed_args()
    config = stream_config(args.overrides)
    dataset = open_dataset(args.dataset)
    rows = dataset.manifest.filled_split(args.split).rows
    print(
        f"{args.dataset}, split {args.split}: {rows:,} images, {config.augmentation} augmentation, batches of {args.batch_size}"
    )
    bench = Bench(dataset, args.split, config, args.batch_size, args.seconds)
    if args.no_ray:
        for line in report(bench, config, with_ray=False):
            print(line, flush=True)
    else:
        with ray_session(min_cpus=2):
            for line in report(bench, config, with_ray=True):
                print(line, flush=True)
    return 0


if __name__ == "__main__":
    run_command(main)
