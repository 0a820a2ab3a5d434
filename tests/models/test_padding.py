"""Padding is not seen: an image in a padded batch gives what it gives alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import Recognizer
from models.padding import column_mask
from tests.models.configurations import random_images, random_targets, tiny_model


@given(
    widths=st.lists(st.integers(1, 96), min_size=1, max_size=5),
    stride=st.sampled_from([1, 2, 8, 32]),
    spare=st.integers(0, 3),
)
def test_column_mask(widths: list[int], stride: int, spare: int) -> None:
    columns = -(-max(widths) // stride) + spare
    mask = column_mask(torch.tensor(widths), columns, stride)
    assert mask is not None
    expected = [[column * stride < width for column in range(columns)] for width in widths]
    assert mask.tolist() == expected


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
        together = model(images, tgt, torch.tensor(widths))
        for row, width in enumerate(widths):
            alone = model(images[row : row + 1, :, :, :width], tgt[row : row + 1])
            torch.testing.assert_close(together[row], alone[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("structure", ["small", "final"])
def test_full_widths_equal_none(structure: str) -> None:
    model = tiny_model(structure)
    images, tgt = random_images(model, 3), random_targets(3, 5)
    torch.testing.assert_close(model(images, tgt, torch.full((3,), 96)), model(images, tgt), rtol=1e-5, atol=1e-5)


def test_memory_mask_hides_padding_in_the_final_structure() -> None:
    model = tiny_model("final")
    images, tgt = random_images(model, 2), random_targets(2, 5)
    memory, mask, (height, width) = model.encode(images, torch.tensor([96, 32]))
    assert mask is not None and (height, width) == (2, 3)
    assert mask.view(2, height, width)[1].tolist() == [[True, False, False]] * 2
    disturbed = torch.where(mask[..., None], memory, memory + 9)
    torch.testing.assert_close(model.decoder(tgt, disturbed, mask), model.decoder(tgt, memory, mask))
