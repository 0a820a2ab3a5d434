"""The optimizer of a configuration."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trainers.config.optim import OptimConfig
from trainers.config.optimizers import PLAIN, arguments, optimizer_class
from trainers.optim.groups import parameter_groups

# On GPUs. On CPUs a run that resumed with fused kernels did not equal the one in one go to the bit (torch 2.10). SGD's kernel
# stumbles over parameters that have no momentum yet because they were frozen.
FUSED = (torch.optim.Adam, torch.optim.AdamW)
KERNELS = ("fused", "foreach")  # settings that say how a step is computed, not which


def build_optimizer(network: nn.Module, config: OptimConfig, lr: float) -> torch.optim.Optimizer:
    """The configured optimizer over all parameters of `network`, which is on its device and not wrapped for DDP.

    `lr` is the peak of the rate; each group has its share of it as `lr_scale`. Frozen parameters are in the groups, too:
    without a gradient they are left as they are.
    """
    groups = parameter_groups(network, config)
    for group in groups:
        group["lr"] = lr * group["lr_scale"]
    kind = optimizer_class(config.name)
    assert kind is not None, "configurations are checked"
    settings: dict[str, Any] = {
        "lr": lr,
        "weight_decay": config.weight_decay,
        "betas": config.betas,
        **({} if config.eps is None else {"eps": config.eps}),
        **kernel(kind, next(network.parameters()).device, config.options),
        **({"max_grad_norm": None} if "max_grad_norm" in arguments(kind) else {}),  # LAMB's own: the step clips, once
        **config.options,
    }
    if config.name in PLAIN:
        return kind(groups, **settings)
    from timm.optim import create_optimizer_v2, get_optimizer_info  # timm leaves out what the class does not take

    if get_optimizer_info(config.name).num_betas != 2:
        del settings["betas"]
    return create_optimizer_v2(groups, opt=config.name, **settings)


def kernel(kind: type[torch.optim.Optimizer], device: torch.device, options: dict[str, Any]) -> dict[str, bool]:
    """How the step is computed: in one kernel on GPUs where torch has it, else over lists of tensors, or as `options` say."""
    if options.keys() & set(KERNELS):
        return {}
    if device.type == "cuda" and kind in FUSED:
        return {"fused": True}
    return {"foreach": True} if "foreach" in arguments(kind) else {}


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a `state_dict`, maybe of another device; steps are computed by the kernels of this one.

    Checkpoints hold contiguous tensors, whatever the memory format of the network (`channels_last`), and fused kernels refuse
    moments whose strides differ from those of their parameter: each tensor of the state gets the strides of its parameter.
    """
    own = [{key: group[key] for key in KERNELS if key in group} for group in optimizer.param_groups]
    groups = [{**saved, **kernels} for saved, kernels in zip(state["param_groups"], own, strict=True)]
    optimizer.load_state_dict({**state, "param_groups": groups})
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                kept[name] = torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)
