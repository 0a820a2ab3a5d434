"""Numbers of a step: half precision where the device is good at it, recomputed activations, compiled kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from cluster.errors import UserError
from models import Classifier, ModelConfigError
from models.decoders.refinement import CoverageAttention
from models.layers.recomputation import count_batches_once
from trainers.config.compute import Precision


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The type of the forward pass: as configured, or what the device is good at (fp16 on V100, bf16 on later GPUs)."""
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    types = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return types[precision]


def set_float32_products(precision: Precision) -> None:
    """Have products and convolutions of float32 in this process computed in full precision, or in TF32 with `tf32`.

    torch alone would take TF32 for convolutions and not for products, whatever `fp32` promises.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


def enable_gradient_checkpointing(network: nn.Module) -> int:
    """Have the backbone and every layer of encoder and decoder compute its activations again in the backward pass
    (Chen et al. 2016); gradients stay the same. Returns how many parts do so.

    Not the layers of a decoder whose attention is refined: each of them looks at what those before it attended to, so that
    it cannot be run again by itself.

    Raises:
        UserError: a classifier's network cannot.
    """
    if isinstance(network, Classifier):
        try:
            return network.checkpoint_gradients()
        except ModelConfigError as error:
            raise UserError(f"compute.gradient_checkpointing: {error}.") from None
    parts: list[Any] = [network.backbone]
    decoder: Any = network.decoder
    for part in (network.encoder, None if isinstance(getattr(decoder, "refiner", None), CoverageAttention) else decoder):
        layers = getattr(part, "layers", None)
        parts += list(layers) if isinstance(layers, nn.ModuleList) else []
    for part in parts:
        part.forward = _Recomputed(part.forward)
    count_batches_once(network)
    return len(parts)


@dataclass
class _Recomputed:
    """A forward pass that keeps its inputs only. A class, not a closure: a copy of the module copies the method with it."""

    forward: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.forward(*args, **kwargs)
        # Non-reentrant: parameters without a graph through their inputs (the first layer's are images) keep their gradients,
        # and DDP sees each once. The state of random numbers is kept, so dropout draws the same again.
        return checkpoint(self.forward, *args, use_reentrant=False, **kwargs)


def try_compile(network: nn.Module, device: torch.device) -> str:
    """Compile the training pass of `network` in place; returns why that cannot be done here, or nothing.

    That it compiles at all is found out on a small function: Triton no longer serves old GPUs (V100, sm_70), and a CPU needs a
    C++ compiler. Sizes that vary from batch to batch become symbols when torch meets them.
    """
    try:
        with torch._dynamo.config.patch(suppress_errors=False):  # as a run before this one in the process left it
            torch.compile(lambda x: torch.relu(x) * 2 + 1)(torch.ones(8, device=device))
    except Exception as error:
        reason = str(error).strip().splitlines()
        return f"compute.compile is left out: this device cannot ({reason[0][:200] if reason else type(error).__name__})."
    torch._dynamo.config.suppress_errors = True  # a part that cannot be compiled runs as it is, and torch says so
    network.compile()
    return ""
