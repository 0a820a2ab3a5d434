"""The step on a GPU: the fused optimizer, and where the host waits for the device."""

from __future__ import annotations

import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_parts.compare import deterministic, difference, furthest, in_words, losses, planned, tf32, weights_of
from benchmarks.gpu_parts.outcome import require
from benchmarks.gpu_parts.processes import ROOT
from benchmarks.gpu_parts.scene import RECOGNIZERS, QuietReporter, Scene
from trainers.engine.events import Event, Stopped
from trainers.engine.reporter import ControlRequests
from trainers.engine.train_loop import READ_FLAGS_EVERY, TrainLoop
from trainers.run.directory import new_run
from trainers.run.preflight import preflight

CHECKPOINT_AT, STOP_AT = 5, 20  # steps at which a checkpoint and a stop are requested


def fused(scene: Scene) -> str:
    """The optimizer in one kernel takes the steps that it takes over lists of tensors."""
    batches, ends, curves, kinds = scene.batches(scene.config(), 4), [], [], []
    with tf32(False), deterministic():
        for options in ("{}", "{}", "{fused: false, foreach: true}"):
            config = scene.config("compute.precision=fp32", f"optim.options={options}", "epochs=100")
            step = planned(scene.training(config).step, 100)
            kinds.append(step.optimizer.param_groups[0].get("fused"))
            curves.append(losses(step, batches, scene.many(20, tiny=2)))
            ends.append(weights_of(step.network))
    noise, far, loss = difference(ends[1], ends[0]), difference(ends[2], ends[0]), furthest(curves[0], curves[2])
    reading = (
        f"fused={kinds[0]} and {kinds[2]}: losses differ by {loss:.1e} (fused twice {furthest(curves[0], curves[1]):.1e}), "
        f"weights {in_words(far)} (fused twice {in_words(noise)})"
    )
    require((kinds[0] is True or not scene.gpu) and loss < 1e-3, reading)
    return reading


def waits(scene: Scene) -> str:
    """Nothing in a step waits for the device; requests are read now and then, one wait each."""
    readings, wrong = [], []
    for name in RECOGNIZERS[:1] if scene.tiny else RECOGNIZERS:
        for precision in ("auto", "fp16") if name == "satrn_small" and scene.gpu else ("auto",):
            config = scene.config(f"compute.precision={precision}", model=name, batch=8)
            step = scene.training(config).step
            batches = scene.batches(config, 2)
            losses(step, batches, 2)
            with counted_waits(scene) as found:
                for _, batch in batches:
                    step(batch)
            if found:
                wrong.append(f"{name} {precision}: {_listed(found)}")
            del step
            scene.free()
    readings.append(f"waits in steps: {'; '.join(wrong) or 'none'}")
    readings.append(_waits_of_loop(scene))
    require(not wrong, "; ".join(readings))
    return "; ".join(readings)


def _waits_of_loop(scene: Scene) -> str:
    """Where a training loop waits, and when it follows the requests of step 5 and 20."""

    def requests_at(call: int) -> ControlRequests:
        return ControlRequests(stop=call >= STOP_AT, checkpoint=call == CHECKPOINT_AT)

    precision = "fp16" if scene.gpu else "fp32"
    config = scene.config("data.val_split=", "tracking.log_interval=1000", "epochs=100", f"compute.precision={precision}")
    reporter, taken = _Noting(requests_at), []
    loop = TrainLoop(preflight(config), reporter, new_run(config), scene.context(config))
    reporter.loop = loop
    take = loop.checkpointer.take

    def noted(*args: Any, **kwargs: Any) -> None:
        taken.append(loop.state.step.steps)
        take(*args, **kwargs)

    loop.checkpointer.take = noted  # type: ignore[method-assign]
    with counted_waits(scene) as found:
        loop.run()
    every = READ_FLAGS_EVERY if scene.gpu else 1
    due = -(-CHECKPOINT_AT // every) * every, -(-STOP_AT // every) * every
    steps = loop.state.step.steps
    reading = (
        f"a checkpoint requested at step {CHECKPOINT_AT} was taken at {taken[0]}, a stop at {STOP_AT} at "
        f"{reporter.stopped_at}; waits in {steps} steps of a loop: {_listed(found) or 'none'}"
    )
    require(taken[0] == due[0] and reporter.stopped_at == due[1], reading)
    known = loop.state.step.overflows
    loop.state.step.read_overflows()
    require(known == loop.state.step.overflows, f"{known} of {loop.state.step.overflows} overflows were read: {reading}")
    # One reading of the requests and one of the bad steps at each look; checkpoints and log lines wait for what they hold.
    flags = sum(count for where, count in found.items() if "bad_steps" in where or "_agreed_requests" in where)
    require(flags <= 4 * -(-steps // every) + 2 or not scene.gpu, f"{flags} waits for flags: {reading}")
    return reading


class _Noting(QuietReporter):
    """Notes the step at which the run stopped."""

    loop: TrainLoop
    stopped_at = 0

    def emit(self, event: Event) -> None:
        """Note a stop."""
        super().emit(event)
        if isinstance(event, Stopped):
            self.stopped_at = self.loop.state.step.steps


@contextmanager
def counted_waits(scene: Scene) -> Iterator[Counter[str]]:
    """Inside, calls that wait for the GPU are counted by the line of Inkray that made them."""
    found: Counter[str] = Counter()

    def note(message: Any, *args: Any, **kwargs: Any) -> None:
        if "called a synchronizing" not in str(message):
            return
        frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(str(ROOT))]
        frames = [frame for frame in frames if "benchmarks" not in frame.filename]
        last = frames[-1] if frames else None
        found[f"{Path(last.filename).relative_to(ROOT)}:{last.lineno} {last.name}" if last else "elsewhere"] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        if scene.gpu:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            if scene.gpu:
                torch.cuda.set_sync_debug_mode("default")


def _listed(found: Counter[str]) -> str:
    return ", ".join(f"{count} at {where}" for where, count in found.most_common())
