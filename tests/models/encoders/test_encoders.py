"""Every encoder, and every value of every switch of theirs alone."""

from dataclasses import replace
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import Tensor, nn

from models.config import BiLstmConfig, EncoderConfig
from models.encoders import BiLstmEncoder, Encoder, NoEncoder, TransformerEncoder, build_encoder
from models.errors import ModelConfigError
from models.layers.initialization import INITIALIZERS
from models.layers.padding import columns_mask
from models.types import Memory
from tests.support.claims import claim

TINY = EncoderConfig(
    embed_dim=12, depth=3, num_heads=3, mlp_dim=10, position_rows=4, position_columns=9, bilstm=BiLstmConfig(hidden_dim=5)
)
# Where every part of a transformer layer is another than the default.
OTHER = replace(
    TINY,
    projections="separate",
    head_dim=5,
    attention="residual",
    attention_scale="width",
    feed_forward="conv",
    norm="post",
    position="adaptive",
)


def variants() -> dict[str, EncoderConfig]:
    """By name: two structures with each switch at each of its values, and the other encoders with those they have."""
    found = {"tiny": TINY, "other": OTHER}
    switches: list[tuple[str, Any]] = [("head_dim", 3), ("head_dim", None), ("depth", 0)]
    for name, hint in get_type_hints(EncoderConfig).items():
        switches += [(name, value) for value in get_args(hint) if isinstance(value, str)]
    for name, value in switches:
        for structure, config in (("tiny", TINY), ("other", OTHER)):
            found[f"{structure}-{name}={value}"] = replace(config, **{name: value})
    position: Any
    for position in ("sinusoid_2d", "learned"):
        found[f"class_token-{position}"] = replace(TINY, class_token=True, position=position)
    found["class_token-residual"] = replace(TINY, class_token=True, attention="residual")
    for position in ("none", "sinusoid_1d", "sinusoid_2d", "learned", "adaptive", "adaptive_whole"):
        found[f"none-position={position}"] = replace(TINY, name="none", position=position)
        found[f"bilstm-position={position}"] = replace(TINY, name="bilstm", position=position)
    found["bilstm-norm=layer"] = replace(TINY, name="bilstm", bilstm=BiLstmConfig(5, norm="layer"))
    found["bilstm-depth=2"] = replace(TINY, name="bilstm", bilstm=BiLstmConfig(5, depth=2))
    unique: dict[str, EncoderConfig] = {}
    for name, config in found.items():  # each switch has a value that is its structure's
        if config not in unique.values():
            unique[name] = config
    return unique


VARIANTS = variants()
COLUMNS = torch.tensor([9, 4, 1])


def features_and_mask() -> tuple[Tensor, Tensor]:
    """Features (3, 12, 4, 9) and their mask (3, 4, 9)."""
    features = torch.randn(3, 12, 4, 9, generator=torch.Generator().manual_seed(0))
    return features, columns_mask(COLUMNS, 9)[:, None].expand(-1, 4, -1)


def lively(config: EncoderConfig) -> Encoder:
    """An encoder all of whose parts show in its output: alphas and biases are not 0."""
    torch.manual_seed(0)
    return enlivened(build_encoder(config))


def enlivened(encoder: Encoder) -> Encoder:
    """The encoder with all of its parameters shifted at random."""
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_variant(config: EncoderConfig) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(config)
    with claim("parameters are stored once"):
        pointers = [tensor.data_ptr() for tensor in encoder.state_dict().values() if tensor.numel()]
        assert len(set(pointers)) == len(pointers)
    with claim("every parameter gets a finite gradient from its initialization"):
        check_gradients(encoder)
    lively = enlivened(encoder)
    with claim("every parameter gets a finite gradient where none is 0"):
        check_gradients(lively)
    with claim("a padded batch equals its members"):
        check_members(lively.eval())
    with claim("half precision is finite and near"):
        check_half_precision(lively.train())


