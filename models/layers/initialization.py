"""Initialization schemes of linear maps and embeddings; norms keep their default."""

from collections.abc import Callable

from torch import nn

from models.config import Initialization


def _keep_default(module: nn.Module) -> None:
    """Keeps PyTorch's initialization."""


def _kaiming(module: nn.Module) -> None:
    """Kaiming uniform for layers before a ReLU (He et al. 2015), convolutions included."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.kaiming_uniform_(module.weight, mode="fan_in", nonlinearity="relu")
        _zero_bias(module)
    _unit_embedding(module)


def _normal(module: nn.Module) -> None:
    """Normal of deviation 0.02; convolutions keep their default."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        _zero_bias(module)


def _xavier(module: nn.Module) -> None:
    """Xavier uniform (Glorot and Bengio 2010); convolutions keep their default."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        _zero_bias(module)
    _unit_embedding(module)


def _zero_bias(module: nn.Linear | nn.Conv2d) -> None:
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _unit_embedding(module: nn.Module) -> None:
    if isinstance(module, nn.Embedding):
        # A transformer decoder multiplies embeddings by sqrt(width), which gives them variance 1.
        nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)


INITIALIZERS: dict[Initialization, Callable[[nn.Module], None]] = {
    "default": _keep_default,
    "kaiming": _kaiming,
    "normal": _normal,
    "xavier": _xavier,
}
