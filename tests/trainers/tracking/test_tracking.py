"""Sinks: what they write, and that none of them can stop a run."""

from __future__ import annotations

import io
import json
import math
import mmap
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from tensorboardX.proto import event_pb2

from cluster.errors import UserError
from data_pipeline.storage.base import Storage, open_storage
from trainers.config.load import load_config
from trainers.config.tracking import TrackingConfig
from trainers.engine.system_metrics import SystemMetrics
from trainers.tasks.metrics.sequence import HEADLINES
from trainers.tracking import Console, History, Sink, TensorBoard, Tracker, Wandb, add_sinks

INTERVAL = {
    "step": 20, "epoch": 0, "train/loss": 3.9, "train/lr": 1e-3, "train/grad_norm": 1.2, "data/images_per_s": 112.0,
    "data/wait_share": 0.004,
}  # fmt: skip
EPOCH = {
    "step": 40, "epoch": 0, "val/loss": 1.0, "val/exact_match": 0.5, "val/wer": 0.2, "val/cer": 0.125, "val/score": 0.53,
    "val/count": 10, "time/train_s": 9.0,
}  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(Sink):
    calls = 0

    def metrics(self, row: dict[str, float]) -> None:
        self.calls += 1
        raise ConnectionError("the line is cut")

    def close(self) -> None:
        raise ConnectionError("still cut")


def test_a_sink_that_fails_is_reported_once_and_left_out(tmp_path: Path) -> None:
    printed, broken = io.StringIO(), Broken()
    tracker = Tracker(Console(printed), History(open_storage(str(tmp_path))))
    tracker.add(broken)
    tracker.metrics(INTERVAL)
    tracker.metrics(EPOCH)
    tracker.close()
    assert broken.calls == 1 and printed.getvalue().count("the line is cut") == 1
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [INTERVAL, EPOCH]


def test_lines_hold_speed_and_waiting(tmp_path: Path) -> None:
    printed = io.StringIO()
    console = Console(printed)
    console.headlines = HEADLINES
    console.start(0, 100)
    console.metrics(INTERVAL)
    console.metrics(EPOCH)
    first, second = printed.getvalue().splitlines()
    assert "step 20/100 loss 3.9000" in first and "112.0 images/s wait 0.4 %" in first
    assert "val loss 1.0000 exact 50.0 % WER 20.0 % CER 12.5 % score 0.5300 (10 rows)" in second and "train 9.0 s" in second


def test_lines_tell_what_the_stream_did() -> None:
    printed = io.StringIO()
    console = Console(printed)
    costs = {
        "decode_ms": 0.31,
        "padding_share": 0.09,
        "read_mb_per_s": 3.14,
        "cache_hit_share": 0.5,
        "retries": 2,
        "rejected": 1,
    }
    console.metrics(INTERVAL | {f"data/{name}": value for name, value in costs.items()})
    console.metrics(EPOCH | {f"epoch/{name}": value for name, value in (costs | {"images_per_s": 99}).items()})
    stream = "decode 0.3 ms padding 9 % read 3.1 MB/s cache 50 % 2 retries 1 rejected"
    first, second = printed.getvalue().splitlines()
    assert first.endswith("wait 0.4 % " + stream) and second.endswith("99.0 images/s " + stream)


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    terminal = Terminal()
    console = Console(terminal)
    console.start(0, 40)
    console.metrics(EPOCH)
    console.close()
    assert "train" in terminal.getvalue() and "40/40" in terminal.getvalue()


def test_a_resumed_history_continues_where_the_checkpoint_stood(tmp_path: Path) -> None:
    history = History(open_storage(str(tmp_path)))
    for step in (10, 20, 30):
        history.metrics({"step": step})
    history.close()
    again = History(open_storage(str(tmp_path)))
    again.rewind(20)
    again.metrics({"step": 30, "new": 1})
    again.close()
    assert [row["step"] for row in History(open_storage(str(tmp_path))).rows] == [10, 20, 30]


