"""Decoding in a process beside the training worker: it ends with it, dies alone, and hands over what threads would give."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from cluster.errors import UserError
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import Dataset, open_dataset
from data_pipeline.dataset.targets import NoTargets
from data_pipeline.preparation.images import encode_png
from data_pipeline.storage.base import StorageError
from data_pipeline.stream import StreamConfig, StreamPosition, TrainStream
from data_pipeline.stream.process import AHEAD
from tests.support.acting_targets import Acting, break_down, die, divide, hang, hang_after_64, miss, name_heavy_modules
from tests.support.datasets import text_row, write_sequence_dataset
from tests.support.places import ROOT
from tests.support.streams import BATCH, CONFIG, SEED, digests, train_stream

PROCESS = replace(CONFIG, execution="process")


@pytest.fixture(scope="module")
def dataset(formulas_dataset: str) -> Dataset:
    return open_dataset(formulas_dataset)


def acting(dataset: Dataset, targets: Any, threads: int = 0) -> TrainStream:
    config = replace(PROCESS, threads=threads)
    return TrainStream(dataset, "train", targets, config, seed=SEED, global_batch_size=BATCH)


def read_acting(dataset: Dataset, targets: Any) -> None:
    list(acting(dataset, targets).batches(StreamPosition(), 1))


def decoders(parent: int | None = None) -> list[psutil.Process]:
    """The decoding processes of a process, of this one by default."""
    return [child for child in psutil.Process(parent).children() if "process_main" in " ".join(child.cmdline())]


def gone(process: psutil.Process) -> bool:
    """Whether a process ends soon."""
    deadline = time.monotonic() + 10
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_batches_are_memory_of_ones_own_that_goes_with_them(dataset: Dataset) -> None:
    config = replace(PROCESS, augmentation="none")
    batches = train_stream(dataset, config=config).batches(StreamPosition(), 21)
    this = psutil.Process()
    first = next(batches)
    for array in (first.images, first.sizes, first.weights, first.targets["tokens"]):
        assert array.flags.writeable and array.flags.aligned
    before = this.num_fds(), this.memory_info().shared
    kept = first.images.copy()
    for _, batch in zip(range(200), batches, strict=False):
        batch.images[:] = 0
    assert np.array_equal(first.images, kept)
    del batch
    assert this.num_fds() <= before[0] + 1  # of the last batch, which generators hold
    assert this.memory_info().shared - before[1] < 20 * kept.nbytes
    batches.close()
    assert not decoders()
    del first
    gc.collect()
    assert this.num_fds() < before[0]


def test_the_process_imports_no_more_than_it_needs(dataset: Dataset) -> None:
    """Also where its order went through Ray's pickler."""
    assert "ray" in sys.modules
    with pytest.raises(UserError, match=r"heavy: \[\]"):
        read_acting(dataset, Acting(name_heavy_modules))


def test_errors_are_those_of_threads(dataset: Dataset, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StorageError, match="is away") as raised:
        read_acting(dataset, Acting(miss))
    assert raised.value.missing and raised.value.transient and not hasattr(raised.value, "__notes__")
    with pytest.raises(ZeroDivisionError, match="by nothing") as unexpected:
        read_acting(dataset, Acting(divide))
    assert ", in divide\n" in unexpected.value.__notes__[0]
    with pytest.raises(RuntimeError, match="TwoWords: wholly unexpected") as other:  # it cannot be unpickled
        read_acting(dataset, Acting(break_down))
    assert ", in break_down\n" in other.value.__notes__[0]
    assert capfd.readouterr().err == ""


def test_what_cannot_be_sent_is_one_message(dataset: Dataset) -> None:
    with pytest.raises(UserError, match=r"cannot be sent to the decoding process .* Set stream.execution=threads"):
        read_acting(dataset, Acting(threading.Lock()))  # type: ignore[arg-type]
    try:
        Acting.__module__ = "of_the_script_that_runs"
        sys.modules[Acting.__module__] = sys.modules[__name__]
        with pytest.raises(UserError, match=r"cannot load .*of_the_script_that_runs.* set stream.execution=threads"):
            read_acting(dataset, Acting(miss))
    finally:
        del sys.modules[Acting.__module__]
        Acting.__module__ = __name__


