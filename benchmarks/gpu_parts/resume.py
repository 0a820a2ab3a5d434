"""Resumption: on the same device to the bit, on another device, in another precision."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_parts.compare import deterministic, difference, furthest, in_words, losses, weights_of, within_noise
from benchmarks.gpu_parts.outcome import Skipped, require
from benchmarks.gpu_parts.scene import BatchPair, Scene, Training
from data_pipeline.stream import StreamPosition
from trainers.checkpoint.format import Snapshot
from trainers.config.train import TrainConfig

CASES = (("satrn_small", "auto"), ("satrn_small", "fp16"), ("comer", "auto"))


def resume(scene: Scene) -> str:
    """A run that resumes from a checkpoint ends as the one in one go."""
    readings, good = [], True
    steps = scene.many(16, tiny=4)
    for name, precision in CASES[:1] if scene.tiny else CASES:
        config = scene.config(f"compute.precision={precision}", model=name, batch=16)
        batches = scene.batches(config, 4)
        for way in ("as it is", "deterministic") if name == "satrn_small" and precision == "auto" else ("as it is",):
            with deterministic() if way == "deterministic" else contextlib.nullcontext():
                once, twice, cut = (_trained(scene, config, batches, steps, at) for at in (0, 0, steps // 2))
            far, noise = difference(cut, once), difference(twice, once)
            readings.append(f"{name} {precision}, {way}: {in_words(far)} (in one go, twice: {in_words(noise)})")
            good = good and within_noise(far, noise)
    require(good, "; ".join(readings))
    return f"{steps} steps, cut in the middle; " + "; ".join(readings)


def other_device(scene: Scene) -> str:
    """A checkpoint of a GPU resumes on a CPU, and the other way round; one of fp16 resumes in bf16 and back."""
    if not scene.gpu:
        raise Skipped("needs a GPU")
    config = scene.config("compute.precision=fp32", batch=16)
    cpu = scene.on(torch.device("cpu"))
    here, there = (scene, scene.batches(config, 2)), (cpu, cpu.batches(config, 2))
    readings = []
    for name, first, others in (("GPU to CPU", here, (here, there)), ("CPU to GPU", there, (there, here))):
        curves, fused = [], None
        for second in others:
            training = first[0].training(config)
            losses(training.step, first[1], 4)
            resumed = _resumed(second[0], training)
            curves.append(losses(resumed.step, second[1], 4))
            fused = resumed.step.optimizer.param_groups[0].get("fused")
        far = furthest(*curves)
        readings.append(f"{name}: losses differ by {far:.1e}, fused={fused}")
        require(far < 1e-2, "; ".join(readings))
    batches, curve = here[1], []
    training = scene.training(scene.config("compute.precision=fp16", batch=16))
    for precision in ("fp16", "bf16", "fp16"):
        following = scene.training(scene.config(f"compute.precision={precision}", batch=16))
        following.network.load_state_dict(weights_of(training.network))
        following.step.load_state_dict(_stored(training.step.state_dict()))
        curve += losses(following.step, batches, 2)
        training = following
    readings.append(f"fp16, bf16, fp16: losses {', '.join(f'{loss:.3f}' for loss in curve)}")
    require(all(loss == loss for loss in curve) and curve[-1] < 1.1 * curve[0], "; ".join(readings))
    return "; ".join(readings)


def _trained(scene: Scene, config: TrainConfig, batches: Sequence[BatchPair], steps: int, cut: int) -> dict[str, Tensor]:
    """The weights after `steps`; with a `cut`, a fresh step resumes there from what a checkpoint holds."""
    training = scene.training(config)
    for number in range(steps):
        if cut and number == cut:
            training = _resumed(scene, training)
        training.step(batches[number % len(batches)][1])
    return weights_of(training.network)


def _resumed(scene: Scene, training: Training) -> Training:
    """A fresh run on the device of `scene` with what a checkpoint of `training` holds."""
    config, task, state = training.spec.config, training.spec.task, training.step.state_dict()
    snapshot = Snapshot.take(training.network, config, task, training.data, state, StreamPosition(), {}, "")
    fresh = scene.training(config)
    fresh.network.load_state_dict(snapshot.weights)
    fresh.step.load_state_dict(_stored(snapshot.state))
    return fresh


def _stored(state: dict[str, Any]) -> dict[str, Any]:
    """A state as it comes back from a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return loaded
