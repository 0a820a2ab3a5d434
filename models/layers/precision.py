"""Leaving autocast for what needs the range of float32."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def no_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Inside, nothing is cast to half precision; the meta device knows no autocast to leave."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
