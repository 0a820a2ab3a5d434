"""Tiny decoders, memories to feed them, and what holds for each of them."""

import copy
from dataclasses import fields, replace
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor, nn

from models.config import DecoderConfig, RnnConfig
from models.decoders import Decoder, build_decoder
from models.types import Memory, OutputSpec
from tests.support.claims import claim

SPEC = OutputSpec(num_classes=11, bos_id=0, eos_id=1, pad_id=2, max_length=9)
SIZE = (3, 5)
MEMORY_DIM = 6
TINY = DecoderConfig(
    embed_dim=8, num_heads=2, mlp_dim=12, depth=2, refinement_channels=3, rnn=RnnConfig(hidden_dim=7, attention_dim=5)
)
MEMORIES = [(False, 0), (True, 0), (False, 1), (True, 2)]  # masked, prefix


def literal_values(part: type) -> list[tuple[str, str]]:
    """(field, value) for every Literal field of a config class."""
    hints = get_type_hints(part)
    values = [(name, value) for name, hint in hints.items() for value in get_args(hint) if isinstance(value, str)]
    assert {name for name, _ in values} <= {field.name for field in fields(part)}
    return values


def distinct(switches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The switches that differ from TINY and from each other: one value of each is the default."""
    found: list[tuple[DecoderConfig, dict[str, Any]]] = []
    for changes in switches:
        config = replace(TINY, **changes)
        if all(config != other for other, _ in found):
            found.append((config, changes))
    return [changes for _, changes in found]


def random_memory(batch: int, masked: bool = False, prefix: int = 0, seed: int = 0) -> Memory:
    """A memory of a 3 x 5 map, of which the columns on the right are padding in all images but the first."""
    generator = torch.Generator().manual_seed(seed)
    height, width = SIZE
    tokens = torch.randn(batch, prefix + height * width, MEMORY_DIM, generator=generator)
    columns = torch.randint(2, width, (batch,), generator=generator)
    columns[0] = width
    positions = (torch.arange(width) < columns[:, None])[:, None].expand(-1, height, -1).flatten(1)
    mask = torch.cat([torch.ones(batch, prefix, dtype=torch.bool), positions], 1)
    return Memory(tokens, mask if masked else None, SIZE, prefix)


def random_tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    """BOS and random tokens that are no PAD (rows, length)."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, SPEC.num_classes, (rows, length), generator=generator)
    tokens[:, 0] = SPEC.bos_id
    return tokens


def tiny_decoder(seed: int = 0, **changes: Any) -> Decoder:
    """A decoder in evaluation mode whose every weight, residual weight and running statistic matters."""
    torch.manual_seed(seed)
    decoder = build_decoder(replace(TINY, **changes), MEMORY_DIM, SPEC)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_(std=0.5)
        for name, buffer in decoder.named_buffers():
            if "running" in name:
                buffer.uniform_(0.05, 0.5)
    return decoder.eval()


def repeated(memory: Memory, beams: int) -> Memory:
    """Each image `beams` times, side by side."""
    mask = None if memory.mask is None else memory.mask.repeat_interleave(beams, 0)
    return memory._replace(tokens=memory.tokens.repeat_interleave(beams, 0), mask=mask)


def in_double(decoder: Decoder, memory: Memory) -> tuple[Decoder, Memory]:
    """A copy of both in which two ways to one result differ by nothing that matters."""
    return copy.deepcopy(decoder).double(), memory._replace(tokens=memory.tokens.double())


def check_steps(decoder: Decoder, memory: Memory, length: int = SPEC.max_length) -> None:
    """Step by step and in one pass, a decoder is one function."""
    decoder, memory = in_double(decoder, memory)
    tgt_in = random_tokens(memory.tokens.shape[0], length)
    with torch.inference_mode():
        cache = decoder.start(memory, length)
        stepped = torch.stack([decoder.step(tokens, cache) for tokens in tgt_in.unbind(1)], 1)
        torch.testing.assert_close(stepped, decoder(tgt_in, memory), rtol=1e-9, atol=1e-9)


def check_beams(decoder: Decoder, memory: Memory, beams: int, seed: int = 0, length: int = SPEC.max_length) -> None:
    """With beams that are reordered at random, each step is the pass over each beam's own history."""
    decoder, memory = in_double(decoder, memory)
    generator = torch.Generator().manual_seed(seed)
    rows = memory.tokens.shape[0] * beams
    history = torch.zeros(rows, 0, dtype=torch.long)
    first = torch.arange(0, rows, beams).repeat_interleave(beams)
    with torch.inference_mode():
        cache = decoder.start(memory, length, beams)
        for position in range(length):
            tokens = torch.randint(3, SPEC.num_classes, (rows,), generator=generator)
            history = torch.cat([history, tokens[:, None]], 1)
            logits = decoder.step(tokens, cache, need_weights=True)
            expected = decoder(history, repeated(memory, beams))[:, -1]
            torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9, msg=f"step {position}")
            check_weights(cache.weights, repeated(memory, beams))
            order = first + torch.randint(0, beams, (rows,), generator=generator)
            cache.reorder(order)
            history = history[order]


