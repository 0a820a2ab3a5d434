"""DDP (Li et al. 2020): the network of each rank, its gradients exchanged while they are computed."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from cluster.errors import UserError
from models.backbones.norms import BatchNorm
from models.decoders.masked_norm import MaskedBatchNorm
from trainers.config.compute import Compression, ComputeConfig, DdpConfig

_HOOKS: dict[Compression, Any] = {
    "fp16": default_hooks.fp16_compress_hook,
    "bf16": default_hooks.bf16_compress_hook,
}


def is_distributed() -> bool:
    """Whether there are other ranks than this."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def unwrap_model(model: nn.Module) -> Any:
    """The network itself, whatever it is wrapped in."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def with_synchronized_norms(network: nn.Module, compute: ComputeConfig, device: torch.device) -> nn.Module:
    """`network`, its BatchNorms replaced by those that count over all ranks where the configuration asks for them.

    Raises:
        UserError: they are asked for on CPUs, where torch has none, or for norms that know of padding.
    """
    if not compute.sync_batch_norm:
        return network
    if any(isinstance(module, BatchNorm | MaskedBatchNorm) for module in network.modules()):
        raise UserError("compute.sync_batch_norm=true: not for this model, whose norms leave out the padding. Set it to false.")
    if device.type == "cpu":
        raise UserError("compute.sync_batch_norm=true needs GPUs: torch has no such norm on CPUs. Set it to false.")
    from timm.layers import convert_sync_batchnorm  # knows timm's norms that have an activation; two seconds to import

    converted: nn.Module = convert_sync_batchnorm(network)
    return converted


def wrap_ddp(network: nn.Module, config: DdpConfig, device: torch.device) -> nn.Module:
    """`network` under DDP where there are several ranks, else as it is. Gradients are views of the buckets: a copy less."""
    if not is_distributed() or not any(parameter.requires_grad for parameter in network.parameters()):
        return network
    model = DistributedDataParallel(
        network,
        device_ids=[device] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        static_graph=config.static_graph,
        bucket_cap_mb=config.bucket_cap_mb,
    )
    if config.compression != "none":
        model.register_comm_hook(None, _HOOKS[config.compression])
    return model
