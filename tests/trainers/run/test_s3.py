"""Data from, and checkpoints to, a real S3 server."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.importers.crohme.command import find_splits, prepare_crohme
from data_pipeline.storage.base import open_storage
from tests.support.overrides import SMALL
from tests.support.places import CROHME
from tests.support.runs import losses, small_config, train
from tests.support.s3 import S3Server
from trainers.checkpoint.format import PREFIX
from trainers.checkpoint.load import load_checkpoint
from trainers.config.load import load_config
from trainers.prediction.pool import predict_split_on_ray
from trainers.run.finalize import finalize
from trainers.run.preflight import preflight


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with its address and keys in the environment as a user has them."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    return s3_server


def test_a_run_from_s3_to_s3_and_its_report(s3: S3Server, formulas: str) -> None:
    bucket = s3.create_bucket("inkray-runs")
    data = open_storage(f"{bucket}/formulas")
    data.copy_from(Path(formulas))
    config = small_config(data.uri, f"{bucket}/runs", "epochs=1")
    run, result, _ = train(config)
    assert [row["val/count"] for row in result.history if "val/score" in row] == [40]
    assert any(name.startswith(PREFIX) for name in run.names())
    assert load_checkpoint(run.uri).data.digest
    finalize(preflight(config, run), run, result, predict_split_on_ray)
    assert "index.html" in run.child("report").names()


@pytest.mark.slow
@pytest.mark.skipif(not CROHME.exists(), reason="needs ../shared/data/crohme")
def test_an_epoch_of_crohme_from_s3(s3: S3Server, ray_cluster: None) -> None:
    bucket = s3.create_bucket("inkray-crohme")
    made = prepare_crohme(find_splits(CROHME), f"{bucket}/crohme", ImagePolicy(64, 384), overwrite=True)
    assert {name: split.rows for name, split in made.splits.items()} == {"train": 8835, "val": 671, "test": 986}
    assert made.rejected == 1
    plain = [item for item in SMALL if item.startswith(("tracking", "report"))]
    overrides = [*plain, f"data.dataset={bucket}/crohme", f"runs_dir={bucket}/runs", "epochs=1", "global_batch_size=32"]
    run, result, _ = train(load_config(None, [*overrides, "optim.lr=2e-3", "stream.augmentation=none"]))
    (epoch,) = [row for row in result.history if "val/score" in row]
    assert epoch["val/count"] == 671, "the 2013 set, each expression once"
    chance = math.log(len(made.charset) + 3)
    assert epoch["val/loss"] < 0.75 * chance and list(losses(result).values())[-1] < 0.75 * chance
    assert any(name.startswith(PREFIX) for name in run.names())
