"""Memory: finding the micro-batch, halving it when memory is full, recomputed activations."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu_parts.compare import difference, gradients_of, in_words, tf32, where_most
from benchmarks.gpu_parts.outcome import Failed, Skipped, require
from benchmarks.gpu_parts.scene import Scene
from cluster.errors import UserError
from trainers.distributed.micro_batch import FILE, MicroBatch
from trainers.distributed.precision import enable_gradient_checkpointing
from trainers.engine.find_micro_batch import find_micro_batch, largest_batch
from trainers.run.directory import new_run
from trainers.run.launch_local import launch_local
from trainers.run.preflight import preflight
from trainers.tracking import Console

GIB = 2**30
LEFT = 2.0  # GiB, for the micro-batch to be found in
RECOMPUTED = ("satrn_small", "satrn_baseline", "vit", "comer")


@contextlib.contextmanager
def full_but_for(scene: Scene, leave: float) -> Iterator[None]:
    """Inside, the GPU has `leave` GiB of memory left; a tensor takes the rest."""
    if not scene.gpu or scene.tiny:
        raise Skipped("needs a GPU, and not --tiny")
    scene.free()
    free, _ = torch.cuda.mem_get_info()
    ballast = torch.empty(max(0, free - int(leave * GIB)), dtype=torch.uint8, device=scene.device)
    try:
        yield
    finally:
        del ballast
        scene.free()


def micro_batch(scene: Scene) -> str:
    """The micro-batch that is found fits a step, twice as many do not."""
    readings = []
    for precision in ("auto", "fp32"):
        config = scene.config(f"compute.precision={precision}", "data.val_split=", batch=2048)
        training = scene.training(config)
        step, plan, dataset = training.step, training.stream.plan, training.spec.dataset
        step(scene.batches(scene.config(batch=8), 1)[0][1])  # kernels are loaded
        step.optimizer.state.clear()

        def attempt(size: int, step: Any = step, plan: Any = plan, dataset: Any = dataset) -> str:
            step.micro_batch_size = size
            try:
                step(largest_batch(size, step, plan, dataset, "train"))
                return "fits"
            except torch.OutOfMemoryError:
                return "does not fit"

        with full_but_for(scene, LEFT):
            micro = MicroBatch(training.run, config.compute, config.failure, 2048)
            found = find_micro_batch(step, plan, dataset, "train", micro)
            scene.free()
            fits = attempt(found)
            scene.free()
            twice = attempt(2 * found)
        readings.append(f"{precision}, {LEFT:g} GiB left: {found} found, a step of it {fits}, one of {2 * found} {twice}")
        require(fits == "fits" and 1 < found < 2048, "; ".join(readings))
        del training, step
        scene.free()
    return "; ".join(readings)


def halving(scene: Scene) -> str:
    """A run whose memory is full continues with half the micro-batch, again and again; or says what to set."""
    common = ("data.test_split=", "data.val_split=", "epochs=1")
    with full_but_for(scene, 1.0):
        config = scene.config("failure.on_out_of_memory=halve", *common, batch=1024)
        run, printed = new_run(config), io.StringIO()
        launch_local(preflight(config), run, scene.context(config), Console(printed))
        size = int(run.child(FILE).read_bytes()) if run.child(FILE).exists() else 1024
        reading = f"{size} of 1,024 images at once in the end, {printed.getvalue().count('memory was full')} times halved"
        require(size < 1024, f"{reading}; {printed.getvalue()[-300:]}")
        scene.free()
        config = scene.config(*common, batch=1024)
        try:
            launch_local(preflight(config), new_run(config), scene.context(config), Console(io.StringIO()))
        except UserError as error:
            return f"{reading}; without halving: '{str(error)[:160]}...'"
        raise Failed(f"{reading}; without halving the memory was not full")


def recompute(scene: Scene) -> str:
    """Recomputed activations: the same loss and gradients, less memory."""
    readings, good = [], True
    for name in RECOMPUTED[:1] if scene.tiny else RECOMPUTED:
        config = scene.config("compute.precision=fp32", model=name, batch=16)
        batch = scene.batches(config, 1)[0][1]
        with tf32(False):
            (loss, plain, peak), (_, twice, _), (again, gradients, less) = (
                _gradients(scene, config, batch, recomputed) for recomputed in (False, False, True)
            )
        noise, far = difference(twice, plain), difference(gradients, plain)
        good = good and abs(again / loss - 1) < 1e-5 and far <= max(1e-4, 10 * noise) and len(plain) == len(gradients)
        memory = f", memory {less / 2**20:.0f} of {peak / 2**20:.0f} MiB" if scene.gpu else ""
        noisy = f" (most in {where_most(twice, plain)})" if noise > 1e-3 else ""
        readings.append(
            f"{name}: loss differs by {abs(again / loss - 1):.0e}, gradients {in_words(far)}, plain twice {in_words(noise)}"
            f"{noisy}{memory}"
        )
    require(good, "; ".join(readings))
    return "; ".join(readings)


def _gradients(scene: Scene, config: Any, batch: Any, recomputed: bool) -> tuple[float, dict[str, torch.Tensor], int]:
    """Loss, gradients and the peak of memory in bytes of one pass."""
    training = scene.training(config)
    network = training.network
    if recomputed:
        enable_gradient_checkpointing(network)
    network.train()
    torch.manual_seed(1)
    scene.free()
    base = 0
    if scene.gpu:
        torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated()
    total = training.step.task.loss_sum(network, batch)
    total.backward()
    peak = torch.cuda.max_memory_allocated() - base if scene.gpu else 0
    return float(total.detach()), gradients_of(network), peak
