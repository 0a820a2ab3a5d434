"""The recognizer: a network from images to token sequences.

Legend: B batch, C channels, H W height and width in pixels, h w height and width of the feature map, T target positions,
V vocabulary.
"""

import torch
from torch import Tensor, nn

from models.backbones import build_backbone
from models.checks import check_at_least, check_finite, check_spec, lookup
from models.config import ModelConfig
from models.decoders import build_decoder
from models.decoders.directions import DIRECTIONS
from models.decoding import Decoding, decode
from models.encoders import build_encoder
from models.errors import ModelConfigError
from models.heads import build_head
from models.inputs import check_images, check_sampled, check_targets
from models.layers.normalization import PixelNormalize
from models.layers.padding import area_mask, clamp_sizes
from models.layers.repulsion import REPULSIONS, check_repulsion
from models.rectifiers import build_rectifier
from models.types import Generation, Memory, ModelOutput, OutputSpec, SampledTokens


class Recognizer(nn.Module):
    """Network (rectifier) → backbone → encoder → decoder and CTC head, with auxiliary heads for training."""

    def __init__(self, config: ModelConfig, output_spec: OutputSpec) -> None:
        super().__init__()
        check_spec(output_spec)
        check_at_least(1, config.in_channels, "model.in_channels")
        check_finite(config.pixel_mean, "model.pixel_mean")
        check_finite(config.pixel_std, "model.pixel_std")
        if config.pixel_std == 0:
            raise ModelConfigError("model.pixel_std", "must not be 0")
        if config.decoder.name == "none" and config.ctc.head == "none":
            raise ModelConfigError("model.decoder.name", "none, and model.ctc.head is none as well; configure one of them")
        self.output_spec = output_spec
        self.in_channels = config.in_channels
        self.normalize = PixelNormalize(config.pixel_mean, config.pixel_std)
        self.rectifier = build_rectifier(config.rectifier, config.in_channels)
        self.encoder = build_encoder(config.encoder)
        self.backbone = build_backbone(config.backbone, config.in_channels, config.encoder.embed_dim)
        self.decoder = build_decoder(config.decoder, self.encoder.out_dim, output_spec)
        self.ctc = build_head("ctc", config.ctc, self.encoder.out_dim, output_spec)
        self.counting = build_head("counting", config.counting, self.encoder.out_dim, output_spec)
        self.structure = build_head("structure", config.structure, self.decoder.out_dim, output_spec)
        self.directions = lookup(DIRECTIONS, config.decoder.direction, "model.decoder.direction")
        self.repulsion = lookup(REPULSIONS, config.repulsion, "model.repulsion")
        check_repulsion(config.repulsion, self)

    def forward(
        self, images: Tensor, tgt_in: Tensor, sizes: Tensor | None = None, sampled: SampledTokens | None = None
    ) -> ModelOutput:
        """Computes the outputs of every head with teacher forcing, or with predictions at the `sampled` positions.

        Images uint8 (B, C, H, W), from 1x1 pixels; `tgt_in` int64 (B, T), BOS first, PAD last; `sizes` int64 (B, 2): the
        true (height, width) in pixels of each image, which lies in the upper left of the padded batch; None where no image
        is padded.

        Raises:
            ModelConfigError: images or targets that this model cannot take.
        """
        memory = self.encode(images, sizes)
        check_targets(tgt_in, len(images), self.output_spec)
        check_sampled(sampled, tgt_in)
        logits, reverse_logits, hidden = self.directions(self.decoder, tgt_in, memory, self.output_spec, sampled)
        ctc_logits, ctc_lengths = self.ctc(memory)
        counts, levels = self.counting(memory), self.structure(hidden)
        return ModelOutput(logits, reverse_logits, ctc_logits, ctc_lengths, self.repulsion(self), counts, levels)

    @torch.inference_mode()
    def generate(self, images: Tensor, decoding: Decoding | None = None, sizes: Tensor | None = None) -> Generation:
        """Decodes images uint8 (B, C, H, W) of the given `sizes`, in evaluation mode.

        Raises:
            ModelConfigError: images that this model cannot take, or a decoding method that needs a head that it lacks.
        """
        return decode(self, self.encode(images, sizes), decoding or Decoding())

    def encode(self, images: Tensor, sizes: Tensor | None = None) -> Memory:
        """Encodes images uint8 (B, C, H, W) of the given `sizes` (B, 2), clamped to 1x1 to H x W, to the memory.

        Where `backbone.masks_padding`, an image has the same memory alone and in a padded batch.
        """
        check_images(images, sizes, self.in_channels)
        if sizes is not None:
            sizes = clamp_sizes(sizes, (1, 1), (images.shape[-2], images.shape[-1]))
        images = images.expand(-1, self.in_channels, -1, -1)  # a gray image serves all channels
        features = self.backbone(self.rectifier(self.normalize(images), sizes), sizes)
        if sizes is None:
            return self.encoder(features)
        return self.encoder(features, area_mask(self.backbone.feature_sizes(sizes), features.shape[-2], features.shape[-1]))


def build_model(config: ModelConfig, output_spec: OutputSpec) -> Recognizer:
    """Builds the recognizer of a configuration. Raises ModelConfigError naming the config key that is invalid."""
    return Recognizer(config, output_spec)
