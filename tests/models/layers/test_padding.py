"""Padding is not seen: an image in a padded batch gives what it gives alone, whatever the sizes of both."""

import functools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import Decoding, ModelConfig, Recognizer
from models.layers.padding import area_mask
from models.presets import names
from tests.support.configurations import TINY, lively_model, named, random_images, random_targets, tiny_model
from tests.support.switches import set_value

Sizes = list[tuple[int, int]]


@given(sizes=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), min_size=1, max_size=5), spare=st.integers(0, 3))
def test_area_mask(sizes: Sizes, spare: int) -> None:
    height, width = (max(sides) + spare for sides in zip(*sizes, strict=True))
    mask = area_mask(torch.tensor(sizes), height, width)
    assert mask.tolist() == [
        [[row < rows and column < columns for column in range(width)] for row in range(height)] for rows, columns in sizes
    ]


def aster() -> ModelConfig:
    """With convolutions of its own, which the tiny structure does without."""
    config = TINY["aster"]()
    set_value(config, "backbone.name", "aster_cnn")
    set_value(config, "encoder.embed_dim", 512)
    return config


def rectified() -> ModelConfig:
    """Straightened before it is read."""
    config = TINY["small"]()
    set_value(config, "rectifier.name", "tps")
    return config


def structures() -> dict[str, Callable[[], ModelConfig]]:
    """Every named configuration, one of those that are the same once they are tiny."""
    found: dict[str, Callable[[], ModelConfig]] = {"aster": aster, "rectified": rectified}
    seen: list[ModelConfig] = []
    for name in names():
        config = named(name)()
        if config not in seen:
            seen.append(config)
            found.setdefault(name, named(name))
    return found


CONFIGS = structures()
# Group norm over the whole map and shifted windows: to these networks padding is paper.
SEES_PADDING = ["vit", "swin"]


@functools.cache
def model_of(name: str) -> Recognizer:
    """A lively model whose batch statistics are not the initial ones; shared by the tests."""
    return lively_model(CONFIGS[name]())


def batch_of(images: Tensor, sizes: Sizes, filler: int) -> Tensor:
    """The upper left of each image, in a batch that is no larger than the largest of them, the rest `filler`."""
    height, width = (max(sides) for sides in zip(*sizes, strict=True))
    batch = images[:, :, :height, :width].clone()
    for image, (rows, columns) in zip(batch, sizes, strict=True):
        image[:, rows:] = image[:, :, columns:] = filler
    return batch


@pytest.mark.parametrize("name", SEES_PADDING)
def test_a_network_that_sees_padding_says_so(name: str) -> None:
    assert not model_of(name).backbone.masks_padding


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in SEES_PADDING])
@given(
    sizes=st.lists(st.tuples(st.integers(1, 64), st.integers(1, 128)), min_size=2, max_size=4),
    filler=st.sampled_from([0, 127, 255]),
)
@settings(max_examples=2, deadline=None)
def test_a_padded_batch_equals_its_members(name: str, sizes: Sizes, filler: int) -> None:
    model = model_of(name)
    assert model.backbone.masks_padding
    images, tgt_in = random_images(model, len(sizes)), random_targets(len(sizes), 5)
    with torch.inference_mode():
        together = model(batch_of(images, sizes, filler), tgt_in, torch.tensor(sizes))
        for row, (height, width) in enumerate(sizes):
            alone = model(images[row : row + 1, :, :height, :width], tgt_in[row : row + 1])
            for ours, theirs in zip(together[:2], alone[:2], strict=True):
                assert (ours is None) == (theirs is None)
                if ours is not None:
                    torch.testing.assert_close(ours[row], theirs[0], rtol=1e-3, atol=1e-3)
            if alone.ctc_logits is not None:
                count = int(together.ctc_lengths[row])
                assert count == alone.ctc_lengths[0] == alone.ctc_logits.shape[1]
                torch.testing.assert_close(together.ctc_logits[row, :count], alone.ctc_logits[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "decoding"),
    [
        *((name, Decoding()) for name in ("satrn_small", "comer", "ctc", "aster", "satrn_4", "seq2seq", "rectified")),
        *((name, Decoding("beam", beam_size=3)) for name in ("satrn_small", "comer", "ctc")),  # it sees memories alone
    ],
)
def test_no_reading_depends_on_the_size_of_batches(name: str, decoding: Decoding) -> None:
    model, count = model_of(name), 32 if decoding.method == "greedy" else 12
    generator = torch.Generator().manual_seed(0)
    sizes = [tuple(torch.randint(1, side, (2,), generator=generator).tolist()) for side in (64,) * count]
    images = random_images(model, count)
    readings = []
    for rows in (1, 5, count):
        texts: list[list[int]] = []
        for first in range(0, count, rows):
            part = sizes[first : first + rows]
            batch = batch_of(images[first : first + rows], part, 255)
            found = model.generate(batch, decoding, torch.tensor(part))
            texts += [ids[:length] for ids, length in zip(found.token_ids.tolist(), found.lengths.tolist(), strict=True)]
        readings.append(texts)
    assert readings[0] == readings[1] == readings[2]
    assert len({str(text) for text in readings[0]}) > 4, "readings that never differ would prove nothing"


@pytest.mark.parametrize("structure", ["small", "final"])
def test_full_sizes_equal_none(structure: str) -> None:
    model = tiny_model(structure)
    images, tgt = random_images(model, 3), random_targets(3, 5)
    full = model(images, tgt, torch.tensor([images.shape[2:]] * 3)).logits
    torch.testing.assert_close(full, model(images, tgt).logits, rtol=1e-5, atol=1e-5)


def test_memory_mask_hides_padding_in_the_final_structure() -> None:
    model = tiny_model("final")
    images, tgt = random_images(model, 2), random_targets(2, 5)
    memory = model.encode(images, torch.tensor([[64, 128], [32, 64]]))
    assert memory.mask is not None and memory.size == (2, 4)
    assert memory.mask.view(2, 2, 4)[1].tolist() == [[True, True, False, False], [False] * 4]
    area = memory.area()
    assert area is not None and torch.equal(area, memory.mask.view(2, 2, 4))
    disturbed = memory._replace(tokens=torch.where(memory.mask[..., None], memory.tokens, memory.tokens + 9))
    torch.testing.assert_close(model.decoder(tgt, disturbed), model.decoder(tgt, memory))
