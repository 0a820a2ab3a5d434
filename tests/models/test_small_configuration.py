"""The small configuration: what it is, what it costs, and that it learns."""

from dataclasses import replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from models import BackboneConfig, ModelConfig, OutputSpec, SmallCnnConfig, build_model
from tests.support.configurations import load_config, random_images, random_targets


def test_the_file_states_the_defaults() -> None:
    assert load_config("satrn_small") == ModelConfig()


def test_cost_of_one_image() -> None:
    spec = OutputSpec(num_classes=80, bos_id=0, eos_id=1, pad_id=2, max_length=64)
    model = build_model(load_config("satrn_small"), spec).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_000_000
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(random_images(model, 1, width=256), random_targets(1, 40, spec=spec))
    multiply_adds = counter.get_total_flops() / 2
    assert 0.1e9 < multiply_adds < 0.2e9


def test_memorizes_digit_strings() -> None:
    """100 % exact match, decoded greedily, on the strings it was trained on: of several lengths, so EOS is learned too."""
    torch.manual_seed(0)
    strings = ["305", "41", "7726", "9", "88", "1503", "264", "059"]
    spec = OutputSpec(num_classes=13, bos_id=0, eos_id=1, pad_id=2, max_length=6)
    small = ModelConfig()
    config = replace(
        small,
        backbone=BackboneConfig(small_cnn=SmallCnnConfig(width=8)),
        encoder=replace(small.encoder, embed_dim=32, mlp_dim=64),
        decoder=replace(small.decoder, embed_dim=32, mlp_dim=64),
    )
    model = build_model(config, spec).train()
    images = torch.from_numpy(np.stack([draw(string) for string in strings])[:, None])
    tgt = torch.full((len(strings), 6), spec.pad_id)
    for row, string in enumerate(strings):
        tgt[row, : len(string) + 2] = torch.tensor([spec.bos_id, *[int(digit) + 3 for digit in string], spec.eos_id])
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(120):
        loss = F.cross_entropy(model(images, tgt[:, :-1]).logits.flatten(0, 1), tgt[:, 1:].flatten(), ignore_index=spec.pad_id)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    generation = model.eval().generate(images)
    decoded = [
        "".join(str(token - 3) for token in row[:length])
        for row, length in zip(generation.token_ids.tolist(), generation.lengths.tolist(), strict=True)
    ]
    assert decoded == strings


def draw(string: str) -> np.ndarray:
    """A string on white paper, (32, 64) uint8."""
    paper = np.full((32, 64), 255, np.uint8)
    cv2.putText(paper, string, (2, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 0, 1, cv2.LINE_AA)
    return paper
