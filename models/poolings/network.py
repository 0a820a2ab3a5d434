"""The pooling that a network has itself."""

from torch import nn

from models.classifier_config import PoolingConfig


class NetworkPooling(nn.Identity):
    """No pooling outside of the network, which pools in its own way: `TimmClassifierBackbone.finish`."""

    def __init__(self, config: PoolingConfig, channels: int) -> None:
        super().__init__()
