"""`python -m data_pipeline.bench DATASET [key=value ...]`: what this storage and these CPUs can feed, part by part.

Keys are those of the stream's configuration: `augmentation=strong cache.place=disk window_row_groups=64`. Reading, decoding
and augmenting are timed apart, then the stream as a whole, by threads of one process and by tasks of Ray.
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
from data_pipeline.dataset.manifest import Dataset, open_dataset
from data_pipeline.dataset.targets import NoTargets
from data_pipeline.stream import Costs, Position, StreamConfig, TrainStream
from data_pipeline.stream.batch import Decoder
from data_pipeline.stream.config import RENAMED, Augmentation, Execution
from data_pipeline.stream.read import RowGroupReader, Rows
from data_pipeline.stream.stream import decoding_threads
from data_pipeline.stream.threads import LOCAL_READS, REMOTE_READS

EPOCHS = 10_000  # more than there is time for


@dataclass(frozen=True)
class Speed:
    """Images of `seconds`, what they cost, and how long the first took to come."""

    images: int
    seconds: float
    costs: Costs
    first_s: float = 0.0

    @property
    def rate(self) -> float:
        """Images/s."""
        return self.images / max(self.seconds, 1e-9)


class Bench:
    """The measurements on one split."""

    def __init__(self, dataset: Dataset, split: str, config: StreamConfig, batch_size: int, seconds: float) -> None:
        self._dataset, self._split, self._config = dataset, split, config
        self._batch_size, self._seconds = batch_size, seconds
        self._targets = NoTargets()  # any task: what a target costs is nothing beside its image
        self.threads = decoding_threads(config, 1)

    def _stream(self, config: StreamConfig) -> TrainStream:
        return TrainStream(self._dataset, self._split, self._targets, config, seed=0, global_batch_size=self._batch_size)

    def reading(self) -> Speed:
        """Row groups in the order of training, as many at a time as the stream reads."""
        plan = self._stream(self._config).plan
        reader = RowGroupReader(self._dataset, self._split, plan.groups, self._config)
        at_a_time = REMOTE_READS if reader.remote else LOCAL_READS
        numbers = (int(group) for epoch in itertools.count() for window in plan.windows(epoch) for group in window.groups)
        started, first_s, images, costs = time.monotonic(), 0.0, 0, Costs()
        with ThreadPoolExecutor(at_a_time) as pool:
            while time.monotonic() - started < self._seconds:
                for rows, its in pool.map(reader.read, itertools.islice(numbers, 4 * at_a_time)):
                    first_s = first_s or time.monotonic() - started
                    images, costs = images + len(rows.ids), costs + its
        return Speed(images, time.monotonic() - started, costs, first_s)

    def decoding(self, augmentation: Augmentation, threads: int) -> Speed:
        """Batches of rows that are in memory already."""
        plan = self._stream(self._config).plan
        reader = RowGroupReader(self._dataset, self._split, plan.groups, self._config)
        groups = [reader.read(int(number))[0] for number in plan.windows(0)[0].groups[:16]]
        decoder = Decoder(self._dataset.manifest.image, self._targets, augmentation, 0)

        def decode(rows: Rows) -> Costs:
            return decoder(0, len(rows.ids), [(rows, index) for index in range(len(rows.ids))]).costs

        decode(groups[0])
        started, costs, endless = time.monotonic(), Costs(), itertools.cycle(groups)
        with ThreadPoolExecutor(threads) as pool:
            while time.monotonic() - started < self._seconds:
                costs = sum(pool.map(decode, itertools.islice(endless, 4 * threads)), costs)
        return Speed(costs.images, time.monotonic() - started, costs)

    def streaming(self, execution: Execution) -> Speed:
        """The stream as training consumes it; its first batch is timed apart."""
        batches = self._stream(replace(self._config, execution=execution)).batches(Position(), EPOCHS)
        started = time.monotonic()
        next(batches)
        first_s, begun = time.monotonic() - started, time.monotonic()
        images, costs = 0, Costs()
        while time.monotonic() - begun < self._seconds:
            batch = next(batches)
            images, costs = images + len(batch.ids), costs + batch.costs
        seconds = time.monotonic() - begun
        batches.close()
        return Speed(images, seconds, costs, first_s)


def report(bench: Bench, config: StreamConfig, with_ray: bool) -> Iterator[str]:
    """Lines of figures as they come, then what follows from them."""
    reading = bench.reading()
    cached = reading.costs.cached / max(reading.costs.cached + reading.costs.reads, 1)
    yield (
        f"reading            {reading.rate:10,.0f} images/s  {reading.costs.read_bytes / 1e6 / reading.seconds:.1f} MB/s read, "
        f"{cached:.0%} from the cache, first rows after {reading.first_s:.2f} s"
    )
    alone = bench.decoding("none", 1)
    yield f"decoding, 1 thread {alone.rate:10,.0f} images/s  {1e3 / alone.rate:.2f} ms an image, no augmentation"
    decoding = bench.decoding(config.augmentation, bench.threads)
    yield f"{f'decoding, {bench.threads} threads':18}{decoding.rate:11,.0f} images/s  augmentation {config.augmentation}"
    ways: dict[Execution, Callable[[], Speed]] = {"threads": lambda: bench.streaming("threads")}
    if with_ray:
        ways["ray"] = lambda: bench.streaming("ray")
    speeds: dict[Execution, Speed] = {}
    for way, measure in ways.items():
        speeds[way] = speed = measure()
        padding = 1 - speed.costs.pixels / max(speed.costs.padded_pixels, 1)
        yield (
            f"stream, {way:11}{speed.rate:10,.0f} images/s  first batch after {speed.first_s:.2f} s, {padding:.0%} padding"
            + (f", {speed.costs.retries} retries" if speed.costs.retries else "")
        )
    best = max(speeds, key=lambda way: speeds[way].rate)
    bound = "storage" if reading.rate < decoding.rate else "decoding"
    advice = {
        "storage": "stream.cache.place=disk reads it once"
        if config.cache.place == "off"
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
    parser.add_argument("--no-ray", action="store_true", help="leave out the tasks of Ray")
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
