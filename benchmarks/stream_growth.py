"""What the plan of a very large dataset costs, without the dataset: `python -m benchmarks.stream growth`."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import psutil

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import Extent, Manifest, Shard, Split
from data_pipeline.dataset.token_targets import TEXT_COLUMNS
from data_pipeline.stream.plan import BatchRule, train_plan

ROWS_PER_GROUP, GROUPS_PER_SHARD = 64, 64


def plan_alone(rows: int) -> dict[str, Any]:
    """Seconds and memory of a plan over `rows` images, measured in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, rows).result()


def _measure(rows: int) -> dict[str, Any]:
    before = psutil.Process().memory_info().rss
    groups = -(-rows // ROWS_PER_GROUP)
    widths = np.random.default_rng(0).integers(32, 1024, groups).tolist()
    shards = [
        Shard(
            f"train/part-{first:07d}.parquet",
            [Extent(ROWS_PER_GROUP, width, 64, 300_000) for width in widths[first : first + GROUPS_PER_SHARD]],
            10**7,
            f"{first:064x}",
        )
        for first in range(0, groups, GROUPS_PER_SHARD)
    ]
    splits = {"train": Split(shards, {"max_tokens": 9})}
    text = Manifest("large", "sequence", {"charset": ["a"]}, TEXT_COLUMNS, ImagePolicy(64, 1024), splits, 0, {}).to_json()
    del shards
    started = time.perf_counter()
    manifest = Manifest.from_json(text, "large")
    read = time.perf_counter()
    plan = train_plan(manifest, "train", 0, 32, BatchRule(64))
    windows = plan.windows(0)
    planned = time.perf_counter()
    for window in windows[:200]:
        plan.order(window)
    ordered = time.perf_counter()
    return {
        "rows": rows,
        "row_groups": groups,
        "manifest_mb": len(text) / 1e6,
        "manifest_s": read - started,
        "epoch_s": planned - read,
        "window_s": (ordered - planned) / min(200, len(windows)),
        "memory_mb": (psutil.Process().memory_info().rss - before) / 2**20,
    }
