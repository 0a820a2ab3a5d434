"""The commands as users type them: processes of their own where that matters, real Ctrl-C, one message for each mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_pipeline.dataset.manifest import MANIFEST, open_dataset
from models import Decoding
from tests.support.checkpoints import write_checkpoint
from tests.support.commands import command_here, only_message
from tests.support.overrides import SMALL
from tests.support.places import ROOT
from tests.support.predict_here import predict_here
from tests.support.runs import losses, train
from trainers.prediction.job import JOB
from trainers.prediction.parts import part_name
from trainers.run.directory import open_run


@pytest.mark.services
def test_ctrl_c_writes_a_checkpoint_and_resume_starts_from_it(formulas: str, tmp_path: Path) -> None:
    # Paths as users write them: relative to where they are, which is not where the workers are.
    places = [f"data.dataset={os.path.relpath(formulas, ROOT)}", f"runs_dir={os.path.relpath(tmp_path, ROOT)}"]
    overrides = [*SMALL, "epochs=2", *places]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "trainers.train", *overrides], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    printed = []
    assert process.stdout is not None
    for line in process.stdout:
        printed.append(line)
        if " step 18/" in line:  # at the beginning of the second of two epochs; a terminal interrupts the whole group
            os.killpg(process.pid, signal.SIGINT)
    text = "".join(printed)
    assert process.wait(60) == 130, text
    assert "Stopped. Resume with: python -m trainers.train --resume" in text
    uri = next(line.split()[1] for line in printed if line.startswith("Run "))
    run, config = open_run(uri)
    stopped_at = max(json.loads(line)["step"] for line in run.child("metrics.jsonl").read_bytes().splitlines())
    assert 18 <= stopped_at < 30
    _, resumed, log = train(config, run)  # that it equals a run never stopped is compared to the bit in test_launch_local
    assert f"Resumed from checkpoint-{stopped_at:07.0f}" in log and not resumed.stopped
    assert list(losses(resumed)) == list(range(1, 31)), "every step once"


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["data.dataset=/nowhere/at/all"], ["/nowhere/at/all", "dataset.json", "synthesize"]),
        (["data.dataset=s3://bucket/formulas"], ["s3://bucket/formulas", "http://127.0.0.1:9", "AWS_ENDPOINT_URL"]),
        (["optim.lrr=3"], ["optim.lrr", "weight_decay"]),
        (["configs/train/none.yaml"], ["configs/train/none.yaml"]),
        (["--resume", "/nowhere"], ["/nowhere", "config.yaml"]),
    ],
)
def test_train_refuses_with_one_message(args: list[str], parts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens
    message = only_message(command_here("trainers.train", *args))
    assert all(part in message for part in parts), message


def test_a_dataset_of_another_schema_version_is_refused(formulas_dataset: str, tmp_path: Path) -> None:
    manifest = json.loads((Path(formulas_dataset) / MANIFEST).read_bytes())
    manifest["schema_version"] = 99
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    message = only_message(command_here("trainers.train", f"data.dataset={tmp_path}"))
    assert "schema version 99" in message and "versions 1 and 2" in message


@pytest.mark.parametrize(
    ("module", "args", "part"),
    [
        ("trainers.evaluate", ["/nowhere", "DATASET"], "No checkpoint at '/nowhere'"),
        ("trainers.predict", ["/nowhere", "DATASET", "OUT"], "No checkpoint at '/nowhere'"),
        ("trainers.tune", ["/nowhere.yaml"], "No study file '/nowhere.yaml'"),
    ],
)
def test_the_other_commands_refuse_with_one_message(
    module: str, args: list[str], part: str, formulas_dataset: str, tmp_path: Path
) -> None:
    real = {"DATASET": formulas_dataset, "OUT": str(tmp_path / "out")}
    assert part in only_message(command_here(module, *[real.get(arg, arg) for arg in args]))


def test_a_full_disk_stops_a_run_with_one_message(formulas_dataset: str, tmp_path: Path) -> None:
    disk = tmp_path / "small"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small tmpfs (root)")
    try:
        args = [
            *SMALL,
            f"data.dataset={formulas_dataset}",
            f"runs_dir={disk}",
            "epochs=1",
            "scaling.num_train_workers=1",
            "checkpoint.timeout_s=8",
        ]
        result = command_here("trainers.train", "--local", *args)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert result.returncode == 2, (result.stdout, result.stderr)
    assert "No space left" in result.stderr and "Traceback" not in result.stderr, result.stderr


@pytest.mark.parametrize(
    ("module", "argument", "parts"),
    [
        ("trainers.evaluate", "decoding.two_way=true", ["decoding.two_way", "model.decoder.direction=both"]),
        ("trainers.evaluate", "optim.lr=1", ["optim.lr=1", "only decoding.*"]),
        ("trainers.predict", "decoding.method=beem", ["decoding.method", "beem", "greedy", "beam"]),
        ("trainers.predict", "--batch-size=0", ["--batch-size", "0"]),
        ("trainers.predict", "--split=nope", ["nope", "test"]),
        ("trainers.evaluate", "--batch-size=99999999999", ["--batch-size", "99999999999"]),
        ("trainers.evaluate", "--split=nope", ["nope", "test"]),
        ("trainers.evaluate", "--json=/proc/new/metrics.json", ["Cannot write to '/proc/new/metrics.json'"]),
    ],
)
def test_what_cannot_be_done_is_refused_before_a_session_starts(
    module: str, argument: str, parts: list[str], formulas_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path / "checkpoint", manifest=open_dataset(formulas_dataset).manifest)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")  # to start a session would be another error
    out = [str(tmp_path / "out")] if module == "trainers.predict" else []
    message = only_message(command_here(module, str(tmp_path / "checkpoint"), formulas_dataset, *out, argument))
    assert all(part in message for part in parts), message
    assert not (tmp_path / "out").exists()


def test_evaluate_and_predict_decode_as_the_command_line_says(formulas: str, tmp_path: Path) -> None:
    manifest = open_dataset(formulas).manifest
    write_checkpoint(tmp_path / "checkpoint", manifest=manifest)
    checkpoint, file, out = str(tmp_path / "checkpoint"), tmp_path / "new" / "metrics.json", tmp_path / "out"
    beam = ["decoding.method=beam", "decoding.beam_size=3", "decoding.max_length=1"]
    result = command_here("trainers.evaluate", checkpoint, formulas, *beam, "--json", str(file))
    assert result.returncode == 0, result.stderr
    assert "test, handwritten" in result.stdout and "40 rows, 0 of them rejected" in result.stdout
    record = json.loads(file.read_text())
    assert record["metrics"]["test"]["count"] == 40
    assert record["decoding"] == asdict(Decoding("beam", beam_size=3, max_length=1))
    result = predict_here(checkpoint, formulas, str(out), *beam)
    assert result.returncode == 0, result.stderr
    predictions = pq.read_table(out / part_name(0)).column("prediction").to_pylist()
    assert len(predictions) == 40 and all(len(text.split()) <= 1 for text in predictions)
    assert json.loads((out / JOB).read_text())["decoding"] == record["decoding"]
