"""Decoding: texts of a GPU beside those of the CPU, and images/s."""

from __future__ import annotations

import operator
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmarks.gpu_parts.compare import losses, planned, tf32
from benchmarks.gpu_parts.outcome import require
from benchmarks.gpu_parts.scene import Scene
from models import Decoding
from trainers.tasks.device_batch import DeviceBatch

GREEDY, BEAM_5 = Decoding(), Decoding(method="beam", beam_size=5)
BEAM_10 = replace(BEAM_5, beam_size=10)
TWO_WAY = replace(BEAM_5, two_way=True)
COMPARED = {"satrn_small": (GREEDY, BEAM_5), "comer": (GREEDY, BEAM_5, TWO_WAY), "aster": (GREEDY, BEAM_5)}
MEASURED = {
    "satrn_small": (GREEDY, BEAM_10),
    "satrn_baseline": (GREEDY, BEAM_10),
    "aster": (GREEDY, BEAM_10),
    "vit": (GREEDY, BEAM_10),
    "comer": (GREEDY, BEAM_10, replace(TWO_WAY, beam_size=10)),
}
BATCHES = (1, 64, 256)
CELL_S = 2.0  # of each measurement
FILE = "decode.jsonl"


def named(decoding: Decoding) -> str:
    """What a way of decoding is called in the tables."""
    if decoding.method == "greedy":
        return "greedy"
    return f"{'two-way ' if decoding.two_way else ''}beam {decoding.beam_size}"


def tokens(scene: Scene) -> str:
    """Greedy, beam and two-way decoding give the CPU's texts in fp32; with TF32 or half precision they may not."""
    readings, wrong = [], []
    for name, ways in list(COMPARED.items())[: 1 if scene.tiny else None]:
        training = scene.training(scene.config("epochs=100", model=name, batch=32))
        batches = scene.batches(training.spec.config, scene.many(8, tiny=2))
        losses(planned(training.step, 100), batches, scene.many(150 if name == "satrn_small" else 50, tiny=2))
        network, batch, task = training.network.eval(), batches[0][1], training.spec.task
        texts: dict[str, list[list[str]]] = {}
        for kind, allowed in (("fp32", False), ("TF32", True)):
            with tf32(allowed):
                texts[kind] = _texts(task, ways, network, batch)
        with training.step.autocast():
            texts["half"] = _texts(task, ways, network, batch)
        texts["cpu"] = _texts(task, ways, network.to("cpu"), batch)
        for index, way in enumerate(ways):
            truth = texts["cpu"][index]
            off = {kind: sum(map(operator.ne, truth, texts[kind][index])) for kind in ("fp32", "TF32", "half")}
            counts = ", ".join(f"{kind} {count}" for kind, count in off.items())
            readings.append(f"{name} {named(way)}: of {len(truth)} ({len(set(truth))} different) differ: {counts}")
            wrong += [f"{name} {named(way)}"] if off["fp32"] else []
        del training, network
        scene.free()
    require(not wrong, "; ".join(readings))
    return "; ".join(readings)


def _texts(task: Any, ways: Sequence[Decoding], network: Any, batch: DeviceBatch) -> list[list[str]]:
    """What each of `ways` reads in a batch."""
    device = next(network.parameters()).device
    images, sizes = batch.images.to(device), batch.sizes.to(device)
    return [[row["prediction"] for row in replace(task, decoding=way).predict(network, images, sizes)] for way in ways]


def speed(model: str) -> Callable[[Scene], str]:
    """Images/s of a recognizer in each way of decoding, at batches of 1, 64 and 256 images that lie on the device."""

    def measure(scene: Scene) -> str:
        training = scene.training(scene.config("epochs=100", model=model, batch=64))
        batches = scene.batches(training.spec.config, scene.many(8, tiny=1))
        # Untrained networks write until the limit: a few steps teach them to end.
        losses(planned(training.step, 100), batches, scene.many(100, tiny=2))
        network, batch, readings = training.network.eval(), batches[0][1], []
        task: Any = training.spec.task
        for way in MEASURED[model][: 1 if scene.tiny else None]:
            for size in BATCHES[:2] if scene.tiny else BATCHES:
                rows = torch.arange(size, device=scene.device) % len(batch.images)
                with training.step.autocast():
                    rate, length = _rate(scene, replace(task, decoding=way), network, batch.images[rows], batch.sizes[rows])
                row = {"model": model, "way": named(way), "batch": size, "images_per_s": rate, "characters": length}
                scene.append(FILE, row)
                readings.append(f"{named(way)} {size}: {rate:,.0f}")
        return f"images/s at batch size: {'; '.join(readings)}; {str(training.step.dtype).removeprefix('torch.')}"

    return measure


def _rate(scene: Scene, task: Any, network: Any, images: torch.Tensor, sizes: torch.Tensor) -> tuple[float, float]:
    """Images/s, the median of a few rounds, and the mean length of a text."""
    times: list[float] = []
    ends = time.perf_counter() + (0.1 if scene.tiny else CELL_S)
    rows: list[Any] = []
    while len(times) < 2 or (time.perf_counter() < ends and len(times) < 20):
        scene.synchronize()
        started = time.perf_counter()
        rows = task.predict(network, images, sizes)
        scene.synchronize()
        times.append(time.perf_counter() - started)
    length = statistics.mean(len(row["prediction"]) for row in rows)
    return len(images) / statistics.median(times[1:]), length
