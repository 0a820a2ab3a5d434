"""Determinism, half precision, channels, sizes."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from models import ModelConfig, OutputSpec, build_model
from models.summary.measure import total_loss
from tests.support.claims import claim
from tests.support.configurations import SPEC, TINY, random_images, random_targets, tiny_final, tiny_small


@pytest.mark.parametrize("structure", TINY)
def test_autocast(structure: str) -> None:
    torch.manual_seed(0)
    model = build_model(TINY[structure](), SPEC).eval()
    images, tgt = random_images(model, 2), random_targets(2, 6)
    sizes = torch.tensor([[64, 128], [40, 72]])
    exact = model(images, tgt, sizes).logits
    for dtype in (torch.bfloat16, torch.float16):
        with claim(f"evaluation in {dtype}"):
            with torch.autocast("cpu", dtype=dtype):
                logits = model(images, tgt, sizes).logits
                generation = model.generate(images, sizes=sizes)
            assert logits.isfinite().all() and generation.log_probs.isfinite().all()
            torch.testing.assert_close(logits.float(), exact, rtol=0.1, atol=0.1)
    for dtype in (torch.bfloat16, torch.float16):
        with claim(f"gradients in {dtype}"):
            model.zero_grad()
            with torch.autocast("cpu", dtype=dtype):
                total_loss(model.train()(images, tgt, sizes), tgt).backward()
            assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("structure", TINY)
def test_same_seed_same_losses(structure: str) -> None:
    def losses() -> list[float]:
        torch.manual_seed(7)
        model = build_model(TINY[structure](), SPEC).train()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        images, tgt = random_images(model, 2), random_targets(2, 6)
        found = []
        for _ in range(2):
            loss = total_loss(model(images, tgt), tgt)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    first = losses()
    assert first == losses()
    assert len(set(first)) == 2


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("make", [tiny_small, tiny_final])
def test_any_number_of_channels(make: Callable[[], ModelConfig], channels: int) -> None:
    model = build_model(replace(make(), in_channels=channels), SPEC).eval()
    images = torch.zeros(2, channels, 64, 64, dtype=torch.uint8)
    assert model(images, random_targets(2, 4)).logits.shape == (2, 4, SPEC.num_classes)


def test_white_paper_enters_the_small_network_as_zero_and_ink_as_positive() -> None:
    model = build_model(tiny_small(), SPEC)
    pixels = torch.tensor([255, 128, 0], dtype=torch.uint8).view(1, 1, 1, 3)
    white, gray, black = model.normalize(pixels).flatten().tolist()
    assert white == pytest.approx(0, abs=1e-6)
    assert 0 < gray < black


def test_pad_in_the_target_changes_nothing_before_it() -> None:
    model = build_model(tiny_small(), SPEC).eval()
    images, tgt = random_images(model, 2), random_targets(2, 6)
    padded = torch.cat([tgt, torch.full((2, 3), SPEC.pad_id)], 1)
    torch.testing.assert_close(model(images, padded).logits[:, :6], model(images, tgt).logits, rtol=1e-5, atol=1e-5)


def test_logits_have_no_special_size() -> None:
    model = build_model(tiny_small(), OutputSpec(num_classes=31, bos_id=30, eos_id=29, pad_id=28, max_length=5)).eval()
    generation = model.generate(random_images(model, 2))
    assert generation.token_ids.shape[1] <= 5
    assert generation.token_ids.max() < 31