def check_gradients(encoder: Encoder) -> None:
    features, mask = features_and_mask()
    features.requires_grad_()
    for given in (None, mask):
        encoder.zero_grad()
        memory = encoder(features, given)
        assert memory.tokens.shape == (3, memory.prefix + 36, encoder.out_dim)
        assert memory.size == (4, 9)
        (memory.tokens * torch.randn_like(memory.tokens)).sum().backward()
        for name, parameter in encoder.named_parameters():
            assert parameter.grad is not None, f"{name} takes no part in the forward pass"
            assert parameter.grad.isfinite().all(), name


def check_members(encoder: Encoder) -> None:
    features, mask = features_and_mask()
    disturbed = torch.where(mask[:, None], features, torch.randn(3, 12, 4, 9))
    with torch.no_grad():
        memory = encoder(disturbed, mask)
        for row, columns in enumerate(COLUMNS.tolist()):
            alone = encoder(features[row : row + 1, :, :, :columns])
            assert memory.mask is not None and alone.mask is None
            torch.testing.assert_close(memory.tokens[row][memory.mask[row]], alone.tokens[0], rtol=1e-4, atol=1e-5)


def check_half_precision(encoder: Encoder) -> None:
    features, mask = features_and_mask()
    with torch.no_grad():
        exact = encoder(features, mask).tokens
    features.requires_grad_()
    encoder.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        tokens = encoder(features, mask).tokens
        tokens.float().square().mean().backward()
    assert tokens.isfinite().all()
    torch.testing.assert_close(tokens.float(), exact, rtol=0.1, atol=0.2)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_no_encoder_gives_the_features_row_by_row() -> None:
    features, mask = features_and_mask()
    encoder = build_encoder(replace(TINY, name="none", position="none"))
    memory = encoder(features, mask)
    assert isinstance(encoder, NoEncoder)
    assert torch.equal(memory.tokens[:, 2 * 9 + 5], features[:, :, 2, 5])
    assert memory.mask is not None and torch.equal(memory.mask.view(3, 4, 9), mask)
    assert memory.prefix == 0 and encoder.out_dim == 12


def test_bilstm_reads_row_by_row() -> None:
    encoder: Any = lively(replace(TINY, name="bilstm", position="none", bilstm=BiLstmConfig(5, norm="layer"))).eval()
    features, mask = features_and_mask()
    expected = encoder.norm(encoder.lstm(torch.stack([features[:, :, r, c] for r in range(4) for c in range(9)], 1))[0])
    memory: Memory = encoder(features)
    torch.testing.assert_close(memory.tokens, expected)
    assert memory.tokens.shape[-1] == encoder.out_dim == 10
    all_true = encoder(features, torch.ones_like(mask))
    torch.testing.assert_close(all_true.tokens, expected)


def test_bilstm_dropout_acts_in_training_only() -> None:
    features, _ = features_and_mask()
    encoder = build_encoder(replace(TINY, name="bilstm", bilstm=BiLstmConfig(5, drop_rate=0.5))).train()
    assert encoder(features).tokens.eq(0).any()
    assert not encoder.eval()(features).tokens.eq(0).any()


def test_class_token_belongs_to_no_place() -> None:
    config = replace(TINY, class_token=True, position="learned", depth=0, norm="post")
    encoder: Any = build_encoder(config)
    features, mask = features_and_mask()
    memory = encoder(features, mask)
    assert memory.prefix == 1 and memory.tokens.shape == (3, 37, 12)
    assert memory.mask[:, 0].all() and torch.equal(memory.mask[:, 1:], mask.flatten(1))
    torch.testing.assert_close(memory.tokens[:, 0], encoder.class_token.parts.sum(0).expand(3, -1))
    assert encoder(features).mask is None


@pytest.mark.parametrize("feed_forward", ["conv", "separable"])
def test_class_token_has_no_place_on_a_map(feed_forward: Any) -> None:
    with pytest.raises(ModelConfigError, match=r"model\.encoder\.class_token: .*model\.encoder\.feed_forward"):
        build_encoder(replace(TINY, class_token=True, feed_forward=feed_forward))


