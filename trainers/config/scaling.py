"""Where a run is computed, and with how much memory: the section `scaling` of a configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Compression = Literal["none", "fp16", "bf16"]
OutOfMemory = Literal["stop", "halve"]

MAX_THREADS = 1024


@dataclass
class DdpConfig:
    """How ranks exchange gradients (Li et al. 2020). The defaults suit one machine; the rest is for slow networks."""

    bucket_cap_mb: int = 25  # gradients are sent in buckets of about this size while the others are still computed
    static_graph: bool = False  # every step uses the same parameters: less bookkeeping; not together with optim.freeze
    compression: Compression = "none"  # gradients travel in half precision: half the traffic


@dataclass
class ScalingConfig:
    """Where a run is computed."""

    num_train_workers: int = 2
    min_train_workers: int = 0  # above 0: elastic, with any number from this to num_train_workers that there is room for
    resize_interval_s: float = 60.0  # elastic: how often it is looked whether there is room for more workers
    use_gpu: bool | None = None  # None: if the cluster has enough GPUs
    cpus_per_worker: float | None = None  # None: one, or less on a small machine
    threads_per_worker: int = 0  # of torch, on CPUs; 0: an equal share of the machine's cores
    wait_for_nodes_s: float = 0.0  # how long an autoscaling cluster may take to bring the machines
    max_failures: int = 3  # restarts from the last checkpoint when a worker is lost
    hang_timeout_s: float = 600.0  # a worker without a sign of progress for so long is named, killed and replaced; 0: never
    precision: Precision = "auto"  # fp16 on GPUs without bf16, bf16 where there is, fp32 on CPUs
    micro_batch_size: int = 0  # images that a worker takes at once, gradients being added up; 0: its whole part of the batch
    find_micro_batch: bool = False  # before the first step, on a GPU: the largest micro-batch that its memory holds
    on_out_of_memory: OutOfMemory = "stop"  # halve: go on from the last checkpoint with half the micro-batch
    # Activations are computed again in the backward pass: less memory, a third more time. BatchNorm sees each batch twice.
    gradient_checkpointing: bool = False
    compile: bool = False  # torch.compile; where the device cannot, the run says so and goes on without
    sync_batch_norm: bool = False  # BatchNorm over the whole global batch (GPUs)
    ddp: DdpConfig = field(default_factory=DdpConfig)


def problems(config: ScalingConfig, global_batch_size: int) -> list[str]:
    """What is wrong with the values, each in one line."""
    in_parts = config.micro_batch_size > 0 or config.find_micro_batch or config.on_out_of_memory == "halve"
    workers, least = config.num_train_workers, config.min_train_workers
    rules = [
        (workers >= 1, f"scaling.num_train_workers={workers}: at least 1"),
        (0 <= least <= workers, f"scaling.min_train_workers={least}: from 0 to scaling.num_train_workers={workers}"),
        (
            least > 0 or global_batch_size % max(workers, 1) == 0,
            f"global_batch_size={global_batch_size} is not a multiple of scaling.num_train_workers={workers}",
        ),
        (
            config.cpus_per_worker is None or config.cpus_per_worker > 0,
            f"scaling.cpus_per_worker={config.cpus_per_worker}: above 0, or null",
        ),
        (
            0 <= config.threads_per_worker <= MAX_THREADS,
            f"scaling.threads_per_worker={config.threads_per_worker}: from 0 to {MAX_THREADS}",
        ),
        (config.wait_for_nodes_s >= 0, f"scaling.wait_for_nodes_s={config.wait_for_nodes_s:g}: not negative"),
        (config.resize_interval_s > 0, f"scaling.resize_interval_s={config.resize_interval_s:g}: above 0"),
        (config.max_failures >= 0, f"scaling.max_failures={config.max_failures}: not negative"),
        (config.hang_timeout_s >= 0, f"scaling.hang_timeout_s={config.hang_timeout_s:g}: not negative"),
        (config.micro_batch_size >= 0, f"scaling.micro_batch_size={config.micro_batch_size}: not negative"),
        (
            not config.ddp.static_graph or not in_parts,
            "scaling.ddp.static_graph=true: not together with micro-batches (scaling.micro_batch_size, find_micro_batch or "
            "on_out_of_memory=halve), of which the first do not exchange gradients",
        ),
        (
            not config.sync_batch_norm or not config.find_micro_batch,
            "scaling.find_micro_batch=true: not together with scaling.sync_batch_norm, for which ranks wait for each other",
        ),
        (config.ddp.bucket_cap_mb >= 1, f"scaling.ddp.bucket_cap_mb={config.ddp.bucket_cap_mb}: at least 1"),
    ]
    return [message for good, message in rules if not good]
