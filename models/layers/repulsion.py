"""Keeping attention heads apart (An et al. 2020, "Repulsive Attention: Rethinking Multi-head Attention as Bayesian Inference").

Legend: N heads, P parameters of a head.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.choices import choose
from models.config import Repulsion
from models.encoders.attention import SeparateProjections, SharedProjection
from models.errors import ModelConfigError
from models.layers.attention import MultiHeadAttention

KEY = "model.repulsion"


def no_repulsion(model: nn.Module) -> None:
    """Off."""
    return None


def head_repulsion(model: nn.Module) -> Tensor:
    """How much alike the heads of each attention of a model are, a scalar in [0, 1]: `likeness`, mean over attentions.

    Raises:
        ModelConfigError: no attention of the model has two heads.
    """
    found = [likeness(heads) for heads in map(_head_parameters, model.modules()) if heads is not None and len(heads) > 1]
    if not found:
        raise ModelConfigError(KEY, "heads, but no attention of this model has two heads to tell apart; set it to none")
    return torch.stack(found).mean()


def likeness(heads: Tensor) -> Tensor:
    """Mean over all pairs of heads (N, P) of the kernel exp(-distance² / bandwidth).

    1 where all heads are equal, 1 / N where they have nothing in common (are orthogonal), less where they are opposed.

    The bandwidth follows the median heuristic, median distance² / log N (Liu and Wang 2016), with the distances that
    heads of these lengths would have if they were orthogonal, as heads at random nearly are. The median of the distances
    themselves, which the paper takes, would move with the heads: the kernel would stay as it is however far apart they
    were driven. To the gradient the bandwidth is a constant, so a step against it always widens the distances.
    """
    heads = heads.float()
    squares = F.pdist(heads).square()
    lengths = heads.detach().square().sum(1)
    one, other = torch.triu_indices(len(heads), len(heads), 1, device=heads.device)
    bandwidth = (lengths[one] + lengths[other]).median() / math.log(len(heads))
    return torch.exp(-squares / bandwidth.clamp(min=torch.finfo(torch.float32).tiny)).mean()


def _head_parameters(module: nn.Module) -> Tensor | None:
    """The weights of queries, keys and values of each head (N, P) where `module` is what projects them, else None."""
    if isinstance(module, SharedProjection | SeparateProjections):
        return module.head_parameters()
    if isinstance(module, MultiHeadAttention):
        maps = (module.query, module.key, module.value)
        return torch.cat([linear.weight.unflatten(0, (module.num_heads, -1)).flatten(1) for linear in maps], 1)
    return None


REPULSIONS: dict[Repulsion, Callable[[nn.Module], Tensor | None]] = {"none": no_repulsion, "heads": head_repulsion}


@torch.no_grad()
def check_repulsion(name: Repulsion, model: nn.Module) -> None:
    """Raises ModelConfigError where `name` is unknown or `model` has nothing to repel."""
    choose(REPULSIONS, name, KEY)(model)
