"""Padding is not seen: an image in a padded batch gives what it gives alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import Recognizer
from models.padding import columns_mask
from tests.models.configurations import random_images, random_targets, tiny_model


@given(columns=st.lists(st.integers(0, 12), min_size=1, max_size=5), spare=st.integers(0, 3))
def test_columns_mask(columns: list[int], spare: int) -> None:
    width = max(columns) + spare
    mask = columns_mask(torch.tensor(columns), width)
    assert mask.tolist() == [[column < count for column in range(width)] for count in columns]


@pytest.fixture(scope="module")
def model() -> Recognizer:
    """A small structure whose batch statistics are not the initial ones."""
    model = tiny_model("small").train()
    for seed in range(3):
        model(random_images(model, 4, seed), random_targets(4, 3))
    return model.eval()


@given(widths=st.lists(st.integers(8, 96), min_size=1, max_size=4), filler=st.sampled_from([0, 127, 255]))
@settings(max_examples=25, deadline=None)
def test_padded_batch_equals_members_alone(model: Recognizer, widths: list[int], filler: int) -> None:
    images, tgt = random_images(model, len(widths)), random_targets(len(widths), 5)
    for row, width in enumerate(widths):
        images[row, :, :, width:] = filler
    with torch.inference_mode():
        together = model(images, tgt, torch.tensor(widths)).logits
        for row, width in enumerate(widths):
            alone = model(images[row : row + 1, :, :, :width], tgt[row : row + 1]).logits
            torch.testing.assert_close(together[row], alone[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("structure", ["small", "final"])
def test_full_widths_equal_none(structure: str) -> None:
    model = tiny_model(structure)
    images, tgt = random_images(model, 3), random_targets(3, 5)
    full = model(images, tgt, torch.full((3,), images.shape[3])).logits
    torch.testing.assert_close(full, model(images, tgt).logits, rtol=1e-5, atol=1e-5)


def test_memory_mask_hides_padding_in_the_final_structure() -> None:
    model = tiny_model("final")
    images, tgt = random_images(model, 2), random_targets(2, 5)
    memory = model.encode(images, torch.tensor([128, 32]))
    assert memory.mask is not None and memory.size == (2, 4)
    assert memory.mask.view(2, 2, 4)[1].tolist() == [[True, False, False, False]] * 2
    disturbed = memory._replace(tokens=torch.where(memory.mask[..., None], memory.tokens, memory.tokens + 9))
    torch.testing.assert_close(model.decoder(tgt, disturbed), model.decoder(tgt, memory))
