"""The transformer decoder: every switch alone, cached decoding, beams, counts; and no decoder at all."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import DecoderConfig
from models.decoders import Decoder, TransformerDecoder, build_decoder
from models.decoders.feed_forward import GatedFeedForward
from models.decoders.transformer import TransformerDecoderLayer
from models.errors import ModelConfigError
from models.types import Memory, OutputSpec
from tests.support import decoders as check
from tests.support.decoders import (
    SPEC,
    DecoderContract,
    count,
    distinct,
    literal_values,
    random_memory,
    random_tokens,
    tiny_decoder,
)

OTHER_PARTS = ("name", "direction")  # which decoder, and what the recognizer does with it
SWITCHES: list[dict[str, Any]] = [
    {},
    *({name: value} for name, value in literal_values(DecoderConfig) if name not in OTHER_PARTS),
    {"head_dim": 3},
    {"head_dim": 5, "attention_output": "gated", "qkv_bias": False},
    {"qkv_bias": False},
    {"embedding_scale": False},
    {"extra_embeddings": 2},
    {"depth": 1},
    {"depth": 3, "refinement": "coverage", "norm": "post", "head_dim": 3},
]


def name_of(switches: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in switches.items()) or "default"


@pytest.fixture(params=distinct(SWITCHES), ids=name_of)
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return tiny_decoder(**request.param)


class TestTransformerDecoder(DecoderContract):
    """The contract, with every switch."""


@pytest.mark.parametrize("beams", [2, 5])
@pytest.mark.parametrize("batch", [1, 3])
def test_any_number_of_beams_and_images(batch: int, beams: int) -> None:
    for seed in range(3):
        check.check_beams(tiny_decoder(seed), random_memory(batch, True, 0, seed), beams, seed)


def test_each_switch_changes_the_function() -> None:
    plain = tiny_decoder().state_dict()
    tgt_in, memory = random_tokens(2, 6), random_memory(2)
    logits: dict[str, Tensor] = {}
    for switches in ({}, {"cross_query": "raw_self_attention"}, {"cross_query": "target"}, {"attention_scale": "width"},
                     {"activation": "gelu"}, {"activation": "leaky_relu"}, {"embedding_scale": False}):  # fmt: skip
        decoder = tiny_decoder(**switches)
        decoder.load_state_dict(plain)
        logits[name_of(switches)] = decoder(tgt_in, memory)
    for one, first in logits.items():
        for other, second in logits.items():
            assert one == other or not torch.allclose(first, second, atol=1e-4), (one, other)


def test_memory_is_neither_copied_nor_projected_again_for_beams() -> None:
    decoder = tiny_decoder()
    assert isinstance(decoder, TransformerDecoder)
    calls: list[torch.Size] = []
    for layer in decoder.layers:
        assert isinstance(layer, TransformerDecoderLayer)
        for linear in (layer.cross_attention.key, layer.cross_attention.value):
            linear.register_forward_hook(lambda module, inputs, output: calls.append(output.shape))
    memory = random_memory(2)
    with torch.inference_mode():
        cache = decoder.start(memory, 9, 4)
        for _ in range(5):
            decoder.step(torch.zeros(8, dtype=torch.long), cache)
            cache.reorder(torch.arange(8))
    assert calls == [torch.Size([2, 15, 8])] * 4
    for layer_cache in cache.layers:
        assert layer_cache.memory.keys.shape == (2, 2, 4, 15)


def test_layer_is_the_definition() -> None:
    """Vaswani et al. 2017, post-norm, against torch's own layer."""
    reference = nn.TransformerDecoderLayer(8, 2, 12, 0.0, batch_first=True).eval()
    source = torch.randn(2, 15, 8)
    layer = TransformerDecoderLayer(replace(check.TINY, norm="post"), 8).eval()
    with torch.no_grad():
        for ours, theirs in ((layer.self_attention, reference.self_attn), (layer.cross_attention, reference.multihead_attn)):
            theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
            theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
            theirs.out_proj.load_state_dict(ours.out.state_dict())
        linears = [module for module in layer.feed_forward.modules() if isinstance(module, nn.Linear)]
        norms = [module for module in layer.residual.modules() if isinstance(module, nn.LayerNorm)]
        for ours_part, theirs_part in zip(
            [*linears, *norms], [reference.linear1, reference.linear2, reference.norm1, reference.norm2, reference.norm3],
            strict=True,
        ):  # fmt: skip
            theirs_part.load_state_dict(ours_part.state_dict())
    target = torch.randn(2, 5, 8)
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    expected = reference(target, source, tgt_mask=causal, tgt_is_causal=True)
    found = layer(target, layer.self_attention.causal, lambda query: layer.cross_attention(query, source))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_gated_feed_forward_is_the_definition() -> None:
    torch.manual_seed(0)
    module = GatedFeedForward(4, 6, 0.0, nn.GELU)
    x = torch.randn(2, 3, 4)
    both = x @ module.expand.weight.T + module.expand.bias
    expected = module.project(both[..., :6] * F.gelu(both[..., 6:]))
    torch.testing.assert_close(module(x), expected)


