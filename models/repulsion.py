"""Keeping attention heads apart."""

from collections.abc import Callable

from torch import Tensor, nn

from models.config import Repulsion


def no_repulsion(model: nn.Module) -> None:
    """Off."""
    return None


REPULSIONS: dict[Repulsion, Callable[[nn.Module], Tensor | None]] = {"none": no_repulsion}