def test_rezero_starts_as_the_identity() -> None:
    encoder: Any = build_encoder(replace(OTHER, norm="rezero", position="none"))
    features, _ = features_and_mask()
    assert torch.equal(encoder(features).tokens, features.flatten(2).transpose(1, 2))
    assert [name for name, _ in encoder.named_parameters() if "alpha" in name] == [
        f"layers.{layer}.residual.alpha" for layer in range(3)
    ]
    assert not [module for module in encoder.modules() if isinstance(module, nn.LayerNorm)]


@pytest.mark.parametrize("norm", ["pre", "post", "rezero"])
def test_layer_is_its_formula(norm: Any) -> None:
    encoder: Any = lively(replace(TINY, norm=norm, depth=1)).eval()
    layer = encoder.layers[0]
    x = torch.randn(2, 36, 12)

    def attend(y: Tensor) -> Tensor:
        return layer.attention(y, None, None)[0]

    def feed(y: Tensor) -> Tensor:
        return layer.feed_forward(y, (4, 9), None)

    if norm == "rezero":
        alpha = layer.residual.alpha
        middle = x + alpha * attend(x)
        expected = middle + alpha * feed(middle)
    else:
        first, second = layer.residual.norms
        if norm == "pre":
            middle = x + attend(first(x))
            expected = middle + feed(second(middle))
        else:
            middle = first(x + attend(x))
            expected = second(middle + feed(middle))
    torch.testing.assert_close(layer(x, None, None, (4, 9), None)[0], expected)


def test_residual_scores_go_from_layer_to_layer() -> None:
    config = replace(TINY, attention="residual", depth=2)
    encoder: Any = lively(config).eval()
    standard: Any = build_encoder(replace(config, attention="standard")).eval()
    standard.load_state_dict(encoder.state_dict())
    features, _ = features_and_mask()
    x = features.flatten(2).transpose(1, 2)
    first, scores = encoder.layers[0](x, None, None, (4, 9), None)
    torch.testing.assert_close(first, standard.layers[0](x, None, None, (4, 9), None)[0], rtol=1e-4, atol=1e-5)
    kept = scores.clone()
    _, summed = encoder.layers[1](first, None, scores, (4, 9), None)
    alone = encoder.layers[1](first, None, None, (4, 9), None)[1]
    torch.testing.assert_close(summed, kept + alone)


def test_initializers() -> None:
    torch.manual_seed(0)
    made: dict[str, tuple[nn.Linear, nn.Conv2d, nn.Embedding]] = {}
    for name, initialize in INITIALIZERS.items():
        torch.manual_seed(1)
        made[name] = (nn.Linear(100, 300), nn.Conv2d(50, 20, 3), nn.Embedding(200, 64))
        for module in made[name]:
            module.apply(initialize)
    for linear, conv, _ in (made[name] for name in ("normal", "xavier")):
        assert linear.bias.eq(0).all()
        assert torch.equal(conv.weight, made["default"][1].weight)
    linear, conv, embedding = made["normal"]
    assert linear.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert embedding.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert made["xavier"][0].weight.abs().max().item() == pytest.approx((6 / 400) ** 0.5, rel=0.01)
    linear, conv, embedding = made["kaiming"]
    assert linear.weight.abs().max().item() == pytest.approx((6 / 100) ** 0.5, rel=0.01)
    assert conv.weight.abs().max().item() == pytest.approx((6 / 450) ** 0.5, rel=0.01)
    assert linear.bias.eq(0).all() and conv.bias is not None and conv.bias.eq(0).all()
    assert embedding.weight.std().item() == pytest.approx(64**-0.5, rel=0.02)
    assert made["default"][0].bias.ne(0).any()


