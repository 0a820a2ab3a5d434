"""A bidirectional LSTM over the feature map (Graves and Schmidhuber 2005; on convolutions, CRNN, Shi et al. 2017).

Legend: B batch, D width, L width of one direction, h w height and width of the feature map, S = h * w.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.checks import lookup
from models.config import EncoderConfig, SequenceNorm
from models.encoders.base import Encoder
from models.layers.positions import build_position
from models.types import Memory

KEY = "model.encoder.bilstm"


def _no_norm(dim: int) -> nn.Module:
    return nn.Identity()


SEQUENCE_NORMS: dict[SequenceNorm, Callable[[int], nn.Module]] = {"none": _no_norm, "layer": nn.LayerNorm}


class BiLstmEncoder(Encoder):
    """Bidirectional LSTM over the positions of the feature map, row by row, after position encoding."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        settings = config.bilstm
        self.embed_dim = config.embed_dim
        self.out_dim = 2 * settings.hidden_dim
        self.position = build_position(config)
        self.lstm = nn.LSTM(config.embed_dim, settings.hidden_dim, settings.depth, batch_first=True, bidirectional=True)
        self.norm = lookup(SEQUENCE_NORMS, settings.norm, f"{KEY}.norm")(self.out_dim)
        self.drop = nn.Dropout(settings.drop_rate)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Memory:
        """Features (B, D, h, w) and `mask` (B, h, w), True on the image, to the memory, 2 * L wide."""
        height, width = features.shape[-2:]
        x = self.position(features, mask).flatten(2).transpose(1, 2)
        valid = None if mask is None else mask.flatten(1)
        x = self.lstm(x)[0] if valid is None else self._packed(x, valid)
        return Memory(self.drop(self.norm(x)), valid, (height, width))

    def _packed(self, x: Tensor, valid: Tensor) -> Tensor:
        """Runs the LSTM over the `valid` (B, S) positions only: (B, S, D) to (B, S, 2 * L)."""
        # A stable sort moves them to the front in order; the rest is not read and gives 0.
        order = valid.logical_not().byte().argsort(dim=1, stable=True)
        x = x.take_along_dim(order[:, :, None], 1)
        packed = pack_padded_sequence(x, valid.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        x, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])
        return x.take_along_dim(order.argsort(1)[:, :, None], 1)