@pytest.mark.parametrize("line", [b"{gar", b"null", b"[1]", b'{"epoch": 1}', b'{"step": "a"}', b"\xff\xfe", b"", b"\0\0"])
def test_a_damaged_line_is_left_out_and_goes_with_the_next_row(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step": 10}\n' + line + b'\n{"step": 20}\n')
    history = History(open_storage(str(tmp_path)))
    assert [row["step"] for row in history.rows] == [10, 20]
    history.metrics({"step": 30})
    assert file.read_bytes() == b'{"step": 10}\n{"step": 20}\n{"step": 30}\n'


def test_a_history_on_a_disk_costs_what_is_new(tmp_path: Path) -> None:
    file, history = tmp_path / "metrics.jsonl", History(open_storage(str(tmp_path)))
    history.metrics({"step": 1})
    first = file.stat().st_ino
    for step in (2, 3):
        history.metrics({"step": step})
        assert json.loads(file.read_text().splitlines()[-1]) == {"step": step}, "it stands there at once"
    assert file.stat().st_ino == first, "it was appended to, not written again"
    history.rewind(2)
    history.save()
    assert file.stat().st_ino != first and file.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_line_that_was_cut_off_is_left_out_and_replaced(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1}\n{"step": 2, "train/lo')
    history = History(open_storage(str(tmp_path)))
    assert history.rows == [{"step": 1}]
    history.metrics({"step": 2})
    assert file.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_history_that_could_not_be_written_is_whole_once_it_can(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    printed, history = io.StringIO(), History(open_storage(str(tmp_path / "run")))
    tracker = Tracker(Console(printed), history)
    tracker.metrics(INTERVAL)
    (tmp_path / "run").rename(tmp_path / "gone")
    for _ in range(3):
        (tmp_path / "run").write_text("a file is in the way")
        tracker.metrics(EPOCH)
    assert printed.getvalue().count("Training continues.") == 1, "reported once"
    (tmp_path / "run").unlink()
    tracker.close()
    assert [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()] == [20, 40, 40, 40]


def remote(folder: Path) -> Storage:
    """A storage that is not known to be a disk, which it is."""
    return open_storage(f"local://{folder}")


def test_a_history_on_other_storage_is_written_whole_at_the_ends_of_epochs(tmp_path: Path) -> None:
    run = remote(tmp_path / "run")
    history = History(run)
    history.metrics(INTERVAL)
    assert not (tmp_path / "run/metrics.jsonl").exists()
    for row in (EPOCH, INTERVAL, EPOCH):
        history.metrics(row)
    assert History(run).rows == [INTERVAL, EPOCH, INTERVAL, EPOCH]


def events(folder: Path) -> list[event_pb2.Event]:
    """What is in the event files, in the order in which TensorBoard reads them."""
    found = []
    for file in sorted(folder.iterdir()):
        data, at = file.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            found.append(event_pb2.Event.FromString(data[at + 12 : at + 12 + length]))
            at += 12 + length + 4
    return found


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    """What TensorBoard shows: the start of a session takes away what was written of its step and later ones."""
    shown: list[tuple[int, float]] = []
    for event in events(folder):
        if event.HasField("session_log"):
            shown = [point for point in shown if point[0] < event.step]
        shown += [(event.step, value.simple_value) for value in event.summary.value if value.tag == tag]
    return shown


IMAGES = {"val/samples": np.zeros((8, 12, 3), np.uint8), "val/attention": np.full((6, 5), 255, np.uint8)}


@pytest.mark.parametrize("storage", [lambda path: open_storage(str(path)), remote], ids=["disk", "elsewhere"])
def test_tensorboard_shows_each_step_of_a_resumed_run_once(storage: Callable[[Path], Storage], tmp_path: Path) -> None:
    run, config = storage(tmp_path / "run"), {"name": "letters"}
    sink = TensorBoard(run, config, {"name": "formulas", "digest": "sha256:0"})
    sink.rewind(0)
    for step in (10, 20, 30):
        sink.metrics({"step": step, "train/loss": 100.0 - step, "val/loss": math.nan})
    sink.close()
    sink = TensorBoard(run, config, {})
    sink.rewind(20)
    sink.metrics({"step": 30, "train/loss": 1.0, "time/train_s": 2.0})
    folder = tmp_path / "run/tensorboard"
    assert points(folder, "train/loss") == [(10, 90.0), (20, 80.0), (30, 1.0)], "an epoch's end is there before the run's"
    sink.rewind(10)  # workers were lost: the same command continues
    sink.metrics({"step": 20, "train/loss": 2.0})
    sink.close()
    assert points(folder, "train/loss") == [(10, 90.0), (20, 2.0)]
    assert points(folder, "val/loss") == [], "NaN is no point"


def test_tensorboard_holds_configuration_dataset_and_images(tmp_path: Path) -> None:
    sink = TensorBoard(open_storage(tmp_path), {"seed": 77}, {"name": "formulas", "digest": "sha256:0"})
    sink.images(7, IMAGES)
    sink.close()
    written = {value.tag: (event.step, value) for event in events(tmp_path / "tensorboard") for value in event.summary.value}
    texts = {
        tag.split("/")[0]: value.tensor.string_val[0].decode()
        for tag, (_, value) in written.items()
        if value.HasField("tensor")
    }
    assert "    seed: 77\n" in texts["config"] and "name: formulas" in texts["dataset"] and "sha256:0" in texts["dataset"]
    for name, expected in IMAGES.items():
        step, value = written[name]
        assert step == 7
        with Image.open(io.BytesIO(value.image.encoded_image_string)) as image:
            assert np.array_equal(
                np.asarray(image.convert("RGB"))[..., 0], expected[..., 0] if expected.ndim == 3 else expected
            )


def test_wandb_logs_offline_into_the_run_and_says_how_to_upload_it(tmp_path: Path) -> None:
    (tmp_path / "a-run").mkdir()
    notes: list[str] = []
    sink = Wandb(open_storage(tmp_path / "a-run"), "inkray", {"seed": 77}, {"digest": "sha256:0"}, notes.append)
    sink.metrics(INTERVAL)
    sink.images(20, IMAGES)
    sink.close()
    services = [each for each in psutil.Process().children(recursive=True) if "wandb" in each.name()]
    assert not services, "what they have yet to write would be missing in the copy of the run"
    (folder,) = (tmp_path / "a-run" / "wandb").glob("offline-run-*a-run")
    (record,) = folder.glob("*.wandb")
    assert notes == [f"wandb was offline. To upload the run: wandb sync {folder}"]
    assert len(list((folder / "files/media/images/val").glob("*.png"))) == 2
    assert b"sha256:0" in record.read_bytes() and b"train/loss" in record.read_bytes()
    assert not list(folder.rglob("*.py")), "no code goes along"


def test_a_configuration_has_the_sinks_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed, run = io.StringIO(), open_storage(str(tmp_path))
    tracker = Tracker(Console(printed), History(run))
    add_sinks(tracker, TrackingConfig(wandb=False, tensorboard=True), run, {}, {})
    tracker.rewind(0)
    tracker.metrics(INTERVAL)
    tracker.images(20, IMAGES)
    tracker.close()
    assert points(tmp_path / "tensorboard", "train/loss") == [(20, pytest.approx(3.9))]
    assert not (tmp_path / "wandb").exists()
    monkeypatch.setitem(sys.modules, "wandb", None)
    add_sinks(tracker, TrackingConfig(), run, {}, {})
    assert "wandb is not available" in printed.getvalue() and "tracking.wandb=false" in printed.getvalue()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tracking.log_interval=0", "tracking.log_interval=0: at least 1"),
        ("tracking.images=-1", "tracking.images=-1: not negative"),
        ("tracking.project=''", "tracking.project is empty"),
    ],
)
def test_bad_settings_are_named(override: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load_config(None, [override])


def test_system_metrics_are_those_of_this_process() -> None:
    metrics = SystemMetrics(torch.device("cpu"))
    ballast = mmap.mmap(-1, 200 * 2**20)  # what malloc has freed may stay with the process
    ballast.write(b"1" * len(ballast))
    read = metrics.read()
    assert set(read) == {"system/cpu_percent", "system/memory_mb"}
    assert 0 <= read["system/cpu_percent"] <= 100
    before = read["system/memory_mb"]
    assert before >= len(ballast) / 2**20
    ballast.close()
    assert metrics.read()["system/memory_mb"] < before - 150, "it is read again, and in MB"
