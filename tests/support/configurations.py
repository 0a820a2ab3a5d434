"""Tiny configurations with the structure of the shipped ones, and batches to feed them."""

import copy
import functools
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from models import ModelConfig, OutputSpec, Recognizer, build_model
from models.presets import load_named

SPEC = OutputSpec(num_classes=13, bos_id=0, eos_id=1, pad_id=2, max_length=12, open_ids=(3,), close_ids=(4,))
HEIGHT, WIDTH = 64, 128


@functools.cache
def _loaded(name: str) -> ModelConfig:
    return load_named(name).config


def load_config(name: str) -> ModelConfig:
    """A shipped configuration, as a copy: reading the YAML takes longer than building the shrunken model."""
    return copy.deepcopy(_loaded(name))


def shrink(config: ModelConfig) -> ModelConfig:
    """The same structure, a few thousand parameters."""
    backbone, encoder, decoder = config.backbone, config.encoder, config.decoder
    return replace(
        config,
        backbone=replace(
            backbone,
            # ASTER's own has one size, too large for many tests; tests.support.switches tries it.
            name="small_cnn" if backbone.name == "aster_cnn" else backbone.name,
            small_cnn=replace(backbone.small_cnn, width=4),
            timm=replace(backbone.timm, name="test_resnet", neck_channels=backbone.timm.neck_channels and 24),
            densenet=replace(backbone.densenet, stem_channels=8, depth=2, growth=4, bottleneck=8),
            resnetv2=replace(backbone.resnetv2, depths=[1, 1, 1]),
            swin=replace(backbone.swin, options={"embed_dim": 16, "depths": [1, 2, 1, 1], "num_heads": [1, 2, 4, 8]}),
        ),
        encoder=replace(
            encoder,
            embed_dim=16,
            depth=2,
            num_heads=4,
            head_dim=encoder.head_dim and 3,
            mlp_dim=24,
            position_columns=max(encoder.position_columns, 40),
            bilstm=replace(encoder.bilstm, hidden_dim=12),
        ),
        decoder=replace(
            decoder,
            embed_dim=16,
            depth=1 if decoder.name == "rnn" else 2,
            num_heads=4,
            head_dim=decoder.head_dim and 8,
            mlp_dim=24,
            refinement_channels=4,
            rnn=replace(decoder.rnn, hidden_dim=16, attention_dim=12),
        ),
    )


def named(name: str) -> Callable[[], ModelConfig]:
    """Makes the shrunken structure of a shipped configuration."""
    return lambda: shrink(load_config(name))


TINY: dict[str, Callable[[], ModelConfig]] = {
    name: named(f"satrn_{name}" if name in ("small", "final") else name)
    for name in ("small", "final", "aster", "aster_blstm", "satrn_baseline", "satrn_rezero", "vit", "seq2seq_light", "comer")
}


def tiny_small() -> ModelConfig:
    """The structure of the small configuration."""
    return TINY["small"]()


def tiny_final() -> ModelConfig:
    """The structure of the final configuration, with a small network of timm's."""
    return TINY["final"]()


def tiny_model(structure: str, seed: int = 0, spec: OutputSpec = SPEC) -> Recognizer:
    """`lively_model` of a structure of TINY."""
    return lively_model(TINY[structure](), seed, spec)


def lively_model(config: ModelConfig, seed: int = 0, spec: OutputSpec = SPEC) -> Recognizer:
    """A model in evaluation mode, its weights large enough for tokens to differ between steps and images."""
    torch.manual_seed(seed)
    return enliven(build_model(config, spec), seed)


def enliven(model: Recognizer, seed: int = 0) -> Recognizer:
    """The model in evaluation mode, with weights as large as `lively_model` has them."""
    with torch.no_grad():
        for module in model.backbone.modules():
            if isinstance(module, nn.Conv2d):  # what torch starts with, and no norm behind it, leaves little of an image
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        for parameter in [*model.encoder.parameters(), *model.decoder.parameters(), *model.ctc.parameters()]:
            if parameter.dim() > 1:
                parameter.normal_(std=0.3 if parameter.shape[-1] < 100 else 0.1)
            elif parameter.numel() == 1:  # the scalar of ReZero, which starts at 0
                parameter.fill_(0.3)
        if any("running_" in name for name, _ in model.named_buffers()):
            model.train()
            for _ in range(4):  # batch statistics that have left their initial values
                model(random_images(model, 2, seed), random_targets(2, 4, seed, model.output_spec))
    return model.eval()


def random_images(model: Recognizer, batch: int, seed: int = 0, width: int = WIDTH) -> Tensor:
    """Images of gray blocks uint8 (batch, C, 64, width)."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 256, (batch, model.in_channels, 4, 8), dtype=torch.uint8, generator=generator)
    return blocks.repeat_interleave(HEIGHT // 4, 2).repeat_interleave(-(-width // 8), 3)[..., :width]


def random_targets(batch: int, length: int, seed: int = 0, spec: OutputSpec = SPEC) -> Tensor:
    """BOS and random tokens that are not special (batch, length)."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, spec.num_classes, (batch, length), generator=generator)
    tokens[:, 0] = spec.bos_id
    return tokens
