"""Small sequence datasets that tests write themselves, and formulas synthesized without Ray."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import Dataset, Manifest, Split, open_dataset
from data_pipeline.dataset.shards import Row, write_shard
from data_pipeline.dataset.token_targets import TEXT, TEXT_COLUMNS
from data_pipeline.preparation.build import Chunk
from data_pipeline.storage.base import open_storage
from data_pipeline.synthesis.formulas.grammar import FormulaConfig

SHARD = "train/part-00000.parquet"


def sequence_manifest(
    name: str, charset: Sequence[str], image: ImagePolicy, splits: Mapping[str, Split] | None = None, **more: Any
) -> Manifest:
    content = {"rejected": 0, "preparation": {}, **more}
    return Manifest(name, "sequence", {"charset": list(charset)}, TEXT_COLUMNS, image, dict(splits or {}), **content)


def text_row(name: str, image: bytes, width: int, height: int, text: str, source: str = "") -> Row:
    return Row(name, image, width, height, {TEXT: text}, source)


def write_sequence_dataset(
    folder: Path, rows: Sequence[Row], charset: Sequence[str], image: ImagePolicy, name: str = "made up"
) -> Dataset:
    """Rows as the one shard of the split `train`."""
    shard = write_shard(open_storage(folder), SHARD, rows, TEXT_COLUMNS)
    longest = max((len(row.target[TEXT].split()) for row in rows), default=0)
    manifest = sequence_manifest(name, charset, image, {"train": Split([shard], {"max_tokens": longest})})
    (folder / "dataset.json").write_bytes(manifest.to_json())
    return open_dataset(str(folder))


@contextmanager
def built_here() -> Iterator[None]:
    """Datasets are built one shard after the other in this process: the same bytes, no Ray."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_pipeline.preparation.build._run", _one_by_one)
        yield


def synthesize_here(out: Path, counts: Mapping[str, int], seed: int = 0) -> Manifest:
    """Formulas as `data_pipeline.synthesize` makes them, without Ray."""
    from data_pipeline.synthesis.formulas.build import synthesize_formulas

    with built_here():
        return synthesize_formulas(str(out), dict(counts), seed, ImagePolicy(64, 256), FormulaConfig(), overwrite=False)


def _one_by_one(chunks: Sequence[Chunk], task: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[Any]:
    for chunk in reversed(chunks):
        yield pickle.loads(task({"chunk": pickle.dumps(chunk)})["built"])