BASELINE = EncoderConfig(
    embed_dim=300, depth=6, num_heads=8, head_dim=37, mlp_dim=600, projections="separate", attention_scale="width", norm="post"
)
FINAL = EncoderConfig(
    embed_dim=256, depth=6, num_heads=8, mlp_dim=512, attention="residual", feed_forward="conv", position="adaptive_whole",
    norm="post",
)  # fmt: skip
REZERO = replace(BASELINE, norm="rezero", feed_forward="conv", position="adaptive_whole", position_projection="none")
VIT = EncoderConfig(
    embed_dim=256, depth=4, num_heads=8, mlp_dim=1024, class_token=True, activation="gelu", position="learned",
    position_rows=8, position_columns=32,
)  # fmt: skip


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (BASELINE, 45_300 + 6 * 718_488),
        (FINAL, 296_192 + 6 * 2_624_256),
        (replace(FINAL, mlp_dim=1024), 296_192 + 6 * 4_984_064),
        (REZERO, 361_200 + 6 * (356_388 + 3_240_900 + 1)),
        (VIT, 256 + 65_792 + 4 * 789_760 + 512),
        (EncoderConfig(name="bilstm", embed_dim=256, position="none", bilstm=BiLstmConfig(128)), 395_264),
        (EncoderConfig(name="bilstm", embed_dim=256, position="none", bilstm=BiLstmConfig(256)), 1_052_672),
        (EncoderConfig(name="bilstm", embed_dim=256, position="none", bilstm=BiLstmConfig(256, depth=2)), 2_629_632),
        (EncoderConfig(name="bilstm", embed_dim=512, position="none", bilstm=BiLstmConfig(512)), 4_202_496),
        (EncoderConfig(name="bilstm", embed_dim=512, position="none", bilstm=BiLstmConfig(512, norm="layer")), 4_204_544),
        (EncoderConfig(name="none", embed_dim=256, position="sinusoid_1d", position_projection="none"), 0),
    ],
)
def test_parameters(config: EncoderConfig, parameters: int) -> None:
    with torch.device("meta"):
        encoder = build_encoder(config)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == parameters


@pytest.mark.parametrize(
    ("config", "parameters"),
    [(BASELINE, 718_488), (FINAL, 2_624_256), (replace(FINAL, mlp_dim=1024), 4_984_064), (VIT, 789_760)],
)
def test_parameters_of_a_layer(config: EncoderConfig, parameters: int) -> None:
    with torch.device("meta"):
        encoder = build_encoder(config)
    assert isinstance(encoder, TransformerEncoder)
    assert {sum(p.numel() for p in layer.parameters()) for layer in encoder.layers} == {parameters}


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"name": "lstm"}, "model.encoder.name"),
        ({"name": "bilstm", "bilstm": BiLstmConfig(0)}, "model.encoder.bilstm.hidden_dim"),
        ({"name": "bilstm", "bilstm": BiLstmConfig(5, depth=0)}, "model.encoder.bilstm.depth"),
        ({"name": "bilstm", "bilstm": BiLstmConfig(5, norm="batch")}, "model.encoder.bilstm.norm"),  # type: ignore[arg-type]
        ({"attention": "sparse"}, "model.encoder.attention"),
        ({"feed_forward": "gated"}, "model.encoder.feed_forward"),
        ({"activation": "tanh"}, "model.encoder.activation"),
        ({"position": "rotary"}, "model.encoder.position"),
        ({"position_projection": "conv"}, "model.encoder.position_projection"),
        ({"norm": "middle"}, "model.encoder.norm"),
        ({"init": "orthogonal"}, "model.encoder.init"),
        ({"embed_dim": 15}, "model.encoder.embed_dim"),
        ({"num_heads": 5}, "model.encoder.embed_dim"),
    ],
)
def test_error_names_the_key(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ModelConfigError) as caught:
        build_encoder(replace(TINY, **settings))
    assert caught.value.key == key


def test_widths_that_only_halves_cannot_serve() -> None:
    assert isinstance(build_encoder(replace(TINY, name="bilstm", embed_dim=15, position="sinusoid_1d")), BiLstmEncoder)
