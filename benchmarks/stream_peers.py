"""Peers of the stream: bare processes, torch's DataLoader, WebDataset. Each decodes with OpenCV, two images at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from data_pipeline.augmentation.config import Augmentation, chain_of

WORKERS = 2
BATCH = 64


def steady_rate(batches: Iterator[int], skip: float = 0.25) -> float:
    """Images/s of batches given by their sizes, without the first `skip` of them."""
    times, sizes = [], []
    for size in batches:
        times.append(time.perf_counter())
        sizes.append(size)
    first = int(len(times) * skip)
    return sum(sizes[first + 1 :]) / (times[-1] - times[first])


def row_groups(files: list[str], epochs: int) -> list[tuple[str, int, int]]:
    """(file, row group, epoch) of all epochs, shuffled."""
    groups = [(file, index) for file in files for index in range(pq.ParquetFile(file).num_row_groups)]
    orders = [np.random.default_rng(epoch).permutation(len(groups)) for epoch in range(epochs)]
    return [(*groups[index], epoch) for epoch, order in enumerate(orders) for index in order]


def _imdecode(data: Any) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return image


class _Decoder:
    """Decodes and augments the images of row groups; files stay open."""

    def __init__(self, augmentation: Augmentation) -> None:
        cv2.setNumThreads(0)
        self._files: dict[str, pq.ParquetFile] = {}
        self._augment = chain_of(augmentation)

    def __call__(self, file: str, index: int, epoch: int) -> list[np.ndarray]:
        if file not in self._files:
            self._files[file] = pq.ParquetFile(file)
        table = self._files[file].read_row_group(index, columns=["id", "image"])
        images = (_imdecode(cell.as_buffer()) for cell in table.column("image"))
        names = table.column("id").to_pylist()
        return [self._augment(image, 0, epoch, name) for image, name in zip(images, names, strict=True)]


def _bare(part: list[tuple[str, int, int]], augmentation: Augmentation) -> float:
    decoder = _Decoder(augmentation)
    decoder(*part[0])
    started, images = time.perf_counter(), 0
    for group in part:
        images += len(decoder(*group))
    return images / (time.perf_counter() - started)


def bare_processes(files: list[str], epochs: int, augmentation: Augmentation) -> float:
    """Two processes that read, decode and throw away: nothing is put together or handed over."""
    groups = row_groups(files, epochs)
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        rates = pool.map(_bare, [groups[worker::WORKERS] for worker in range(WORKERS)], [augmentation] * WORKERS)
        return sum(rates)


class _RowGroups(IterableDataset[Any]):
    """Batches of one row group each, as a careful user of torch would read Parquet."""

    def __init__(self, groups: list[tuple[str, int, int]], augmentation: Augmentation) -> None:
        self._groups, self._augmentation = groups, augmentation

    def __iter__(self) -> Iterator[torch.Tensor]:
        decoder = _Decoder(self._augmentation)
        worker = get_worker_info()
        assert worker is not None
        for group in self._groups[worker.id :: worker.num_workers]:
            yield torch.from_numpy(np.stack(decoder(*group)))[:, None]


def torch_loader(files: list[str], epochs: int, augmentation: Augmentation, workers: int = WORKERS) -> float:
    """torch's DataLoader over the same Parquet files; its row groups are of 64 rows, its batches too."""
    dataset = _RowGroups(row_groups(files, epochs), augmentation)
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, prefetch_factor=4)
    return steady_rate(len(batch) for batch in loader)


def _decode_sample(sample: tuple[bytes, bytes]) -> tuple[torch.Tensor, str]:
    return torch.from_numpy(_imdecode(sample[0]))[None], sample[1].decode()


def webdataset(urls: list[str], epochs: int) -> float:
    """WebDataset over tar shards with two workers and its own reader (curl for http), shuffled as its manual says."""
    import webdataset as wds

    shards = [f"pipe:curl -s -f '{url}'" if url.startswith("http") else url for url in urls] * epochs
    dataset = (
        wds.WebDataset(shards, shardshuffle=len(shards), empty_check=False)
        .shuffle(1000)
        .to_tuple("png", "txt")
        .map(_decode_sample)
        .batched(BATCH)
    )
    loader = wds.WebLoader(dataset, batch_size=None, num_workers=WORKERS, prefetch_factor=4)
    return steady_rate(len(images) for images, _ in loader)
