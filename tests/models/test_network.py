"""Every choice of every axis: shapes, gradients, determinism, half precision."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import get_args, get_type_hints

import pytest
import torch
import torch.nn.functional as F

from models import DecoderConfig, EncoderConfig, ModelConfig, OutputSpec, build_model
from tests.models.configurations import SPEC, TINY, random_images, random_targets, tiny_final, tiny_small


def literal_choices(part: type) -> list[tuple[str, str]]:
    """(field, value) for every Literal field of a config class."""
    hints = get_type_hints(part)
    return [(name, value) for name, hint in hints.items() for value in get_args(hint) if isinstance(value, str)]


def variants() -> list[tuple[str, Callable[[], ModelConfig]]]:
    """Both structures, and each of them with one axis at each of its values."""
    found: list[tuple[str, Callable[[], ModelConfig]]] = []
    for structure, make in TINY.items():
        found.append((structure, make))
        for part_name, part in (("encoder", EncoderConfig), ("decoder", DecoderConfig)):
            for name, value in literal_choices(part):
                found.append((f"{structure}-{part_name}.{name}={value}", partial(vary, make, part_name, name, value)))
    return found


def vary(make: Callable[[], ModelConfig], part: str, name: str, value: str) -> ModelConfig:
    """The configuration with one field of one part set."""
    config = make()
    return replace(config, **{part: replace(getattr(config, part), **{name: value})})


VARIANTS = variants()


def test_all_axes_are_varied() -> None:
    names = {name.split("=")[0].split("-")[1] for name, _ in VARIANTS if "=" in name}
    assert {"encoder.attention", "encoder.feed_forward", "encoder.position", "encoder.norm", "encoder.init"} <= names
    assert {"decoder.cross_query", "decoder.norm", "decoder.attention_scale"} <= names


@pytest.mark.parametrize("make", [make for _, make in VARIANTS], ids=[name for name, _ in VARIANTS])
@pytest.mark.parametrize("with_widths", [False, True])
def test_every_parameter_gets_a_gradient(make: Callable[[], ModelConfig], with_widths: bool) -> None:
    torch.manual_seed(0)
    model = build_model(make(), SPEC).train()
    images, tgt = random_images(model, 3), random_targets(3, 8)
    widths = torch.tensor([96, 64, 33]) if with_widths else None
    logits = model(images, tgt[:, :-1], widths)
    assert logits.shape == (3, 7, SPEC.num_classes)
    F.cross_entropy(logits.flatten(0, 1), tgt[:, 1:].flatten()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} takes no part in the forward pass"
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("structure", TINY)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(structure: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = build_model(TINY[structure](), SPEC).eval()
    images, tgt = random_images(model, 2), random_targets(2, 6)
    widths = torch.tensor([96, 40])
    exact = model(images, tgt, widths)
    with torch.autocast("cpu", dtype=dtype):
        logits = model(images, tgt, widths)
        generation = model.generate(images, widths=widths)
    assert logits.isfinite().all() and generation.log_probs.isfinite().all()
    torch.testing.assert_close(logits.float(), exact, rtol=0.1, atol=0.1)
    with torch.autocast("cpu", dtype=dtype):
        F.cross_entropy(model.train()(images, tgt, widths).float().flatten(0, 1), tgt.flatten()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("structure", TINY)
def test_same_seed_same_losses(structure: str) -> None:
    def losses() -> list[float]:
        torch.manual_seed(7)
        model = build_model(TINY[structure](), SPEC).train()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        images, tgt = random_images(model, 4), random_targets(4, 6)
        found = []
        for _ in range(3):
            loss = F.cross_entropy(model(images, tgt).flatten(0, 1), tgt.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    first = losses()
    assert first == losses()
    assert len(set(first)) == 3


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("make", [tiny_small, tiny_final])
def test_any_number_of_channels(make: Callable[[], ModelConfig], channels: int) -> None:
    model = build_model(replace(make(), in_channels=channels), SPEC).eval()
    images = torch.zeros(2, channels, 64, 64, dtype=torch.uint8)
    assert model(images, random_targets(2, 4)).shape == (2, 4, SPEC.num_classes)


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
    torch.testing.assert_close(model(images, padded)[:, :6], model(images, tgt), rtol=1e-5, atol=1e-5)


def test_logits_have_no_special_size() -> None:
    model = build_model(tiny_small(), OutputSpec(num_classes=31, bos_id=30, eos_id=29, pad_id=28, max_length=5)).eval()
    generation = model.generate(random_images(model, 2))
    assert generation.token_ids.shape[1] <= 5
    assert generation.token_ids.max() < 31