def test_a_system_without_shared_memory_says_so(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(UserError, match=r"stream.execution=process needs .* set threads"):
        train_stream(dataset, config=PROCESS)


def test_one_that_is_killed_is_replaced_without_a_trace_in_the_batches(
    dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    expected = [digests(batch) for batch in train_stream(dataset).batches(StreamPosition(), 1)]
    seen = []
    with caplog.at_level(logging.WARNING):
        for number, batch in enumerate(train_stream(dataset, config=PROCESS).batches(StreamPosition(), 1)):
            seen.append(digests(batch))
            if number in (2, 5):
                (decoder,) = decoders()
                decoder.send_signal(signal.SIGINT)  # ignored, and so is what ends a group of processes
                decoder.send_signal(signal.SIGTERM)
                if number == 5:
                    decoder.kill()
    assert seen == expected
    assert caplog.messages == ["The decoding process was killed by SIGKILL; another one continues after the last batch."]


def test_one_that_dies_again_and_again_ends_the_run(dataset: Dataset) -> None:
    with pytest.raises(UserError, match=r"was killed by SIGKILL 3 times in a row, .* Set stream.memory_mb \(now 1024\)"):
        read_acting(dataset, Acting(die))


def test_it_ends_with_the_generator_though_its_threads_wait(dataset: Dataset) -> None:
    batches = acting(dataset, Acting(hang_after_64), threads=1).batches(StreamPosition(), 1)
    next(batches)
    (decoder,) = decoders()
    time.sleep(0.3)
    started = time.monotonic()
    batches.close()
    assert gone(decoder) and time.monotonic() - started < 2


def test_stop_ends_waiting_at_once(dataset: Dataset) -> None:
    stream = acting(dataset, Acting(hang))
    batches = stream.batches(StreamPosition(), 1)
    threading.Timer(1.0, stream.stop).start()
    started = time.monotonic()
    with pytest.raises(StorageError, match="stopped"):
        next(batches)
    assert time.monotonic() - started < 60 and not decoders(), "not after the 600 s that decoding hangs"


_CONSUMER = """
import sys
from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.stream import StreamPosition
from tests.data_pipeline.stream.test_process import acting
from tests.support.acting_targets import Acting, hang
next(acting(open_dataset(sys.argv[1]), Acting(hang)).batches(StreamPosition(), 1))
"""


def test_it_does_not_outlive_a_consumer_that_is_killed(dataset: Dataset) -> None:
    consumer = subprocess.Popen([sys.executable, "-c", _CONSUMER, dataset.storage.path], cwd=ROOT)
    try:
        while not (started := decoders(consumer.pid)):
            assert consumer.poll() is None
            time.sleep(0.02)
        time.sleep(0.7)  # its threads begin to wait
        assert started[0].is_running()
    finally:
        consumer.kill()
        consumer.wait()
    assert gone(started[0])


def bytes_held(directory: Path, height: int, width: int, memory_mb: int) -> int:
    """Private memory of a decoding process that nobody takes batches from; what is shared depends on the machine."""
    image = encode_png(np.full((height, width), 200, np.uint8))
    rows = [text_row(f"{number:03d}", image, width, height, "a") for number in range(512)]
    dataset = write_sequence_dataset(directory, rows, ["a"], ImagePolicy(height, width))
    config = StreamConfig(memory_mb=memory_mb, augmentation="none", execution="process", threads=2, prefetch_batches=50)
    stream = TrainStream(dataset, "train", NoTargets(), config, seed=0, global_batch_size=16)
    with contextlib.closing(stream.batches(StreamPosition(), 50)) as batches:
        next(batches)
        (decoder,) = decoders()
        held, before = int(decoder.memory_full_info().uss), 0
        while held > before + 2**20:
            time.sleep(0.5)
            held, before = int(decoder.memory_full_info().uss), held
        return held


def test_a_slow_consumer_does_not_fill_the_memory(tmp_path: Path) -> None:
    at_rest = bytes_held(tmp_path / "small", 32, 64, memory_mb=200)
    filled = bytes_held(tmp_path / "large", 512, 1024, memory_mb=200)
    on_their_way = AHEAD * 16 * 512 * 1024  # nobody's yet
    assert filled - at_rest + on_their_way < 200 * 2**20


def test_transforms_of_albumentations_give_the_same_images_in_a_process(dataset: Dataset) -> None:
    augmentation = [{"shift_scale_rotate": {"p": 1}}, {"albumentations": ["GaussNoise", {"Sharpen": {"p": 1}}]}]
    read = {}
    for execution in ("threads", "process"):
        config = replace(CONFIG, execution=execution, augmentation=augmentation, threads=3)
        with contextlib.closing(train_stream(dataset, config=config).batches(StreamPosition(), 1)) as batches:
            first = [batch for _, batch in zip(range(4), batches, strict=False)]
        assert not any(batch.errors for batch in first)
        read[execution] = [digests(batch) for batch in first]
    assert read["threads"] == read["process"]
