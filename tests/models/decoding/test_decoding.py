"""Cached decoding is the teacher-forced function, token by token."""

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from models import Decoding, Generation, ModelConfigError, Recognizer
from tests.support.claims import claim
from tests.support.configurations import HEIGHT, SPEC, TINY, WIDTH, random_images, random_targets, tiny_model


def decode_uncached(model: Recognizer, images: Tensor, max_length: int) -> tuple[Tensor, Tensor]:
    """Greedy token ids (B, T) and summed log-probabilities (B,) by running the decoder on the whole prefix each step."""
    batch, memory = images.shape[0], model.encode(images)
    prefix = torch.full((batch, 1), SPEC.bos_id)
    log_probs = torch.zeros(batch)
    finished = torch.zeros(batch, dtype=torch.bool)
    while prefix.shape[1] <= max_length and not finished.all():
        with torch.inference_mode():
            logits = model.decoder(prefix, memory)
            assert logits is not None
            best, tokens = logits[:, -1].log_softmax(-1).max(-1)
        log_probs += torch.where(finished, 0.0, best)
        tokens = torch.where(finished, SPEC.pad_id, tokens)
        finished |= tokens == SPEC.eos_id
        prefix = torch.cat([prefix, tokens[:, None]], 1)
    return prefix[:, 1:], log_probs


@pytest.mark.parametrize("structure", TINY)
def test_structure(structure: str) -> None:
    """Of models of several seeds, until what they decode varies."""
    seen: set[int] = set()
    for seed in range(4):
        model = tiny_model(structure, seed)
        for batch in (1, 5):
            with claim(f"greedy decoding equals uncached decoding of seed {seed}, batch {batch}"):
                seen |= check_uncached(model, random_images(model, batch, seed))
            with claim(f"the logits of steps equal the teacher-forced ones of seed {seed}, batch {batch}"):
                check_steps(model, random_images(model, batch, seed), seed)
        with claim(f"attention is that of the last layer of seed {seed}"):
            check_attention(model)
        with claim(f"a batch equals its members of seed {seed}"):
            check_members(biased_to_eos(model, 2.0))
        if len(seen) > 2:
            return
    raise AssertionError("weights whose output never varies would prove nothing")


def check_uncached(model: Recognizer, images: Tensor) -> set[int]:
    generation = model.generate(images)
    token_ids, log_probs = decode_uncached(model, images, SPEC.max_length)
    assert torch.equal(generation.token_ids, token_ids)
    torch.testing.assert_close(generation.log_probs, log_probs, rtol=1e-4, atol=1e-4)
    return set(token_ids.flatten().tolist())


def check_steps(model: Recognizer, images: Tensor, seed: int) -> None:
    """With images of several sizes."""
    tgt_in = random_targets(len(images), SPEC.max_length, seed)
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.stack([torch.randint(24, side + 1, (len(images),), generator=generator) for side in (HEIGHT, WIDTH)], 1)
    with torch.inference_mode():
        expected = model(images, tgt_in, sizes).logits
        cache = model.decoder.start(model.encode(images, sizes), SPEC.max_length)
        stepped = torch.stack([model.decoder.step(tgt_in[:, t], cache) for t in range(SPEC.max_length)], dim=1)
    torch.testing.assert_close(stepped, expected, rtol=1e-4, atol=1e-4)


def check_members(model: Recognizer) -> None:
    images = random_images(model, 5)
    together = model.generate(images)
    for row in range(5):
        alone = model.generate(images[row : row + 1])
        length = int(alone.lengths[0])
        assert together.lengths[row] == length
        assert torch.equal(together.token_ids[row, :length], alone.token_ids[0, :length])
        torch.testing.assert_close(together.log_probs[row], alone.log_probs[0], rtol=1e-4, atol=1e-4)


def check_attention(model: Recognizer) -> None:
    images, sizes = random_images(model, 2), torch.tensor([[HEIGHT, WIDTH], [HEIGHT // 2, 64]])
    generation = model.generate(images, Decoding(return_attention=True), sizes)
    plain = model.generate(images, sizes=sizes)
    assert plain.attention is None
    assert torch.equal(plain.token_ids, generation.token_ids)
    assert generation.attention is not None
    memory = model.encode(images, sizes)
    steps = generation.token_ids.shape[1]
    assert generation.attention.shape == (2, steps, *memory.size)
    emitted = torch.arange(steps)[None] <= generation.lengths[:, None]
    looked = generation.attention.sum((2, 3))
    # What looks at a class token, looks at no place.
    assert (looked[emitted] > 0).all() if memory.prefix else torch.allclose(looked[emitted], torch.ones(1))
    assert looked[~emitted].abs().sum() == 0
    rows, columns = model.backbone.feature_sizes(sizes)[1].tolist()
    assert columns < memory.size[1] and (rows < memory.size[0] or memory.size[0] == 1)
    assert generation.attention[1, :, rows:].abs().sum() == generation.attention[1, :, :, columns:].abs().sum() == 0


def check_ends(generation: Generation) -> None:
    """EOS ends a row, only PAD follows, and `lengths` counts what stands before."""
    for row, length in zip(generation.token_ids.tolist(), generation.lengths.tolist(), strict=True):
        assert SPEC.eos_id not in row[:length]
        assert length == len(row) or row[length] == SPEC.eos_id
        assert set(row[length + 1 :]) <= {SPEC.pad_id}


def biased_to_eos(model: Recognizer, bias: float) -> Recognizer:
    """The model, which now likes to end its rows."""
    with torch.no_grad():
        cast(nn.Linear, model.decoder.head).bias[SPEC.eos_id] += bias
    return model


# Random weights look at all of a map alike in the attention of an RNN: its texts end together, whatever the image.
@pytest.mark.parametrize("structure", [name for name in TINY if not name.startswith(("aster", "seq2seq"))])
def test_rows_end_apart_and_decoding_stops_with_the_last(structure: str) -> None:
    distinct_lengths = 0
    for seed in range(10):
        model = tiny_model(structure, seed)
        for more in (1.0, 1.0, 2.0, 4.0):  # a bias of 1, 2, 4, 8
            biased_to_eos(model, more)
            images = random_images(model, 5, seed)
            images[0], images[1], images[2, :, :32] = 0, 255, 0
            generation = model.generate(images)
            check_ends(generation)
            steps = generation.token_ids.shape[1]
            assert steps == min(SPEC.max_length, int(generation.lengths.max()) + 1)
            distinct_lengths = max(distinct_lengths, generation.lengths.unique().numel())
            token_ids, log_probs = decode_uncached(model, images, SPEC.max_length)
            assert torch.equal(generation.token_ids, token_ids)
            torch.testing.assert_close(generation.log_probs, log_probs, rtol=1e-4, atol=1e-4)
            if distinct_lengths > 1:
                return
    raise AssertionError("rows that always end together would prove nothing")


def test_length_limit() -> None:
    model = tiny_model("small")
    images = random_images(model, 2)
    full = model.generate(images)
    short = model.generate(images, Decoding(max_length=3))
    assert torch.equal(short.token_ids, full.token_ids[:, :3])
    assert short.lengths.max() <= 3
    for wrong in (0, -1, SPEC.max_length + 1):
        with pytest.raises(ModelConfigError, match=r"decoding\.max_length"):
            model.generate(images, Decoding(max_length=wrong))


def test_generation_needs_no_gradients() -> None:
    generation = tiny_model("small").generate(random_images(tiny_model("small"), 1))
    assert generation.token_ids.is_inference() and not generation.log_probs.requires_grad
