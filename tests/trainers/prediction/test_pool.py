"""The pool of predictors: all of its actors work, and what is read comes as it is read."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.checkpoints import write_checkpoint
from trainers.checkpoint.load import Checkpoint, open_checkpoint
from trainers.prediction import pool
from trainers.prediction.inputs import open_inputs


class WhoReads:
    """In place of a predictor: which process got which images, and when it was done. Two have to be there."""

    def __init__(self, checkpoint: Checkpoint, **options: Any) -> None:
        self.process, self.started = os.getpid(), Path(checkpoint.uri) / "started"
        (self.started / str(self.process)).mkdir(parents=True)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        patience = time.monotonic() + 120
        while len(list(self.started.iterdir())) < 2 and time.monotonic() < patience:
            time.sleep(0.05)  # on a busy machine one may start long after the other
        time.sleep(0.02 * len(batch["id"]))  # as decoding takes its time
        rows = len(batch["id"])
        return {"id": batch["id"], "process": [self.process] * rows, "done": [time.monotonic()] * rows}


def test_every_actor_reads_and_rows_come_one_batch_after_another(
    formulas: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row groups of 64 rows: were reading fused with predicting, one actor would get them all at once."""
    monkeypatch.setattr(pool, "Predictor", WhoReads)
    write_checkpoint(tmp_path)
    checkpoint = open_checkpoint(str(tmp_path))
    inputs = open_inputs(formulas, "train")
    rows, first = [], 0.0
    for row in pool.predict_with_pool(inputs.read(set(inputs.ids)), checkpoint, batch_size=64, actors=2).iter_rows():
        first = first or time.monotonic()
        rows.append(row)
    assert sorted(row["id"] for row in rows) == sorted(inputs.ids)
    assert len({row["process"] for row in rows}) == 2
    assert first < max(row["done"] for row in rows)  # clocks of one machine
