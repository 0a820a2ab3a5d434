"""Where the figures of a run go: the log, `metrics.jsonl`, wandb. A sink that fails says so once and never stops a run."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Protocol, TextIO

from tqdm import tqdm

from data_pipeline.storage import Storage, StorageError
from trainers.config import TrainConfig, to_yaml

HISTORY = "metrics.jsonl"


class Sink(Protocol):
    """Takes the figures of a step."""

    def figures(self, row: dict[str, float]) -> None:
        """One row: an interval's or an epoch's, with `step`."""

    def close(self) -> None:
        """No more will come."""


class History:
    """All rows of a run, kept in `metrics.jsonl` of its folder; a resumed run goes on in the same file."""

    def __init__(self, run: Storage) -> None:
        self._file = run.child(HISTORY)
        self.rows: list[dict[str, float]] = []
        if self._file.exists():
            self.rows = [json.loads(line) for line in self._file.read_bytes().decode().splitlines()]

    def rewind(self, step: int) -> None:
        """Forget rows after `step`: they will come again from a run that resumed there."""
        self.rows = [row for row in self.rows if row["step"] <= step]

    def figures(self, row: dict[str, float]) -> None:
        """Keep a row; the file is written at the ends of epochs."""
        self.rows.append(row)
        if any(key.startswith("time/") for key in row):
            self.save()

    def save(self) -> None:
        """Write the file."""
        text = "".join(json.dumps(row) + "\n" for row in self.rows)
        self._file.write_bytes(text.encode())

    def close(self) -> None:
        """Write the file a last time."""
        self.save()


class Console:
    """Lines on standard output, and a progress bar where that is a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._bar: tqdm[Any] | None = None
        self._total = 0

    def start(self, step: int, total: int) -> None:
        """A run of `total` steps begins at `step`."""
        self._total = total
        if self._stream.isatty() and self._bar is None:
            self._bar = tqdm(total=total, initial=step, unit=" steps", desc="train", file=self._stream, mininterval=0.5)

    def line(self, text: str) -> None:
        """Print a line; the bar stays below it."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def figures(self, row: dict[str, float]) -> None:
        """One line per interval, one per epoch."""
        if "train/loss" in row:
            self.line(interval_line(row, self._total))
        else:
            self.line(epoch_line(row))
        if self._bar is not None:
            self._bar.update(int(row["step"]) - self._bar.n)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def interval_line(row: dict[str, float], total: int) -> str:
    """`epoch 0 step 20/2250 loss 3.912 lr 0.00012 grad 1.20 112 images/s wait 0.4 % decode 0.3 ms padding 9 %`."""
    return (
        f"epoch {row['epoch']:.0f} step {row['step']:.0f}/{total} loss {row['train/loss']:.4f} lr {row['train/lr']:.2e} "
        f"grad {row['train/grad_norm']:.2f} {row['data/images_per_s']:.1f} images/s wait {100 * row['data/wait_share']:.1f} % "
        + _stream_figures(row, "data")
    )


def _stream_figures(row: dict[str, float], prefix: str) -> str:
    """What the stream did: `decode 0.3 ms padding 9 % read 3.1 MB/s cache 50 % 2 retries`, without what there is nothing of."""
    get = {key.removeprefix(prefix + "/"): value for key, value in row.items()}.get
    parts = [f"decode {get('decode_ms', 0):.1f} ms padding {100 * get('padding_share', 0):.0f} %"]
    parts += [f"read {get('read_mb_per_s', 0):.1f} MB/s"] if get("read_mb_per_s") else []
    parts += [f"cache {100 * get('cache_hit_share', 0):.0f} %"] if get("cache_hit_share") else []
    parts += [f"{get('retries', 0):.0f} retries"] if get("retries") else []
    parts += [f"{get('rejected', 0):.0f} rejected"] if get("rejected") else []
    return " ".join(parts)


def epoch_line(row: dict[str, float]) -> str:
    """The figures of an epoch's evaluation, and where its time went."""
    parts = [f"epoch {row['epoch']:.0f} done"]
    if "val/exact_match" in row:
        parts.append(
            f"val loss {row['val/loss']:.4f} exact {100 * row['val/exact_match']:.1f} % wer {100 * row['val/wer']:.1f} % "
            f"score {row['val/score']:.4f} ({row['val/count']:.0f} rows"
            + (f", {row['val/rejected']:.0f} rejected)" if row.get("val/rejected") else ")")
        )
    names = {
        "time/train_s": "train",
        "time/wait_s": "of it waiting for data",
        "time/evaluation_s": "evaluation",
        "time/checkpoint_s": "checkpoint",
    }
    parts += [f"{name} {row[key]:.1f} s" for key, name in names.items() if key in row]
    if "epoch/images_per_s" in row:
        parts.append(f"{row['epoch/images_per_s']:.1f} images/s " + _stream_figures(row, "epoch"))
    return ", ".join(parts)


class Wandb:
    """Weights & Biases; offline unless logged in. The run's id is its name, so a resumed run goes on where it was."""

    def __init__(self, config: TrainConfig, run: Storage, details: dict[str, Any]) -> None:
        import wandb
        from omegaconf import OmegaConf

        os.environ.setdefault("WANDB_SILENT", "true")
        logged_in = wandb.login(prompt=False, verify=False)
        mode: Any = os.environ.get("WANDB_MODE") or ("online" if logged_in else "offline")
        values = OmegaConf.to_container(OmegaConf.create(to_yaml(config)))
        # wandb writes to a disk; a run elsewhere gets its files at the end.
        self._remote = None if run.is_local else run.child("wandb")
        self._folder = run.path if run.is_local else tempfile.mkdtemp(prefix="inkray-wandb-")
        name = run.name
        self._run = wandb.init(
            project=config.tracking.project,
            name=name,
            id=name,
            resume="allow",
            dir=self._folder,
            mode=mode,
            config={**values, "dataset_info": details},  # type: ignore[dict-item]
        )

        # Against our own step, not wandb's, which only rises: a restart repeats steps.
        self._run.define_metric("*", step_metric="step")

    def figures(self, row: dict[str, float]) -> None:
        """Log a row."""
        self._run.log({key: value for key, value in row.items() if math.isfinite(value)})

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()
        if self._remote is not None:
            self._remote.copy_from(Path(self._folder) / "wandb")


class Tracker:
    """Hands rows to every sink. One that raises is reported once and left out from then on."""

    def __init__(self, console: Console, history: History) -> None:
        self.console, self.history = console, history
        self._sinks: list[Sink] = [console, history]

    def add(self, sink: Sink) -> None:
        """One sink more."""
        self._sinks.append(sink)

    def figures(self, row: dict[str, float]) -> None:
        """A row for all."""
        for sink in list(self._sinks):
            self._guarded(sink, lambda sink=sink: sink.figures(row))

    def close(self) -> None:
        """End all sinks."""
        for sink in reversed(self._sinks):
            self._guarded(sink, sink.close)

    def _guarded(self, sink: Sink, call: Any) -> None:
        try:
            call()
        except StorageError as error:
            self.console.line(f"warning: {error} Training goes on.")
        except Exception as error:  # a sink may fail in any way; training must not
            self.console.line(f"warning: {type(sink).__name__} failed ({error}); it is left out from here on.")
            if sink in self._sinks and sink is not self.history:
                self._sinks.remove(sink)
