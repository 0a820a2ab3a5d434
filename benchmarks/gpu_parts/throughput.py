"""Images/s of training on a GPU: Inkray, its step alone, and a loop of bare torch, over the very same batches in turns.

Inkray trains as it always does, its stream reading and decoding. Whenever it has done an interval, the batches of which are
kept on the device, the two others do their steps on these while Inkray waits; its next interval does not count, since its
stream has run ahead meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_parts.bare_loop import BareLoop
from benchmarks.gpu_parts.outcome import Skipped, require
from benchmarks.gpu_parts.profile import profiled
from benchmarks.gpu_parts.scene import RECOGNIZERS, QuietReporter, Scene, images_of
from data_pipeline.stream import Batch
from trainers.engine.events import Event, IntervalEnded
from trainers.engine.step import StepResult
from trainers.engine.train_loop import TrainLoop
from trainers.run.directory import new_run
from trainers.run.preflight import preflight
from trainers.tasks.device_batch import DeviceBatch

INTERVAL = 20  # steps between two readings of the clock
CELL_S = 12.0  # seconds of turns of one recognizer in one precision
LEAST, MOST = 3, 12  # turns
TIMES = 40  # the dataset is so many times as long, so that no epoch ends meanwhile
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "V100": 125e12}  # dense, half precision, SXM
WISH = 1.02  # of the bare loop's time
FILE = "throughput.jsonl"


@dataclass(frozen=True)
class Cell:
    """A named configuration, how many images it reads at once, and what is not as usual."""

    model: str
    precision: str = "bf16"
    batch: int = 64
    overrides: tuple[str, ...] = ()
    decoded: bool = False  # the stream's batches lie in memory, decoded: all of Inkray but reading and decoding

    @property
    def title(self) -> str:
        """The name, and what is not as usual."""
        return ", ".join([f"{self.model} {self.precision}", *self.overrides, *(["decoded before"] if self.decoded else [])])


@dataclass
class Turns:
    """Seconds that an interval took each way, over the same batches, and what else was read."""

    inkray: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    wait: list[float] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    flops: float = 0.0  # of the last interval
    peak_mb: dict[str, float] = field(default_factory=dict)


class Enough(Exception):
    """All turns are taken."""


class WatchedLoop(TrainLoop):
    """A training loop whose batches of the last interval are kept on the device."""

    seen: tuple[DeviceBatch, ...] = ()

    def _step(self, batch: Batch, tensors: DeviceBatch, epoch: int) -> StepResult:
        self.seen = (*self.seen, tensors)[-self.config.tracking.log_interval :]
        return super()._step(batch, tensors, epoch)


class TurningReporter(QuietReporter):
    """Lets the other ways take their turns whenever Inkray has done an interval."""

    def __init__(self, scene: Scene, bare: BareLoop, bare_bytes: int, finish: Callable[[WatchedLoop], None]) -> None:
        super().__init__()
        self.loop: WatchedLoop | None = None
        self.turns = Turns()
        self._scene, self._bare, self._bare_bytes, self._finish = scene, bare, bare_bytes, finish
        self._intervals, self._started = 0, time.monotonic()

    def emit(self, event: Event) -> None:
        """Count an interval; every second one is followed by turns of the others."""
        super().emit(event)
        if not isinstance(event, IntervalEnded) or self.loop is None:
            return
        self._intervals += 1
        if self._intervals % 2:  # its stream had run ahead
            return
        self._take_turns(event.metrics, self.loop)
        count, spent = len(self.turns.bare), time.monotonic() - self._started
        least, seconds = (1, 0.5) if self._scene.tiny else (LEAST, CELL_S)
        if count >= MOST or (count >= least and spent > seconds):
            with FlopCounterMode(display=False) as counter:
                self._all(self._bare.step)
            self.turns.flops = counter.get_total_flops()
            self._finish(self.loop)
            raise Enough
        self._scene.synchronize()
        self.loop.meter.restart()

    def _take_turns(self, metrics: dict[str, float], loop: WatchedLoop) -> None:
        scene, turns, images = self._scene, self.turns, sum(len(batch.images) for batch in loop.seen)
        peak = {"inkray": metrics.get("system/gpu_memory_mb", 0.0) - self._bare_bytes / 2**20}
        step = self._seconds(loop.state.step)
        if scene.gpu:
            held = torch.cuda.memory_allocated() - self._bare_bytes
            torch.cuda.reset_peak_memory_stats()
        bare = self._seconds(self._bare.step)
        if scene.gpu:
            peak["bare"] = (torch.cuda.max_memory_allocated() - held) / 2**20
        if self._intervals == 2:  # the first turn warms up
            return
        turns.inkray.append(images / metrics["data/images_per_s"])
        turns.wait.append(metrics["data/wait_share"])
        turns.step.append(step)
        turns.bare.append(bare)
        turns.images.append(images)
        turns.peak_mb = peak

    def _seconds(self, step: Callable[[DeviceBatch], object]) -> float:
        """Seconds of one pass over the batches of the interval."""
        self._scene.synchronize()
        started = time.perf_counter()
        self._all(step)
        self._scene.synchronize()
        return time.perf_counter() - started

    def _all(self, step: Callable[[DeviceBatch], object]) -> None:
        assert self.loop is not None
        for batch in self.loop.seen:
            step(batch)


def measure(scene: Scene, cell: Cell) -> str:
    """One recognizer in one precision; the reading, the metrics being written to the scene's folder."""
    if cell.precision == "bf16" and not scene.has_bf16:
        raise Skipped("this GPU has no bf16")
    config = scene.config(
        f"compute.precision={cell.precision}",
        f"tracking.log_interval={2 if scene.tiny else INTERVAL}",
        f"data.dataset={scene.longer(images_of(cell.model), 2 if scene.tiny else TIMES)}",
        "data.val_split=",
        "data.test_split=",
        "epochs=1000",
        "optim.lr=1e-4",
        "optim.schedule.name=constant",
        "optim.schedule.warmup_ratio=0",
        *cell.overrides,
        model=cell.model,
        batch=cell.batch,
    )
    before = torch.cuda.memory_allocated() if scene.gpu else 0
    spec = preflight(config)
    bare = BareLoop(spec.task.build_model().to(scene.device), spec.task, config, scene.device)
    ready = scene.batches(config, scene.many(60, tiny=2))
    sizes = _warm_up(bare, [tensors for _, tensors in ready])
    in_memory = [batch for batch, _ in ready]
    del ready
    scene.free()
    bare_bytes = torch.cuda.memory_allocated() - before if scene.gpu else 0
    kernels: list[str] = []
    reporter = TurningReporter(
        scene, bare, bare_bytes, lambda loop: kernels.extend(profiled(scene, loop.state.step, loop.seen, cell.title))
    )
    reporter.loop = loop = WatchedLoop(spec, reporter, new_run(config), scene.context(config))
    if cell.decoded:
        loop.stream.batches = lambda *args: _again(in_memory)  # type: ignore[method-assign]
    with contextlib.suppress(Enough):
        loop.run()
    row: dict[str, Any] = {"title": cell.title, "sizes": sizes, "parameters": sum(p.numel() for p in bare.network.parameters())}
    row |= _summary(scene, config.global_batch_size, reporter.turns)
    scene.append(FILE, {**row, "turns": asdict(reporter.turns), "kernels": kernels})
    print("\n".join(kernels), flush=True)
    text = _reading(row)
    require(scene.tiny or row["inkray_over_bare"] <= WISH, text)
    return text


