"""The largest micro-batch that a GPU's memory holds, found by trying it with the largest images and targets."""

from __future__ import annotations

import torch

from data_pipeline.dataset.manifest import Dataset
from data_pipeline.stream.plan import Plan
from trainers.distributed.collectives import all_gather_objects
from trainers.distributed.micro_batch import MicroBatch, largest_that_fits, unchanged
from trainers.engine.step import TrainStep
from trainers.tasks.device_batch import DeviceBatch


def find_micro_batch(step: TrainStep, plan: Plan, dataset: Dataset, split: str, micro: MicroBatch) -> int:
    """The same number on every rank: the least of what they find. On a CPU, whose memory is the machine's, nothing is tried."""
    if step.device.type != "cuda":
        return micro.size

    def attempt(size: int) -> None:
        # What the optimizer will keep of each weight does not exist before the first step.
        room = [torch.empty_like(p) for p in step.network.parameters() if p.requires_grad for _ in range(3)]
        with step.autocast():
            loss = step.task.loss_sum(step.network, largest_batch(size, step, plan, dataset, split))
        step.scaler.scale(loss).backward()
        del room

    step.enter_training()
    with unchanged(step.network):
        size = largest_that_fits(micro.size, attempt, step.device)
    return min(all_gather_objects(size))


def largest_batch(size: int, step: TrainStep, plan: Plan, dataset: Dataset, split: str) -> DeviceBatch:
    """Noise of the largest images of a split, `size` of them, each with targets as large as they get."""
    largest = int((plan.groups.height * plan.groups.width).argmax())
    height, width = int(plan.groups.height[largest]), int(plan.groups.width[largest])
    shape = (size, dataset.manifest.image.channels, height, width)
    targets = step.task.largest_targets(size, dataset.manifest.split(split))
    return DeviceBatch(
        images=torch.randint(0, 256, shape, dtype=torch.uint8, device=step.device),
        sizes=torch.tensor([[height, width]], device=step.device).expand(size, -1),
        targets={name: torch.from_numpy(array).to(step.device) for name, array in targets.items()},
        weights=torch.ones(size, device=step.device),
    )