def test_sinusoids_reach_any_length() -> None:
    decoder = tiny_decoder()
    short = random_tokens(1, 9)
    before = decoder(short, random_memory(1))
    check.check_steps(decoder, random_memory(2), length=40)
    with torch.inference_mode():
        decoder(random_tokens(1, 30), random_memory(1))
    torch.testing.assert_close(decoder(short, random_memory(1)), before)
    decoder.train()(random_tokens(2, 50), random_memory(2)).sum().backward()


def test_too_few_learned_positions() -> None:
    tiny_decoder(position="learned", max_positions=SPEC.max_length)
    with pytest.raises(ModelConfigError, match=r"model\.decoder\.max_positions"):
        tiny_decoder(position="learned", max_positions=SPEC.max_length - 1)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"num_heads": 3}, "model.decoder.embed_dim"),
        ({"num_heads": 0}, "model.decoder.embed_dim"),
        ({"head_dim": 0}, "model.decoder.head_dim"),
        ({"refinement": "coverage", "depth": 1}, "model.decoder.depth"),
        ({"depth": 0}, "model.decoder.depth"),
        ({"name": "none", "direction": "both"}, "model.decoder.direction"),
        ({"norm": "batch"}, "model.decoder.norm"),
        ({"attention_output": "x"}, "model.decoder.attention_output"),
        ({"feed_forward": "x"}, "model.decoder.feed_forward"),
        ({"activation": "x"}, "model.decoder.activation"),
        ({"position": "x"}, "model.decoder.position"),
        ({"refinement": "x"}, "model.decoder.refinement"),
    ],
)
def test_errors_name_the_key(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ModelConfigError) as error:
        tiny_decoder(**changes)
    assert error.value.key == key


SPEC_245 = OutputSpec(num_classes=245, bos_id=0, eos_id=1, pad_id=2, max_length=232)
SATRN: dict[str, Any] = {
    "embed_dim": 128, "num_heads": 8, "mlp_dim": 512, "depth": 3, "extra_embeddings": 1, "norm": "post",
    "attention_scale": "width",
}  # fmt: skip
VIT: dict[str, Any] = {
    "embed_dim": 256, "num_heads": 8, "head_dim": 64, "mlp_dim": 1024, "depth": 4, "position": "learned",
    "max_positions": 500, "embedding_scale": False, "qkv_bias": False, "attention_output": "gated",
    "feed_forward": "gated", "activation": "gelu",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "memory_dim", "layer", "total"),
    [
        (SATRN, 300, 308_608, 988_917),
        (SATRN, 256, 297_344, 955_125),
        (SATRN | {"depth": 6}, 256, 297_344, 1_847_157),
        (SATRN | {"norm": "rezero"}, 300, 307_841, 986_616),
        (VIT, 256, 655_872 + 655_872 + 788_736 + 1_536, 8_662_261),
    ],
)
def test_counts(changes: dict[str, Any], memory_dim: int, layer: int, total: int) -> None:
    decoder = build_decoder(DecoderConfig(**changes), memory_dim, SPEC_245)
    assert isinstance(decoder, TransformerDecoder)
    assert count(decoder.layers[0]) == layer
    assert count(decoder) == total


def test_no_decoder() -> None:
    decoder = tiny_decoder(name="none")
    memory = random_memory(2)
    assert count(decoder) == 0 and decoder(random_tokens(2, 4), memory) is None
    with pytest.raises(ModelConfigError, match=r"model\.decoder\.name: none"):
        decoder.start(memory, 4)
    with pytest.raises(ModelConfigError, match=r"model\.decoder\.name: none"):
        decoder.step(torch.zeros(2, dtype=torch.long), tiny_decoder().start(memory, 4))


def test_decoding_copies_no_history() -> None:
    """The store that the beams share stays where it is when they are reordered."""
    decoder, memory = tiny_decoder(), Memory(torch.randn(1, 15, check.MEMORY_DIM), None, check.SIZE)
    assert isinstance(decoder, TransformerDecoder)
    with torch.inference_mode():
        cache = decoder.start(memory, 5, 2)
        decoder.step(torch.tensor([3, 4]), cache)
        before = [(layer.target.keys.data_ptr(), layer.target.keys[..., :2].clone()) for layer in cache.layers]
        cache.reorder(torch.tensor([1, 1]))
        for layer, (pointer, keys) in zip(cache.layers, before, strict=True):
            assert layer.target.keys.data_ptr() == pointer
            assert torch.equal(layer.target.keys[..., :2], keys)
