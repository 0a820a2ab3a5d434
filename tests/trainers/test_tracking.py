"""Sinks: what they write, and that none of them can stop a run."""

from __future__ import annotations

import io
import json
from pathlib import Path

from data_pipeline.storage import open_storage
from trainers.config import load_config
from trainers.tracking import Console, History, Tracker, Wandb

INTERVAL = {
    "step": 20, "epoch": 0, "train/loss": 3.9, "train/lr": 1e-3, "train/grad_norm": 1.2, "data/images_per_s": 112.0,
    "data/wait_share": 0.004,
}  # fmt: skip
EPOCH = {"step": 40, "epoch": 0, "val/loss": 1.0, "val/exact_match": 0.5, "val/wer": 0.2, "val/score": 0.53, "val/count": 10,
         "time/train_s": 9.0}  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken:
    calls = 0

    def figures(self, row: dict[str, float]) -> None:
        self.calls += 1
        raise ConnectionError("the line is cut")

    def close(self) -> None:
        raise ConnectionError("still cut")


def test_a_sink_that_fails_is_reported_once_and_left_out(tmp_path: Path) -> None:
    printed, broken = io.StringIO(), Broken()
    tracker = Tracker(Console(printed), History(open_storage(str(tmp_path))))
    tracker.add(broken)
    tracker.figures(INTERVAL)
    tracker.figures(EPOCH)
    tracker.close()
    assert broken.calls == 1 and printed.getvalue().count("the line is cut") == 1
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [INTERVAL, EPOCH]


def test_lines_hold_speed_and_waiting(tmp_path: Path) -> None:
    printed = io.StringIO()
    console = Console(printed)
    console.start(0, 100)
    console.figures(INTERVAL)
    console.figures(EPOCH)
    first, second = printed.getvalue().splitlines()
    assert "step 20/100 loss 3.9000" in first and "112.0 images/s wait 0.4 %" in first
    assert "exact 50.0 % wer 20.0 % score 0.5300 (10 rows)" in second and "train 9.0 s" in second


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
    console.figures(INTERVAL | {f"data/{name}": value for name, value in costs.items()})
    console.figures(EPOCH | {f"epoch/{name}": value for name, value in (costs | {"images_per_s": 99}).items()})
    told = "decode 0.3 ms padding 9 % read 3.1 MB/s cache 50 % 2 retries 1 rejected"
    first, second = printed.getvalue().splitlines()
    assert first.endswith("wait 0.4 % " + told) and second.endswith("99.0 images/s " + told)


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    terminal = Terminal()
    console = Console(terminal)
    console.start(0, 40)
    console.figures(EPOCH)
    console.close()
    assert "train" in terminal.getvalue() and "40/40" in terminal.getvalue()


def test_a_resumed_history_goes_on_where_the_checkpoint_stood(tmp_path: Path) -> None:
    history = History(open_storage(str(tmp_path)))
    for step in (10, 20, 30):
        history.figures({"step": step})
    history.close()
    again = History(open_storage(str(tmp_path)))
    again.rewind(20)
    again.figures({"step": 30, "new": 1})
    again.close()
    assert [row["step"] for row in History(open_storage(str(tmp_path))).rows] == [10, 20, 30]


def test_wandb_logs_offline_into_the_run(tmp_path: Path) -> None:
    (tmp_path / "a-run").mkdir()
    sink = Wandb(load_config(None), open_storage(str(tmp_path / "a-run")), {"digest": "sha256:0"})
    sink.figures(INTERVAL)
    sink.close()
    (folder,) = (tmp_path / "a-run" / "wandb").glob("offline-run-*a-run")
    assert list(folder.glob("*.wandb"))
