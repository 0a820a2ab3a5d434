"""Table of activations by config name."""

from collections.abc import Callable
from functools import partial

from torch import nn

from models.config import Activation

ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": partial(nn.LeakyReLU, 0.2),
    "gelu": nn.GELU,
}
