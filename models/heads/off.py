"""The placeholder of a head that is off."""

from typing import Any

from torch import nn

from models.types import OutputSpec


class NoHead(nn.Module):
    """Head without parameters that returns None for each of the `outputs` of the head that it stands for."""

    def __init__(self, config: Any, input_dim: int, output_spec: OutputSpec, outputs: int = 1) -> None:
        super().__init__()
        self.result = None if outputs == 1 else (None,) * outputs

    def forward(self, inputs: Any) -> tuple[None, ...] | None:
        """None, or a tuple of them."""
        return self.result