def _warm_up(bare: BareLoop, batches: Sequence[DeviceBatch]) -> int:
    """The first batch of a size costs whoever meets it: kernels are chosen and loaded. Returns how many sizes there are."""
    met: set[torch.Size] = set()
    for batch in batches:
        if batch.images.shape not in met:
            bare.step(batch)
            bare.step(batch)
            met.add(batch.images.shape)
    bare.optimizer.zero_grad(set_to_none=True)
    return len(met)


def _again(batches: list[Batch]) -> Generator[Batch, None, None]:
    yield from itertools.cycle(batches)


def _summary(scene: Scene, batch: int, turns: Turns) -> dict[str, Any]:
    """The metrics of a row of the table."""
    name = torch.cuda.get_device_name() if scene.gpu else ""
    peak = next((flops for card, flops in PEAK_FLOPS.items() if card in name), 0.0)
    over = [a / b for a, b in zip(turns.inkray, turns.bare, strict=True)]

    def speed(times: list[float]) -> float:
        return statistics.median(images / seconds for images, seconds in zip(turns.images, times, strict=True))

    return {
        "turns": len(turns.bare),
        "inkray_images_per_s": speed(turns.inkray),
        "step_images_per_s": speed(turns.step),
        "bare_images_per_s": speed(turns.bare),
        "inkray_over_bare": statistics.median(over),
        "step_over_bare": statistics.median(a / b for a, b in zip(turns.step, turns.bare, strict=True)),
        "spread": [min(over), max(over)],
        "wait_share": statistics.median(turns.wait),
        "peak_mb": turns.peak_mb,
        "mfu_bare": turns.flops / turns.bare[-1] / peak if peak else 0.0,
        "mfu_inkray": turns.flops / turns.inkray[-1] / peak if peak else 0.0,
        "ms_a_step": 1e3 * turns.inkray[-1] * batch / turns.images[-1],
        "batch": batch,
    }


def _reading(row: dict[str, Any]) -> str:
    """One line of the table."""
    return (
        f"Inkray {row['inkray_images_per_s']:.0f}, its step {row['step_images_per_s']:.0f}, bare "
        f"{row['bare_images_per_s']:.0f} images/s; {row['inkray_over_bare']:.3f} of bare's time ({row['spread'][0]:.3f} to "
        f"{row['spread'][1]:.3f}, {row['turns']} turns; step {row['step_over_bare']:.3f}; wished {WISH}); waits "
        f"{row['wait_share']:.1%}; peak {row['peak_mb'].get('inkray', 0):.0f} MiB (bare {row['peak_mb'].get('bare', 0):.0f}); "
        f"MFU {row['mfu_inkray']:.1%} (bare {row['mfu_bare']:.1%}); {row['ms_a_step']:.1f} ms a step of {row['batch']}"
    )


CELLS = tuple(
    Cell(model, precision, 256 if model == "satrn_small" else 64) for precision in ("bf16", "fp16") for model in RECOGNIZERS
)
MEASUREMENTS = {cell.title: partial(measure, cell=cell) for cell in CELLS}
