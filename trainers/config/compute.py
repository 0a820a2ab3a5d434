"""The section `compute`: how a worker computes a step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainers.config.rules import broken, minimums

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
Compression = Literal["none", "fp16", "bf16"]

MAX_THREADS = 1024


@dataclass
class DdpConfig:
    """How ranks exchange gradients (Li et al. 2020). The defaults suit one machine; the rest is for slow networks."""

    bucket_cap_mb: int = 25  # gradients are sent in buckets of about this size while the others are still computed
    static_graph: bool = False  # every step uses the same parameters: less bookkeeping; not together with optim.freeze
    compression: Compression = "none"  # gradients travel in half precision: half the traffic


@dataclass
class ComputeConfig:
    """How a worker computes a step, and with how much memory."""

    # auto: fp16 on GPUs without bf16 (V100, T4), bf16 on later ones, fp32 on CPUs. fp32 is full single precision; tf32 rounds
    # the factors of its products to 10 bits on GPUs that are faster so (A100 and later).
    precision: Precision = "auto"
    micro_batch_size: int = 0  # images that a worker takes at once, gradients being added up; 0: its whole part of the batch
    find_micro_batch: bool = False  # before the first step, on a GPU: the largest micro-batch that its memory holds
    # Activations are computed again in the backward pass: less memory, a third more time. BatchNorm sees each batch twice.
    gradient_checkpointing: bool = False
    compile: bool = False  # torch.compile; where the device cannot, the run says so and continues without
    sync_batch_norm: bool = False  # BatchNorm over the whole global batch (GPUs)
    threads_per_worker: int = 0  # of torch, on CPUs; 0: an equal share of the machine's cores
    ddp: DdpConfig = field(default_factory=DdpConfig)

    def validate(self) -> list[str]:
        """What is wrong with the values, by key."""
        threads = self.threads_per_worker
        return broken(
            *minimums("compute", self, micro_batch_size=0),
            (0 <= threads <= MAX_THREADS, f"compute.threads_per_worker={threads}: from 0 to {MAX_THREADS}"),
            (
                not self.sync_batch_norm or not self.find_micro_batch,
                "compute.find_micro_batch=true: not together with compute.sync_batch_norm, for which ranks wait for each other",
            ),
            *minimums("compute.ddp", self.ddp, bucket_cap_mb=1),
        )
