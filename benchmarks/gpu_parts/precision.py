"""Precision on a GPU: what is chosen, that all learn alike, overflow under the loss scale, TF32, compilation."""

from __future__ import annotations

import json
import math
import time
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.gpu_parts.compare import furthest, losses, planned, tf32, weights_of
from benchmarks.gpu_parts.outcome import require
from benchmarks.gpu_parts.scene import Scene
from trainers.distributed.precision import resolve_precision, try_compile
from trainers.engine.step import TrainStep
from trainers.optim import ScheduleConfig
from trainers.optim.schedule import lr_ratio
from trainers.tasks.device_batch import DeviceBatch

CURVE = 0.10  # relative: mean losses of the last fifth of 100 steps may differ so much between precisions


def choices(scene: Scene) -> str:
    """What the code chooses here, and on a V100."""
    here = resolve_precision("auto", scene.device)
    with patch("torch.cuda.get_device_capability", lambda device=None: (7, 0)):
        volta = resolve_precision("auto", torch.device("cuda"))
    require(volta == torch.float16, f"V100: {volta}")
    capability = torch.cuda.get_device_capability() if scene.gpu else None
    if capability is not None:
        expected = torch.bfloat16 if capability >= (8, 0) else torch.float16
        require(here == expected, f"{torch.cuda.get_device_name()}: {here}")

    def too_old(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("Triton does not support sm_70")

    with patch("torch.compile", too_old):
        reason = try_compile(torch.nn.Linear(1, 1), scene.device)
    require("sm_70" in reason, reason)
    built_for = " ".join(torch.cuda.get_arch_list()) if scene.gpu else "no GPU"
    flags = f"TF32: matmul {torch.backends.cuda.matmul.allow_tf32}, cudnn {torch.backends.cudnn.allow_tf32}"
    return f"here {capability}: {here}; V100: {volta}; compile refused: '{reason}'; torch built for {built_for}; {flags}"


def precisions(scene: Scene) -> str:
    """fp32, bf16 and fp16 with its scaler learn alike."""
    steps, curves, speeds, norms = scene.many(100), {}, [], {}
    size = scene.many(64, tiny=2)
    batches = scene.batches(scene.config(batch=size), scene.many(16))
    for precision in ("fp32", "bf16", "fp16") if scene.has_bf16 else ("fp32", "fp16"):
        config = scene.config(f"compute.precision={precision}", "epochs=100", batch=size)
        norms[precision] = _gradient_norm(scene.training(config).step, batches[0][1])
        step = planned(scene.training(config).step, steps)
        started = time.perf_counter()
        curves[precision] = losses(step, batches, steps)
        speeds.append(f"{precision} {steps / (time.perf_counter() - started):.0f}")
    last = max(1, steps // 5)
    ends = {name: sum(curve[-last:]) / last for name, curve in curves.items()}
    reading = "; ".join(f"{name} from {curve[0]:.4f} to {ends[name]:.4f}" for name, curve in curves.items())
    reading += f" (last fifth of {steps} steps, tolerance {CURVE:.0%}); steps/s {', '.join(speeds)}; gradients' norms "
    reading += ", ".join(f"{norm:.3f}" for norm in norms.values())
    (scene.out / "curves.json").write_text(json.dumps(curves))
    require(all(abs(value / ends["fp32"] - 1) < CURVE for value in ends.values()), reading)
    require(all(abs(norm / norms["fp32"] - 1) < CURVE for norm in norms.values()), reading)
    require(ends["fp32"] < 0.8 * curves["fp32"][0] or scene.tiny, f"nothing was learned: {reading}")
    return reading


def _gradient_norm(step: TrainStep, batch: DeviceBatch) -> float:
    """The norm of the first gradient that does not overflow; every module trains."""
    for _ in range(20):
        norm = float(step(batch).grad_norm)
        if math.isfinite(norm):
            break
    require(all(module.training for module in step.network.modules()), "modules are left in evaluation mode")
    return norm


def overflow(scene: Scene) -> str:
    """A step whose gradients overflow under the loss scale changes no weight and is not counted, the scale is halved."""
    size = scene.many(64, tiny=2)
    step = planned(scene.training(scene.config("compute.precision=fp16", "epochs=100", batch=size)).step, 100)
    first = 2.0 ** scene.many(40, tiny=18)
    step.scaler = torch.amp.GradScaler(scene.device.type, init_scale=first)
    batches = scene.batches(scene.config(batch=size), 4)
    before = weights_of(step.network)
    result = step(batches[0][1])
    same = all(torch.equal(value.detach(), before[name]) for name, value in step.network.named_parameters())
    require(same and not bool(result.bad), f"weights as they were: {same}; bad: {bool(result.bad)}")
    require(step.scaler.get_scale() == first / 2, f"scale {step.scaler.get_scale()}")
    taken, skipped = 0, 1
    for number in range(scene.many(40, tiny=6)):
        scale = step.scaler.get_scale()
        step(batches[number % 4][1])
        skipped, taken = skipped + (step.scaler.get_scale() < scale), taken + (step.scaler.get_scale() >= scale)
    counts = {float(state["step"]) for state in step.optimizer.state.values()}
    require(taken > 0 and counts == {float(taken)}, f"taken {taken}, the optimizer counted {counts}")
    step.read_overflows()
    step(batches[0][1])
    planned_lr = step.schedule.peak * lr_ratio(ScheduleConfig(), taken, 100, 100)
    reading = (
        f"{skipped} of {step.steps - 1} steps skipped, scale now 2^{math.log2(step.scaler.get_scale()):.0f}; the optimizer "
        f"counted {taken}, the schedule {step.steps - 1 - step.overflows}; lr {step.lr:.2e}"
    )
    require(step.overflows == skipped and math.isclose(step.lr, planned_lr), f"{reading}, not {planned_lr:.2e}")
    return reading


def fp32(scene: Scene) -> str:
    """`compute.precision=fp32` computes in full single precision: as the CPU does, and not in TF32."""
    config = scene.config("compute.precision=fp32", batch=16)
    losses_of, cpu = {}, scene.on(torch.device("cpu"))
    for name, place in (("gpu", scene), ("cpu", cpu)):
        training = place.training(config)
        tensors = place.batches(config, 1)[0][1]
        training.network.eval()
        with torch.no_grad():
            losses_of[name] = float(training.spec.task.loss_sum(training.network, tensors))
        flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        require(not scene.gpu or flags == (False, False) or name == "cpu", f"TF32 is allowed: {flags}")
    far = abs(losses_of["gpu"] / losses_of["cpu"] - 1)
    reading = f"loss of a batch differs from the CPU's by {far:.1e}"
    training = scene.training(config)  # which switches TF32 off
    training.network.eval()
    with tf32(True), torch.no_grad():
        loose = float(training.spec.task.loss_sum(training.network, scene.batches(config, 1)[0][1]))
    require(far < 1e-5, reading)
    return f"{reading}; with TF32 by {abs(loose / losses_of['cpu'] - 1):.1e}"


def compiling(scene: Scene) -> str:
    """torch.compile: the curve of the plain network, and what it gains."""
    batches = scene.batches(scene.config(), scene.many(4, tiny=2))
    steps = scene.many(24, tiny=2)
    curves, ms = [], []
    for compiled in (False, True):
        step = planned(scene.training(scene.config("epochs=100")).step, 100)
        started = time.perf_counter()
        if compiled:
            reason = try_compile(step.network, scene.device)
            require(not reason, reason)
        curves.append(losses(step, batches, steps))
        first = time.perf_counter() - started
        scene.synchronize()
        begun = time.perf_counter()
        losses(step, batches, len(batches))
        ms.append(1e3 * (time.perf_counter() - begun) / len(batches))
    far = furthest(*curves)
    breaks = sum(torch._dynamo.utils.counters["graph_break"].values())
    sizes = len({(*batch.images.shape, *batch.targets["tokens"].shape) for _, batch in batches})
    reading = (
        f"losses differ by {far:.1e}; {ms[0]:.1f} ms a step, compiled {ms[1]:.1f}; {first:.0f} s to compile and take {steps} "
        f"steps of {sizes} sizes; {breaks} graph breaks"
    )
    require(far < 0.05, reading)
    return reading
