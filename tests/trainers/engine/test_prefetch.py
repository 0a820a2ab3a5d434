"""Batches on their way to the device."""

from __future__ import annotations

import threading
from collections.abc import Generator

import numpy as np
import pytest
import torch

from data_pipeline.stream import Batch, StreamPosition
from trainers.engine.prefetch import prefetch_to_device

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


class Source:
    """Batches of one pixel that count from 0, and whether they were closed."""

    closed = False

    def batches(self, count: int) -> Generator[Batch, None, None]:
        try:
            for number in range(count):
                image = np.full((1, 1, 1, 1), number, np.uint8)
                image.flags.writeable = False  # as from the object store
                ones = np.ones(1, np.int64)
                targets, weights = {"tokens": ones[None]}, np.ones(1, np.float32)
                yield Batch(image, ones, targets, weights, [str(number)], [""], {}, StreamPosition(0, number))
            if count == 3:
                raise ValueError("broken")
        finally:
            self.closed = True


@pytest.mark.parametrize("device", DEVICES)
def test_each_batch_comes_with_its_tensors_in_order(device: str, recwarn: pytest.WarningsRecorder) -> None:
    source = Source()
    for number, (batch, tensors) in enumerate(prefetch_to_device(source.batches(9), torch.device(device))):
        assert batch.ids == [str(number)] and tensors.images.device.type == device
        assert int(tensors.images) == number
    assert number == 8 and source.closed and not recwarn.list


@pytest.mark.parametrize("device", DEVICES)
def test_who_stops_early_closes_the_source(device: str) -> None:
    source = Source()
    batches = prefetch_to_device(source.batches(100), torch.device(device))
    next(batches)
    batches.close()
    assert source.closed
    assert not [thread.name for thread in threading.enumerate() if thread.name == "inkray-copy"]


@pytest.mark.parametrize("device", DEVICES)
def test_what_the_source_raises_is_raised_here(device: str) -> None:
    with pytest.raises(ValueError, match="broken"):
        list(prefetch_to_device(Source().batches(3), torch.device(device)))
