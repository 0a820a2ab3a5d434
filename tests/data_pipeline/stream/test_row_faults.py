"""One row ends no run: whatever is wrong with it is its own rejection, and its size is not that of its batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from data_pipeline.augmentation.chain import Chain
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import Dataset
from data_pipeline.dataset.shards import Rejected, Row
from data_pipeline.dataset.token_targets import MAX_TOKENS
from data_pipeline.preparation.build import Chunk, build_dataset
from data_pipeline.preparation.images import encode_png
from data_pipeline.preparation.target_survey import TextSurvey
from data_pipeline.storage.base import open_storage
from data_pipeline.stream import Batch, StreamConfig, StreamPosition
from tests.support.datasets import sequence_manifest, text_row, write_sequence_dataset
from tests.support.streams import CONFIG, train_stream
from trainers.config.train import TrainConfig
from trainers.tasks.sequence import SequenceTask

PIXELS = np.full((32, 40), 200, np.uint8)


def dataset_of(folder: Path, *rows: Row) -> Dataset:
    return write_sequence_dataset(folder, rows, ["a"], ImagePolicy(32, 64))


def only_batch(dataset: Dataset, config: StreamConfig = CONFIG) -> Batch:
    (batch,) = train_stream(dataset, config=config).batches(StreamPosition(), 1)
    return batch


def row(name: str, image: bytes | None = None, tokens: int = 2) -> Row:
    return text_row(name, image or encode_png(PIXELS), 40, 32, " ".join("a" * tokens))


def test_a_text_of_a_million_tokens_is_its_rows_rejection_and_sizes_nothing(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, row("long", tokens=1_000_000), row("short"))
    batch = only_batch(dataset)
    assert batch.errors == {"long": "1,000,000 tokens, more than the 4,096 allowed (stream.max_tokens)"}
    assert batch.targets["tokens"].shape[1] == 4 and batch.weights.sum() == 1
    assert SequenceTask.from_dataset(dataset.manifest, TrainConfig()).max_length == MAX_TOKENS + MAX_TOKENS // 2 + 1


def test_the_longest_text_that_is_allowed_is_a_target(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, row("five", tokens=5), row("six", tokens=6))
    batch = only_batch(dataset, replace(CONFIG, max_tokens=5))
    assert list(batch.errors) == ["six"] and batch.targets["tokens"].shape[1] == 7


def test_preparation_rejects_a_text_that_is_too_long(ray_cluster: None, tmp_path: Path) -> None:
    empty, chunks = sequence_manifest("made up", [], ImagePolicy(32, 64)), [Chunk("train", 0, 2, None)]
    made = build_dataset(open_storage(tmp_path), empty, chunks, long_and_short, survey=TextSurvey(max_tokens=4))
    assert (made.split("train").rows, made.split("train").target_stats, made.rejected) == (1, {"max_tokens": 2}, 1)
    (rejected,) = pq.read_table(tmp_path / "rejected.parquet").to_pylist()
    assert (rejected["id"], rejected["reason"]) == ("long", "5 tokens, more than the 4 allowed")


def long_and_short(chunk: Chunk) -> tuple[list[Row], list[Rejected]]:
    return [row("long", tokens=5), row("short")], []


@pytest.mark.parametrize(
    "error",
    [MemoryError("no room"), RuntimeError("odd"), ZeroDivisionError("zero"), cv2.error("-215")],
    ids=lambda error: type(error).__name__,
)
def test_whatever_augmentation_raises_is_the_rows_rejection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def augment(chain: Chain, image: np.ndarray, seed: int, epoch: int, sample_id: str) -> np.ndarray:
        if sample_id == "bad":
            raise error
        return image

    monkeypatch.setattr(Chain, "__call__", augment)
    batch = only_batch(dataset_of(tmp_path, row("bad"), row("good")))
    assert list(batch.errors) == ["bad"] and batch.errors["bad"].startswith("cannot be augmented: ")
    assert batch.weights.sum() == 1 and batch.targets["tokens"].shape[1] == 4


def test_what_decoders_raise_beyond_their_lists_is_the_rows_rejection(tmp_path: Path) -> None:
    avif = cv2.imencode(".avif", PIXELS)[1].tobytes()
    damaged = avif[: len(avif) // 2] + b"\xff" * (len(avif) - len(avif) // 2)
    dds = b"DDS " + b"\x7c\0\0\0" + b"\xff" * 160
    batch = only_batch(dataset_of(tmp_path, row("avif", damaged), row("dds", dds), row("good")))
    assert sorted(batch.errors) == ["avif", "dds"] and batch.weights.sum() == 1
