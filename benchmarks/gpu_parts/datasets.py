"""Datasets of the checks: formulas of two sizes, synthesized without Ray. `python -m benchmarks.gpu_parts.datasets OUT`."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmarks.gpu_parts.scene import LARGE_IMAGES, SMALL_IMAGES
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import MANIFEST, Manifest, Split
from data_pipeline.dataset.shards import Row, write_shard
from data_pipeline.dataset.token_targets import TEXT, TEXT_COLUMNS
from data_pipeline.preparation.images import encode_png, fit
from data_pipeline.storage.base import open_storage
from data_pipeline.synthesis.formulas.grammar import FormulaConfig, charset
from data_pipeline.synthesis.formulas.sample import make_sample

ROWS_PER_SHARD = 256
POLICIES = {SMALL_IMAGES: ImagePolicy(64, 256), LARGE_IMAGES: ImagePolicy(128, 512)}
COUNTS = {SMALL_IMAGES: {"train": 2048, "val": 256, "test": 256}, LARGE_IMAGES: {"train": 1024, "val": 64, "test": 64}}
_FIRST = {"train": 0, "val": 1_000_000, "test": 2_000_000}


def synthesize(folder: Path, tiny: bool) -> None:
    """The datasets that are missing in `folder`; with `tiny` 64 images of each split."""
    processes = min(16, os.cpu_count() or 1)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for name, policy in POLICIES.items():
            out = open_storage(str(folder / name))
            if out.child(MANIFEST).exists():
                continue
            splits = {}
            for split, count in COUNTS[name].items():
                numbers = range(_FIRST[split], _FIRST[split] + (64 if tiny else count))
                parts = [numbers[first : first + ROWS_PER_SHARD] for first in range(0, len(numbers), ROWS_PER_SHARD)]
                shards, longest = [], 0
                for number, rows in enumerate(pool.map(_rows, parts, [policy] * len(parts))):
                    shards.append(write_shard(out, f"{split}/part-{number:05d}.parquet", rows, TEXT_COLUMNS))
                    longest = max(longest, *(len(row.target[TEXT].split()) for row in rows))
                splits[split] = Split(shards, {"max_tokens": longest})
            target = {"charset": charset(FormulaConfig())}
            manifest = Manifest(name, "sequence", target, TEXT_COLUMNS, policy, splits, 0, {})
            out.child(MANIFEST).write_bytes(manifest.to_json())


def _rows(numbers: range, policy: ImagePolicy) -> list[Row]:
    rows = []
    for number in numbers:
        sample = make_sample(0, number, FormulaConfig(), lambda text: True)
        pixels = fit(sample.image, policy)
        target = {TEXT: sample.text}
        rows.append(Row(f"{number:08d}", encode_png(pixels), pixels.shape[1], pixels.shape[0], target, sample.source))
    return rows


if __name__ == "__main__":
    synthesize(Path(sys.argv[1]), tiny=False)
