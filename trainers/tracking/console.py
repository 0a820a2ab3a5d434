"""The log of a run: a line per interval and epoch, and a progress bar where there is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Protocol, TextIO

from tqdm import tqdm

from cluster.redaction import message, printable, redact
from trainers.tracking.sink import Sink


class Column(Protocol):
    """A metric that the console shows: the last part of its name, its label, and how its value is written."""

    @property
    def key(self) -> str:
        """`exact_match`, of `val/exact_match`."""

    @property
    def label(self) -> str:
        """As it is called."""

    def text(self, value: float) -> str:
        """The value as it is shown."""


class Console(Sink):
    """Lines on standard output, and a progress bar where that is a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._bar: tqdm[Any] | None = None
        self._total = 0
        self.headlines: Sequence[Column] = ()  # metrics of a validation that its line shows

    def start(self, step: int, total: int) -> None:
        """A run of `total` steps begins at `step`."""
        self._total = total
        if self._stream.isatty() and self._bar is None:
            self._bar = tqdm(total=total, initial=step, unit=" steps", desc="train", file=self._stream, mininterval=0.5)

    def line(self, text: str) -> None:
        """Print a line, without secrets and with control characters made visible; the bar stays below it."""
        text = printable(redact(text))
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def block(self, text: str) -> None:
        """Print a text of several lines, such as a traceback: those after the first are indented."""
        for line in message(text).split("\n"):
            self.line(line)

    def metrics(self, row: dict[str, float]) -> None:
        """Print a line per interval, one per epoch."""
        if "train/loss" in row:
            self.line(interval_line(row, self._total))
        else:
            self.line(epoch_line(row, self.headlines))
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
        + _stream_metrics(row, "data")
    )


def _stream_metrics(row: dict[str, float], prefix: str) -> str:
    """What the stream did: `decode 0.3 ms padding 9 % read 3.1 MB/s cache 50 % 2 retries`, without what there is nothing of."""
    get = {key.removeprefix(prefix + "/"): value for key, value in row.items()}.get
    parts = [f"decode {get('decode_ms', 0):.1f} ms padding {100 * get('padding_share', 0):.0f} %"]
    parts += [f"read {get('read_mb_per_s', 0):.1f} MB/s"] if get("read_mb_per_s") else []
    parts += [f"cache {100 * get('cache_hit_share', 0):.0f} %"] if get("cache_hit_share") else []
    parts += [f"{get('retries', 0):.0f} retries"] if get("retries") else []
    parts += [f"{get('rejected', 0):.0f} rejected"] if get("rejected") else []
    return " ".join(parts)


def epoch_line(row: dict[str, float], headlines: Sequence[Column]) -> str:
    """The headline metrics of an epoch's evaluation, and where its time went."""
    parts = [f"epoch {row['epoch']:.0f} done"]
    if "val/count" in row:
        shown = "".join(f" {h.label} {h.text(row[f'val/{h.key}']).strip()}" for h in headlines if h.key != "count")
        parts.append(
            f"val loss {row['val/loss']:.4f}{shown} ({row['val/count']:.0f} rows"
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
        parts.append(f"{row['epoch/images_per_s']:.1f} images/s " + _stream_metrics(row, "epoch"))
    return ", ".join(parts)
