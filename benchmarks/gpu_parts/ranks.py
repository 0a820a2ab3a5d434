"""DDP: over nccl with one rank and all its options, and two ranks that share the device."""

from __future__ import annotations

import contextlib
import traceback
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from benchmarks.gpu_parts.compare import apart, furthest, losses, tf32, weights_of, without_dropout
from benchmarks.gpu_parts.outcome import Failed, require
from benchmarks.gpu_parts.scene import Scene, Training
from data_pipeline.storage.base import open_storage
from trainers.run.directory import new_run
from trainers.tasks.device_batch import DeviceBatch

ASKING = ("distributed.ddp", "distributed.collectives", "engine.step", "engine.loss_guard", "engine.meters")
TIMEOUT_S = 240


# Plain gradient descent at a constant rate, gradients as they are: AdamW and clipping would hide a factor in them.
PLAIN = (
    "compute.precision=fp32",
    "optim.name=sgd",
    "optim.lr=0.01",
    "optim.max_grad_norm=0",
    "optim.schedule.name=constant",
    "optim.schedule.warmup_ratio=0",
    "epochs=100",
)
GROUP_NORMS = ("model.backbone.name=resnetv2", "model.backbone.resnetv2.depths=[1]")


@dataclass(frozen=True)
class Case:
    """A network, and how far the weights of two ranks may be from one rank's, as a share of the way that these went."""

    overrides: tuple[str, ...]
    tolerance: float
    synchronized: bool = False
    only_gpu: bool = False


CASES = {
    "group norms": Case(GROUP_NORMS, 1e-3),
    "SyncBatchNorm": Case(
        ("model.backbone.name=timm", "model.backbone.timm.name=resnet10t", "model.backbone.timm.pretrained=false"),
        2e-2,
        synchronized=True,
        only_gpu=True,
    ),
    "norms of each rank": Case((), 1.0),  # see other statistics
}


def ddp(scene: Scene) -> str:
    """DDP over nccl, a group of one rank: with and without compression, in parts, with recomputed activations."""
    batches = scene.batches(scene.config(), 4)
    half, recomputed = f"compute.micro_batch_size={4 if scene.tiny else 16}", "compute.gradient_checkpointing=true"

    def run(*overrides: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The weights at the start and after some steps."""
        training = _still(scene.training(scene.config(*PLAIN, *GROUP_NORMS, *overrides)))
        if dist.is_initialized():
            require(isinstance(training.step.model, torch.nn.parallel.DistributedDataParallel), "not wrapped")
        start = weights_of(training.network)
        losses(training.step, batches, scene.many(8, tiny=2))
        return start, weights_of(training.network)

    start, plain = run()
    noise = apart(run()[1], plain, start)
    readings, wrong = [f"without DDP, twice {noise:.1e}"], []
    meeting = f"file://{scene.scratch / 'ddp'}"
    with tf32(False), contextlib.ExitStack() as patches:
        dist.init_process_group("nccl" if scene.gpu else "gloo", init_method=meeting, rank=0, world_size=1)
        patches.callback(dist.destroy_process_group)
        for module in ASKING:
            patches.enter_context(patch(f"trainers.{module}.is_distributed", lambda: True))
        for name, overrides, tolerance in (
            ("plain", (), 1e-3),
            ("static graph", ("compute.ddp.static_graph=true",), 1e-3),
            ("fp16 gradients", ("compute.ddp.compression=fp16",), 1e-2),
            ("bf16 gradients", ("compute.ddp.compression=bf16",), 5e-2),
            ("in parts", (half,), 1e-3),
            ("recomputed", (recomputed,), 1e-3),
            ("recomputed, in parts", (recomputed, half), 1e-3),
        ):
            try:
                far = apart(run(*overrides)[1], plain, start)
            except Failed:
                raise
            except Exception as error:
                wrong.append(f"{name}: {type(error).__name__} {str(error)[:200]}")
                continue
            readings.append(f"{name} {far:.1e}")
            if not far <= max(tolerance, 5 * noise):
                wrong.append(f"{name} is {far:.1e} off")
    require(not wrong, "; ".join([*wrong, *readings]))
    return f"{'nccl' if scene.gpu else 'gloo'}; weights apart, as a share of their way: " + ", ".join(readings)


def two_ranks(scene: Scene) -> str:
    """Two processes that share the device learn what one does, nothing being dropped. nccl wants a GPU a rank: this is gloo."""
    context = mp.get_context("spawn")
    results = context.Queue()
    ranks = [context.Process(target=_rank, args=(rank, scene, results)) for rank in range(2)]
    for process in ranks:
        process.start()
    try:
        found = results.get(timeout=TIMEOUT_S)
    finally:
        for process in ranks:
            process.join(10)
            if process.is_alive():
                process.kill()
    require(isinstance(found, dict), str(found))
    readings, good = [], True
    for name, (loss, weights, synced) in found.items():
        case = CASES[name]
        readings.append(f"{name}: weights apart by {weights:.1e} of their way, losses by {loss:.1e}")
        readings[-1] += f", {synced} SyncBatchNorms" if case.synchronized else ""
        good = good and weights <= case.tolerance and loss < 0.2 and (synced > 0) == case.synchronized
    require(good, "; ".join(readings))
    return "; ".join(readings)


def _rank(rank: int, scene: Scene, results: Any) -> None:
    """One rank of two; rank 0 puts what it found."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    try:
        with tf32(False):
            for name, case in CASES.items():
                if scene.gpu or not case.only_gpu:
                    found[name] = _compared(scene, case, rank, f"file://{scene.scratch / f'ranks-{len(found)}'}")
        if rank == 0:
            results.put(found)
    except Exception as error:
        traceback.print_exc()
        if rank == 0:
            results.put(f"{type(error).__name__}: {str(error)[:300]}")
        raise


def _compared(scene: Scene, case: Case, rank: int, meeting: str) -> tuple[float, float, int]:
    """How far two ranks are from one, in losses and in weights as a share of their way; how many norms are synchronized."""
    config = scene.config(*PLAIN, *case.overrides)
    batches, steps = scene.batches(config, 2), scene.many(4, tiny=2)
    alone: list[float] = []
    if rank == 0:
        training = _still(scene.training(config))
        start = weights_of(training.network)
        alone, weights = losses(training.step, batches, steps), weights_of(training.network)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    together = scene.config(*PLAIN, *case.overrides, f"compute.sync_batch_norm={str(case.synchronized).lower()}")
    together.scaling.num_train_workers = 2
    uri = [new_run(together).uri if rank == 0 else ""]
    dist.broadcast_object_list(uri, 0)
    training = _still(scene.training(together, rank, 2, run=open_storage(uri[0])))
    size = len(batches[0][1].images) // 2
    mine = [_rows(tensors, slice(rank * size, rank * size + size)) for _, tensors in batches]
    taken = [training.step(mine[number % len(mine)]) for number in range(steps)]
    sums = torch.stack([result.loss_sum for result in taken])
    dist.all_reduce(sums)
    curve = (sums / torch.stack([result.target_count for result in taken])).tolist()
    dist.barrier()
    dist.destroy_process_group()
    synced = sum(isinstance(module, torch.nn.SyncBatchNorm) for module in training.network.modules())
    if rank:
        return 0.0, 0.0, 0
    return furthest(alone, curve), apart(weights_of(training.network), weights, start), synced


def _still(training: Training) -> Training:
    without_dropout(training.network)
    return training


def _rows(batch: DeviceBatch, part: slice) -> DeviceBatch:
    return batch.map(lambda tensor: tensor[part], batch.has_weight and batch.has_weight[part])
