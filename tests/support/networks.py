"""Small real recognizers, and a loss to train them by."""

from __future__ import annotations

import torch
from torch import Tensor

from models import OutputSpec, Recognizer, build_model
from tests.support.overrides import KINDS, SMALL
from trainers.config.load import load_config

SPEC = OutputSpec(num_classes=10, bos_id=0, eos_id=1, pad_id=2, max_length=12)


def recognizer(kind: str = "small", *overrides: str) -> Recognizer:
    """One of KINDS, always with the same weights."""
    torch.manual_seed(0)
    return build_model(load_config(None, [*SMALL, *KINDS[kind], *overrides]).model, SPEC)


def images(seed: int = 0, count: int = 3) -> Tensor:
    """uint8 (count, 1, 64, 64)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, 64, 64), generator=generator, dtype=torch.uint8)


def loss_of(network: Recognizer, seed: int = 0) -> Tensor:
    """Of every head, on random images and the same short text."""
    torch.manual_seed(seed)  # of the dropout
    output = network(images(seed), torch.tensor([[0, 3, 4, 5]] * 3), torch.tensor([[64, 64], [40, 48], [64, 64]]))
    heads = [head for head in (output.logits, output.reverse_logits, output.ctc_logits) if head is not None]
    return torch.stack([head.log_softmax(-1)[..., 3].mean().neg() for head in heads]).sum()


def weights_of(network: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def moved(network: torch.nn.Module, before: dict[str, Tensor]) -> set[str]:
    """The names of what is not as in `before`."""
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
