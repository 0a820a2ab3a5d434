"""The final SATRN of the source system, to the parameter. The one test that builds ResNetRS152."""

from typing import cast

import pytest
import torch
from torch import nn

from models import OutputSpec, build_model
from tests.support.configurations import load_config, random_targets


def count(module: nn.Module | torch.Tensor) -> int:
    """Number of parameters."""
    assert isinstance(module, nn.Module)
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.slow  # test_named_configurations counts the same network part by part, without memory for it
def test_final_configuration() -> None:
    spec = OutputSpec(num_classes=245, bos_id=0, eos_id=1, pad_id=2, max_length=231)
    model = build_model(load_config("satrn_final"), spec).eval()
    assert count(model.backbone.net) == 84_572_576
    assert count(model.backbone) == 86_938_016
    assert count(model.encoder.position) == 296_192
    assert [count(layer) for layer in cast(nn.ModuleList, model.encoder.layers)] == [2_624_256] * 6
    assert count(model.backbone) + count(model.encoder) == 102_979_744
    assert [count(layer) for layer in cast(nn.ModuleList, model.decoder.layers)] == [297_344] * 3
    assert count(model.decoder) == 955_125
    assert count(model) == 103_934_869
    images = torch.randint(0, 256, (1, 3, 128, 512), dtype=torch.uint8)
    with torch.inference_mode():
        memory = model.encode(images)
        assert memory.size == (4, 16)
        assert memory.tokens.shape == (1, 64, 256)
        logits = model.decoder(random_targets(1, 5, spec=spec), memory)
    assert logits.shape == (1, 5, 245)
    assert logits.isfinite().all()
