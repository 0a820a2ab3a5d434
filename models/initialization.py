"""Initialisation of the linear maps and embeddings of a transformer; convolutions and norms keep their own."""

from collections.abc import Callable

from torch import nn

from models.config import Initialization


def _keep_default(module: nn.Module) -> None:
    """Torch's own."""


def _normal(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding):
        # The decoder multiplies embeddings by sqrt(width), which makes them of variance 1.
        nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)


INITIALIZERS: dict[Initialization, Callable[[nn.Module], None]] = {
    "default": _keep_default,
    "normal": _normal,
    "xavier": _xavier,
}