def check_weights(weights: Tensor | None, memory: Memory) -> None:
    """Attention (R, S) is a distribution over what is no padding."""
    assert weights is not None and weights.shape == memory.tokens.shape[:2]
    torch.testing.assert_close(weights.sum(1), torch.ones_like(weights[:, 0]))
    if memory.mask is not None:
        assert weights[~memory.mask].abs().sum() == 0


def check_training(decoder: Decoder, memory: Memory) -> None:
    """Logits of the right shape; every parameter takes part and none gets a gradient that is not finite."""
    tgt = random_tokens(memory.tokens.shape[0], 7)
    tgt[1:, 5:] = SPEC.pad_id
    decoder.zero_grad()
    logits = decoder.train()(tgt[:, :-1], memory)
    assert logits.shape == (tgt.shape[0], 6, SPEC.num_classes)
    nn.functional.cross_entropy(logits.flatten(0, 1), tgt[:, 1:].flatten(), ignore_index=SPEC.pad_id).backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, f"{name} takes no part in the forward pass"
        assert parameter.grad.isfinite().all(), name


def check_padding_of_targets(decoder: Decoder, memory: Memory) -> None:
    """PAD after a text changes nothing before it."""
    tgt_in = random_tokens(memory.tokens.shape[0], 6)
    padded = torch.cat([tgt_in, torch.full((tgt_in.shape[0], 3), SPEC.pad_id)], 1)
    torch.testing.assert_close(decoder(padded, memory)[:, :6], decoder(tgt_in, memory), rtol=1e-5, atol=1e-5)


def check_padding_of_images(decoder: Decoder, memory: Memory) -> None:
    """What stands where the mask is False has no influence."""
    assert memory.mask is not None
    tgt_in = random_tokens(memory.tokens.shape[0], 6)
    disturbed = torch.where(memory.mask[:, :, None], memory.tokens, 7.0)
    expected = decoder(tgt_in, memory)
    torch.testing.assert_close(decoder(tgt_in, memory._replace(tokens=disturbed)), expected, rtol=1e-5, atol=1e-5)


def check_autocast(decoder: Decoder, memory: Memory) -> None:
    """In bfloat16: finite logits near the exact ones, in one pass and in steps with beams, and finite gradients."""
    tgt_in = random_tokens(memory.tokens.shape[0], 6)
    exact = decoder(tgt_in, memory)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = decoder(tgt_in, memory)
        with torch.inference_mode():
            cache = decoder.start(memory, 6, 2)
            steps = []
            for tokens in tgt_in.repeat_interleave(2, 0).unbind(1):
                steps.append(decoder.step(tokens, cache))
                cache.reorder(torch.arange(tgt_in.shape[0] * 2))
    spread = float(exact.detach().std())
    torch.testing.assert_close(logits.float(), exact, rtol=0.1, atol=0.3 * spread)
    torch.testing.assert_close(torch.stack(steps, 1)[::2].float(), exact, rtol=0.1, atol=0.3 * spread)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        decoder.train()(tgt_in, memory).float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())


class DecoderContract:
    """What holds for every decoder; a test class below it has a fixture `decoder`."""

    def test_contract(self, decoder: Decoder) -> None:
        for masked, prefix in MEMORIES:
            of = f"of a memory with masked={masked}, prefix={prefix}"
            with claim(f"steps equal one pass {of}"):
                check_steps(decoder, random_memory(2, masked, prefix))
            with claim(f"beams equal passes over their own histories {of}"):
                check_beams(decoder, random_memory(2, masked, prefix), beams=3)
        for batch in (1, 5):
            with claim(f"steps equal one pass of a batch of {batch}"):
                check_steps(decoder, random_memory(batch, True, 1))
        with claim("padding of targets has no influence"):
            check_padding_of_targets(decoder, random_memory(2))
        with claim("padding of images has no influence"):
            check_padding_of_images(decoder, random_memory(3, True, 1))
        with claim("half precision is near and trains"):
            check_autocast(decoder, random_memory(2, True, 1))
        for masked, prefix in MEMORIES:
            with claim(f"every parameter is trained with masked={masked}, prefix={prefix}"):
                check_training(decoder, random_memory(3, masked, prefix))


def count(module: nn.Module) -> int:
    """Trained parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
