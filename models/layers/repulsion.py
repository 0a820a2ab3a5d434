"""Repulsion of attention heads (An et al. 2020, "Repulsive Attention: Rethinking Multi-head Attention as Bayesian Inference").

Legend: N heads, P parameters of a head.
"""

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.checks import lookup
from models.config import Repulsion
from models.errors import ModelConfigError

KEY = "model.repulsion"


@runtime_checkable
class HeadProjection(Protocol):
    """Module that computes the queries, keys and values of attention heads."""

    def head_parameters(self) -> Tensor:
        """All weights behind the queries, keys and values of each head: (N, P)."""


def no_repulsion(model: nn.Module) -> None:
    """Returns None: no term of the loss."""
    return None


def head_repulsion(model: nn.Module) -> Tensor:
    """Similarity of the heads of each attention of a model, a scalar in [0, 1]: `kernel_similarity`, mean over attentions.

    Raises:
        ModelConfigError: no attention of the model has two heads.
    """
    heads = [module.head_parameters() for module in model.modules() if isinstance(module, HeadProjection)]
    similarities = [kernel_similarity(weights) for weights in heads if len(weights) > 1]
    if not similarities:
        raise ModelConfigError(KEY, "heads, but no attention of this model has two heads to repel; set it to none")
    return torch.stack(similarities).mean()


def kernel_similarity(heads: Tensor) -> Tensor:
    """Mean over all pairs of heads (N, P) of the kernel exp(-distance² / bandwidth).

    1 where all heads are equal, 1 / N where they are orthogonal, less where they are opposed.

    The bandwidth follows the median heuristic, median distance² / log N (Liu and Wang 2016), with the distances that
    heads of these lengths would have if they were orthogonal, as random heads nearly are. The median of the actual
    distances, which the paper uses, would move with the heads: the kernel would stay the same however far apart they
    were driven. The bandwidth is a constant to the gradient, so a step against it always widens the distances.
    """
    heads = heads.float()
    squares = F.pdist(heads).square()
    lengths = heads.detach().square().sum(1)
    first, second = torch.triu_indices(len(heads), len(heads), 1, device=heads.device)
    bandwidth = (lengths[first] + lengths[second]).median() / math.log(len(heads))
    return torch.exp(-squares / bandwidth.clamp(min=torch.finfo(torch.float32).tiny)).mean()


REPULSIONS: dict[Repulsion, Callable[[nn.Module], Tensor | None]] = {"none": no_repulsion, "heads": head_repulsion}


@torch.no_grad()
def check_repulsion(name: Repulsion, model: nn.Module) -> None:
    """Raises ModelConfigError where `name` is unknown or `model` has no heads to repel."""
    lookup(REPULSIONS, name, KEY)(model)
