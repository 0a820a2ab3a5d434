"""Image to token sequence.

Legend: B batch, C channels, H W height and width in pixels, h w height and width of the feature map, S = h * w source
positions, T target positions, D width of the encoder, V vocabulary.
"""

import torch
from torch import Tensor, nn

from models.backbones import build_backbone
from models.config import ModelConfig
from models.decoders import build_decoder
from models.decoding import Decoding, Generation, greedy_decode
from models.encoders import build_encoder
from models.errors import ModelConfigError
from models.normalization import PixelNormalize
from models.padding import column_mask
from models.spec import OutputSpec


class Recognizer(nn.Module):
    """backbone → encoder → decoder."""

    def __init__(self, config: ModelConfig, output_spec: OutputSpec) -> None:
        super().__init__()
        if config.pixel_std == 0:
            raise ModelConfigError("model.pixel_std", "must not be 0")
        self.output_spec = output_spec
        self.in_channels = config.in_channels
        self.normalize = PixelNormalize(config.pixel_mean, config.pixel_std)
        self.encoder = build_encoder(config.encoder)
        self.backbone = build_backbone(config.backbone, config.in_channels, config.encoder.embed_dim)
        self.decoder = build_decoder(config.decoder, config.encoder.embed_dim, output_spec)

    def forward(self, images: Tensor, tgt_in: Tensor, widths: Tensor | None = None) -> Tensor:
        """Teacher-forced logits (B, T, V).

        Images uint8 (B, C, H, W); `tgt_in` int64 (B, T), BOS first, PAD last; `widths` int64 (B,): each image's true
        width in pixels inside the padded batch, None where all are as wide as the batch.
        """
        if tgt_in.shape[1] > self.output_spec.max_length:
            raise ModelConfigError(
                "output_spec.max_length",
                f"a target of {tgt_in.shape[1]} tokens is longer than the model's {self.output_spec.max_length}",
            )
        memory, memory_mask, _ = self.encode(images, widths)
        return self.decoder(tgt_in, memory, memory_mask)

    @torch.inference_mode()
    def generate(self, images: Tensor, decoding: Decoding | None = None, widths: Tensor | None = None) -> Generation:
        """Decodes images uint8 (B, C, H, W) of the given `widths`; the caller has called `eval()`."""
        memory, memory_mask, size = self.encode(images, widths)
        return greedy_decode(self.decoder, memory, memory_mask, size, decoding or Decoding(), self.output_spec)

    def encode(self, images: Tensor, widths: Tensor | None = None) -> tuple[Tensor, Tensor | None, tuple[int, int]]:
        """Memory (B, S, D), its mask (B, S), True on image, or None, and the size (h, w) of its map."""
        self._check(images)
        images = images.expand(-1, self.in_channels, -1, -1)  # gray may stand for all channels
        features = self.backbone(self.normalize(images), widths)
        height, width = features.shape[-2:]
        columns = column_mask(widths, width, self.backbone.stride)
        if columns is None:
            return self.encoder(features, None), None, (height, width)
        mask = columns[:, None].expand(-1, height, -1)
        return self.encoder(features, mask), mask.flatten(1), (height, width)

    def _check(self, images: Tensor) -> None:
        if images.dtype != torch.uint8:
            raise TypeError(f"images must be uint8, 0 to 255, not {images.dtype}: the model normalises them itself")
        if images.shape[1] not in (1, self.in_channels):
            raise ModelConfigError("model.in_channels", f"{self.in_channels}, but the images have {images.shape[1]} channels")
        stride = self.backbone.stride
        if min(images.shape[-2:]) < stride:
            raise ModelConfigError(
                "model.backbone.name",
                f"images of {images.shape[-2]}x{images.shape[-1]} pixels (H x W) are smaller than the stride {stride} "
                "of the backbone; use larger images or another backbone",
            )


def build_model(config: ModelConfig, output_spec: OutputSpec) -> Recognizer:
    """The recognizer of a configuration. Raises ModelConfigError naming the config key that cannot be served."""
    return Recognizer(config, output_spec)
