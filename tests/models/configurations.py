"""Tiny configurations with the structure of the shipped ones, and batches to feed them."""

from dataclasses import replace
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor

from models import (
    BackboneConfig,
    ModelConfig,
    OutputSpec,
    Recognizer,
    SmallCnnConfig,
    TimmConfig,
    build_model,
)

CONFIGS = Path(__file__).parents[2] / "configs" / "model"
SPEC = OutputSpec(num_classes=13, bos_id=0, eos_id=1, pad_id=2, max_length=12)


def load_config(name: str) -> ModelConfig:
    """A shipped configuration, merged and typed as the trainers do it."""
    merged = OmegaConf.merge(OmegaConf.structured(ModelConfig), OmegaConf.load(CONFIGS / f"{name}.yaml"))
    config = OmegaConf.to_object(merged)
    assert isinstance(config, ModelConfig)
    return config


def tiny_small() -> ModelConfig:
    """The structure of the small configuration."""
    small = ModelConfig()
    return replace(
        small,
        backbone=BackboneConfig(small_cnn=SmallCnnConfig(width=4)),
        encoder=replace(small.encoder, embed_dim=16, depth=2, mlp_dim=24),
        decoder=replace(small.decoder, embed_dim=16, mlp_dim=24),
    )


def tiny_final() -> ModelConfig:
    """The structure of the final configuration, with a small network of timm's."""
    final = load_config("satrn_final")
    return replace(
        final,
        backbone=BackboneConfig(name="timm", timm=TimmConfig(name="test_resnet", neck_channels=24)),
        encoder=replace(final.encoder, embed_dim=16, depth=2, num_heads=4, mlp_dim=24),
        decoder=replace(final.decoder, embed_dim=32, depth=2, num_heads=4, mlp_dim=24),
    )


TINY = {"small": tiny_small, "final": tiny_final}


def tiny_model(structure: str, seed: int = 0, spec: OutputSpec = SPEC) -> Recognizer:
    """A tiny model in evaluation mode, its weights large enough for tokens to differ between steps and images."""
    torch.manual_seed(seed)
    model = build_model(TINY[structure](), spec).train()
    with torch.no_grad():
        for parameter in [*model.encoder.parameters(), *model.decoder.parameters()]:
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
        for _ in range(8):  # batch statistics that have left their initial values
            model.encode(random_images(model, 8, seed))
    return model.eval()


def random_images(model: Recognizer, batch: int, seed: int = 0, width: int = 96) -> Tensor:
    """Images of gray blocks uint8 (batch, C, 64, width)."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 256, (batch, model.in_channels, 4, 6), dtype=torch.uint8, generator=generator)
    return blocks.repeat_interleave(16, 2).repeat_interleave(-(-width // 6), 3)[..., :width]


def random_targets(batch: int, length: int, seed: int = 0, spec: OutputSpec = SPEC) -> Tensor:
    """BOS and random tokens (batch, length)."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, spec.num_classes, (batch, length), generator=generator)
    tokens[:, 0] = spec.bos_id
    return tokens
