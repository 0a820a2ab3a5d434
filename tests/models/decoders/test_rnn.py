"""The attention RNN: every switch alone, its definition, cached decoding, beams, counts."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.config import DecoderConfig, RnnConfig
from models.decoders import Decoder, RnnDecoder, build_decoder
from models.decoders.cells import LstmCell, NormedCell
from models.errors import ModelConfigError
from models.types import OutputSpec
from tests.support.decoders import (
    TINY,
    DecoderContract,
    count,
    distinct,
    literal_values,
    random_memory,
    random_tokens,
    tiny_decoder,
)


def tiny_with(**changes: Any) -> RnnConfig:
    return replace(TINY.rnn, **changes)


SWITCHES: list[dict[str, Any]] = [
    {},
    *({"rnn": tiny_with(**{name: value})} for name, value in literal_values(RnnConfig)),
    *({"init": value} for name, value in literal_values(DecoderConfig) if name == "init"),
    {"rnn": tiny_with(attention_bias=False)},
    {"rnn": tiny_with(input_drop_rate=0.3, output_drop_rate=0.2)},
    {"rnn": tiny_with(state_norm="layer", state_drop_rate=0.3)},
    {"rnn": tiny_with(cell="gru", state_norm="layer"), "depth": 3},
    {"depth": 2},
    {"extra_embeddings": 1},
]


def tiny_rnn(seed: int = 0, **changes: Any) -> RnnDecoder:
    decoder = tiny_decoder(seed, **{"name": "rnn", "depth": 1} | changes)
    assert isinstance(decoder, RnnDecoder)
    return decoder


@pytest.fixture(params=distinct(SWITCHES), ids=str)
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return tiny_rnn(**request.param)


class TestRnnDecoder(DecoderContract):
    """The contract, with every switch."""


def lstm(cell: nn.LSTMCell, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Hochreiter and Schmidhuber 1997 with forget gates, in torch's order of gates."""
    gates = x @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T + cell.bias_hh
    take, forget, new, give = gates.chunk(4, -1)
    c = forget.sigmoid() * c + take.sigmoid() * new.tanh()
    return give.sigmoid() * c.tanh(), c


@pytest.mark.parametrize("normed", [False, True])
def test_the_definition(normed: bool) -> None:
    decoder = tiny_rnn(rnn=tiny_with(state_norm="layer" if normed else "none"))
    memory, tgt_in = random_memory(3, masked=True), random_tokens(3, 5)
    attention, cell = decoder.attention, decoder.cells.cells[0]
    assert isinstance(cell, NormedCell) and isinstance(cell.cell, LstmCell)
    h = c = torch.zeros(3, 7)
    expected = []
    for tokens in tgt_in.unbind(1):
        energy = attention.score((attention.key(memory.tokens) + attention.query(h)[:, None]).tanh())[..., 0]
        assert memory.mask is not None
        weights = energy.masked_fill(~memory.mask, -torch.inf).softmax(1)
        context = (weights[:, :, None] * memory.tokens).sum(1)
        h, c = lstm(cell.cell, torch.cat([decoder.embedding(tokens), context], 1), h, c)
        if normed:
            h, c = (norm(state) for norm, state in zip(cell.norms, (h, c), strict=True))
        expected.append(decoder.head(h))
    torch.testing.assert_close(decoder(tgt_in, memory), torch.stack(expected, 1), rtol=1e-4, atol=1e-5)


def test_memory_is_projected_once_per_image() -> None:
    decoder, memory = tiny_rnn(), random_memory(2)
    calls: list[torch.Size] = []
    decoder.attention.key.register_forward_hook(lambda module, inputs, output: calls.append(output.shape))
    decoder.train()(random_tokens(2, 8), memory).sum().backward()
    assert calls == [torch.Size([2, 15, 5])]
    cache = decoder.start(memory, 8, 4)
    for _ in range(8):
        decoder.step(torch.zeros(8, dtype=torch.long), cache)
        cache.reorder(torch.arange(8))
    assert calls == [torch.Size([2, 15, 5])] * 2


def test_dropout_acts_in_training_only() -> None:
    rates: list[dict[str, Any]] = [
        {"input_drop_rate": 0.5},
        {"output_drop_rate": 0.5},
        {"state_norm": "layer", "state_drop_rate": 0.5},
    ]
    memory, tgt_in = random_memory(2), random_tokens(2, 5)
    for rate in rates:
        decoder = tiny_rnn(rnn=tiny_with(**rate))
        assert torch.equal(decoder(tgt_in, memory), decoder(tgt_in, memory))
        decoder.train()
        assert not torch.equal(decoder(tgt_in, memory), decoder(tgt_in, memory))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"depth": 0}, "model.decoder.depth"),
        ({"rnn": tiny_with(cell="rnn")}, "model.decoder.rnn.cell"),
        ({"rnn": tiny_with(state_norm="batch")}, "model.decoder.rnn.state_norm"),
    ],
)
def test_errors_name_the_key(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ModelConfigError) as error:
        tiny_rnn(**changes)
    assert error.value.key == key


ASTER = DecoderConfig(
    name="rnn",
    embed_dim=128,
    depth=1,
    extra_embeddings=1,
    rnn=RnnConfig(hidden_dim=128, attention_dim=128, attention_bias=False),
)
LINES = DecoderConfig(name="rnn", embed_dim=64, depth=1, rnn=RnnConfig(hidden_dim=256, attention_dim=256))


def lines(**changes: Any) -> DecoderConfig:
    return replace(LINES, rnn=replace(LINES.rnn, **changes))


@pytest.mark.parametrize(
    ("config", "memory_dim", "classes", "total"),
    [
        (ASTER, 512, 245, 539_509),
        (replace(ASTER, rnn=replace(ASTER.rnn, state_norm="layer")), 1024, 245, 867_701),
        (LINES, 256, 81, 749_714),
        (lines(cell="gru"), 256, 81, 601_746),
        # The counts of whole networks, less a backbone of 634,496 and a gate of 134,144 (with 384 channels: of 667,392 and
        # 299,520).
        (lines(attention_dim=192), 256, 81, 1_485_394 - 634_496 - 134_144),
        (lines(attention_dim=384), 256, 81, 1_584_274 - 634_496 - 134_144),
        (lines(attention_dim=512), 256, 81, 1_650_194 - 634_496 - 134_144),
        (LINES, 384, 81, 1_880_466 - 667_392 - 299_520),
    ],
)
def test_counts(config: DecoderConfig, memory_dim: int, classes: int, total: int) -> None:
    spec = OutputSpec(num_classes=classes, bos_id=0, eos_id=1, pad_id=2, max_length=98)
    assert count(build_decoder(config, memory_dim, spec)) == total


def test_counts_of_the_cells() -> None:
    spec = OutputSpec(num_classes=81, bos_id=0, eos_id=1, pad_id=2, max_length=98)
    for config, total in ((LINES, 591_872), (lines(cell="gru"), 443_904)):
        decoder = build_decoder(config, 256, spec)
        assert isinstance(decoder, RnnDecoder)
        assert count(decoder.cells) == total
