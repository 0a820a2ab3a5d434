"""Scheduled sampling: a decoder that reads its predictions gives what decoding token by token gives."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from models import ModelConfigError, Recognizer, SampledTokens, build_model, reverse_targets
from models.decoders import Decoder
from models.summary.measure import total_loss
from models.types import Memory
from tests.support.configurations import SPEC, TINY, lively_model, random_images, random_targets
from tests.support.decoders import SPEC as DECODER_SPEC
from tests.support.decoders import TINY as DECODER
from tests.support.decoders import in_double, random_memory, random_tokens, tiny_decoder

DECODERS: dict[str, dict[str, Any]] = {
    "transformer": {},
    "post": {"norm": "post"},
    "coverage": {"refinement": "coverage"},
    "rnn": {"name": "rnn", "depth": 1},
    "gru": {"name": "rnn", "rnn": replace(DECODER.rnn, cell="gru", state_norm="layer")},
}
LENGTH = DECODER_SPEC.max_length


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return tiny_decoder(**DECODERS[request.param])


def step_by_step(decoder: Decoder, memory: Memory, tgt_in: Tensor, mask: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
    """Inputs (B, T) and logits (B, T, V) of a decoder that reads its prediction wherever `mask` is True."""
    cache = decoder.start(memory, tgt_in.shape[1])
    read, logits = [tgt_in[:, 0]], []
    for position in range(tgt_in.shape[1]):
        logits.append(decoder.step(read[-1], cache))
        if position + 1 < tgt_in.shape[1]:
            likely = logits[-1].clone()
            likely[:, pad_id] = -torch.inf
            likely[torch.arange(len(likely)), tgt_in[:, 0]] = -torch.inf
            sampled = mask[:, position + 1] & (tgt_in[:, position + 1] != pad_id)
            read.append(torch.where(sampled, likely.argmax(-1), tgt_in[:, position + 1]))
    return torch.stack(read, 1), torch.stack(logits, 1)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.2])
def test_logits_are_those_of_decoding_token_by_token(decoder: Decoder, share: float) -> None:
    decoder, memory = in_double(decoder, random_memory(4, masked=True))
    tgt_in = random_tokens(4, LENGTH)
    tgt_in[2, 6:] = tgt_in[3, 3:] = DECODER_SPEC.pad_id
    mask = torch.rand(tgt_in.shape, generator=torch.Generator().manual_seed(1)) < share
    with torch.inference_mode():
        output = decoder.decode_hidden(tgt_in, memory, SampledTokens(mask, passes=LENGTH))
        read, logits = step_by_step(decoder, memory, tgt_in, mask, DECODER_SPEC.pad_id)
        torch.testing.assert_close(output.logits, logits, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(output.logits, decoder(read, memory), rtol=1e-9, atol=1e-9)
    assert not torch.equal(read, tgt_in), "no token was sampled: the test would prove nothing"
    assert torch.equal(read == DECODER_SPEC.pad_id, tgt_in == DECODER_SPEC.pad_id)


@pytest.mark.parametrize("name", ["transformer", "coverage"])
def test_n_passes_are_right_for_n_positions(name: str) -> None:
    decoder, memory = in_double(tiny_decoder(**DECODERS[name]), random_memory(6))
    tgt_in = random_tokens(6, LENGTH)
    mask = torch.ones_like(tgt_in, dtype=torch.bool)
    with torch.inference_mode():
        _, expected = step_by_step(decoder, memory, tgt_in, mask, DECODER_SPEC.pad_id)
        for passes in range(1, LENGTH):
            logits = decoder.decode_hidden(tgt_in, memory, SampledTokens(mask, passes)).logits
            assert logits is not None
            torch.testing.assert_close(logits[:, : passes + 1], expected[:, : passes + 1], rtol=1e-9, atol=1e-9)
        once = decoder.decode_hidden(tgt_in, memory, SampledTokens(mask, 1)).logits
    assert once is not None and not torch.allclose(once, expected), "one pass is not free running"


def test_without_sampled_tokens_the_input_is_the_truth(decoder: Decoder) -> None:
    memory, tgt_in = random_memory(3), random_tokens(3, 6)
    expected = decoder(tgt_in, memory)
    forced = decoder.decode_hidden(tgt_in, memory)
    assert torch.equal(forced.logits, expected) and forced.hidden.shape == (3, 6, decoder.out_dim)  # type: ignore[arg-type,union-attr]
    nowhere = decoder.decode_hidden(tgt_in, memory, SampledTokens(torch.zeros_like(tgt_in, dtype=torch.bool)))
    torch.testing.assert_close(nowhere.logits, expected)
    torch.testing.assert_close(nowhere.hidden, forced.hidden)


def gradients(decoder: Decoder, half: bool, memory: Memory, tgt_in: Tensor, sampled: SampledTokens | None) -> dict[str, Tensor]:
    """Of every parameter, by name, and the logits."""
    decoder.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):  # which keeps weights as it has cast them
        logits = decoder.decode_hidden(tgt_in, memory, sampled).logits
    assert logits is not None
    logits.float().square().mean().backward()
    found = {name: parameter.grad for name, parameter in decoder.named_parameters()}
    return {"logits": logits.detach()} | {name: gradient for name, gradient in found.items() if gradient is not None}


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_every_parameter_gets_the_gradient_of_what_was_read(decoder: Decoder, half: bool) -> None:
    memory, tgt_in = random_memory(3), random_tokens(3, LENGTH)
    found = gradients(decoder, half, memory, tgt_in, SampledTokens(torch.ones_like(tgt_in, dtype=torch.bool), LENGTH))
    never = torch.tensor([DECODER_SPEC.bos_id, DECODER_SPEC.pad_id])
    chosen = found["logits"].index_fill(-1, never, -torch.inf).argmax(-1)
    forced = gradients(decoder, half, memory, torch.cat([tgt_in[:, :1], chosen[:, :-1]], 1), None)
    assert found.keys() == forced.keys() == {"logits", *dict(decoder.named_parameters())}
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, forced[name], rtol=1e-3, atol=0.05 if half else 1e-4, msg=name)


def recognizer(structure: str, direction: str) -> Recognizer:
    config = TINY[structure]()
    return lively_model(replace(config, decoder=replace(config.decoder, direction=direction)))  # type: ignore[arg-type]


@pytest.mark.parametrize("structure", ["small", "aster"])
@pytest.mark.parametrize("direction", ["forward", "both"])
def test_recognizers_read_predictions_in_each_direction(structure: str, direction: str) -> None:
    model = recognizer(structure, direction)
    images, sizes = random_images(model, 3), torch.tensor([[64, 128], [64, 90], [48, 104]])
    tgt_in = random_targets(3, 8)
    tgt_in[1, 5:] = torch.tensor([SPEC.eos_id, SPEC.pad_id, SPEC.pad_id])
    mask = torch.ones_like(tgt_in, dtype=torch.bool)
    with torch.inference_mode():
        output = model(images, tgt_in, sizes, SampledTokens(mask, passes=8))
        memory = model.encode(images, sizes)
        read, logits = step_by_step(model.decoder, memory, tgt_in, mask, SPEC.pad_id)
        torch.testing.assert_close(output.logits, logits, rtol=1e-4, atol=1e-4)
        if direction == "both":
            reverse_in, _ = reverse_targets(tgt_in, SPEC)
            backward = step_by_step(model.decoder, memory, reverse_in, mask, SPEC.pad_id)
            torch.testing.assert_close(output.reverse_logits, backward[1], rtol=1e-4, atol=1e-4)
            assert not (backward[0][:, 1:] == SPEC.eos_id).any(), "from right to left, EOS begins a text"
    assert not (read[:, 1:] == SPEC.bos_id).any()


@pytest.mark.parametrize("structure", ["small", "vit", "aster", "seq2seq_light"])
def test_free_running_is_greedy_decoding(structure: str) -> None:
    model = recognizer(structure, "forward")
    specials = [SPEC.bos_id, SPEC.eos_id, SPEC.pad_id]
    model.decoder.get_parameter("head.bias").data[specials] = -1e4  # texts that go on
    images, tgt_in = random_images(model, 3), random_targets(3, 9)
    sampled = SampledTokens(torch.ones_like(tgt_in, dtype=torch.bool), passes=9)
    with torch.inference_mode():
        logits = model(images, tgt_in, sampled=sampled).logits
        greedy = model.generate(images).token_ids
    assert torch.equal(logits.argmax(-1), greedy[:, :9]) and not torch.equal(greedy[:, :8], tgt_in[:, 1:])


@pytest.mark.parametrize("structure", ["small", "aster", "comer"])
def test_images_are_encoded_once(structure: str) -> None:
    model = build_model(TINY[structure](), SPEC).train()
    calls: list[int] = []
    model.backbone.register_forward_hook(lambda module, inputs, output: calls.append(1))
    tgt_in = random_targets(2, 6)
    sampled = SampledTokens(torch.ones_like(tgt_in, dtype=torch.bool), passes=3)
    total_loss(model(random_images(model, 2), tgt_in, sampled=sampled), tgt_in).backward()
    assert len(calls) == 1
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_what_does_not_fit_is_refused() -> None:
    model = build_model(TINY["small"](), SPEC)
    images, tgt_in = random_images(model, 2), random_targets(2, 6)
    with pytest.raises(ModelConfigError, match=r"sampled\.mask: must be a tensor of bool \(2, 6\).*\(2, 5\)"):
        model(images, tgt_in, sampled=SampledTokens(torch.ones(2, 5, dtype=torch.bool)))
    with pytest.raises(ModelConfigError, match=r"sampled\.passes: must be 1 or more, not 0"):
        model(images, tgt_in, sampled=SampledTokens(torch.ones(2, 6, dtype=torch.bool), 0))
