"""Each family learns: 64 formulas are read without a fault, greedily, by the weights that saw them."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from benchmarks.memorize import memorize
from data_pipeline.dataset.image_policy import ImagePolicy
from models import ModelConfig
from models.presets import load_named
from trainers.optim import OptimConfig, ScheduleConfig

POLICY = ImagePolicy(64, 192)
SMALLER = ImagePolicy(32, 96)  # for the backbone that computes most at full resolution, and for what is to be quick


def small(name: str) -> ModelConfig:
    """A named configuration in a size that a CPU trains within a minute, without dropout."""
    config = load_named(name).config
    backbone, encoder, decoder = config.backbone, config.encoder, config.decoder
    dim = 512 if backbone.name == "aster_cnn" else 128
    return replace(
        config,
        backbone=replace(
            backbone,
            small_cnn=replace(backbone.small_cnn, width=16),
            timm=replace(backbone.timm, name="resnet18", neck_channels=None, stride=16),
            densenet=replace(backbone.densenet, stem_channels=16, depth=4, growth=12, bottleneck=32, drop_rate=0.0),
            convnet6=replace(backbone.convnet6, drop_rate=0.0, gate_drop_rate=0.0),
            resnetv2=replace(backbone.resnetv2, depths=[1, 1, 1]),
            swin=replace(
                backbone.swin,
                drop_path_rate=0.0,
                options={"embed_dim": 48, "depths": [2, 2, 2, 2], "num_heads": [2, 4, 8, 16]},
            ),
        ),
        encoder=replace(
            encoder,
            embed_dim=dim,
            depth=min(encoder.depth, 2),
            num_heads=4,
            head_dim=None,
            mlp_dim=256,
            bilstm=replace(encoder.bilstm, hidden_dim=128, drop_rate=0.0),
            position_drop_rate=0.0,
            drop_rate=0.0,
            output_drop_rate=0.0,
            mlp_drop_rate=0.0,
            init="xavier",
        ),
        decoder=replace(
            decoder,
            embed_dim=128,
            depth=min(decoder.depth, 2),
            num_heads=4,
            head_dim=None,
            mlp_dim=256,
            drop_rate=0.0,
            mlp_drop_rate=0.0,
            init="xavier" if decoder.name == "transformer" else "default",
            rnn=replace(decoder.rnn, output_drop_rate=0.0, state_drop_rate=0.0),
        ),
    )


def joint() -> ModelConfig:
    """A decoder and a CTC head on one encoder."""
    config = small("satrn_small")
    return replace(config, ctc=replace(config.ctc, head="linear"))


def rectified() -> ModelConfig:
    """Behind the spatial transformer."""
    config = small("satrn_small")
    return replace(config, rectifier=replace(config.rectifier, name="tps"))


def on_small_cnn(name: str) -> ModelConfig:
    """Behind the backbone for CPUs."""
    config = small(name)
    return replace(config, backbone=replace(config.backbone, name="small_cnn"))


QUICK: dict[str, Callable[[], ModelConfig]] = {
    "satrn_small": lambda: small("satrn_small"),
}
SLOW: dict[str, Callable[[], ModelConfig]] = {
    "attention LSTM": lambda: on_small_cnn("seq2seq_light"),
    "ctc": lambda: small("ctc"),
    "seq2seq_light": lambda: small("seq2seq_light"),
    "aster": lambda: small("aster"),
    "aster_blstm": lambda: small("aster_blstm"),
    "aster_efficientnetv2": lambda: small("aster_efficientnetv2"),
    "satrn_baseline": lambda: small("satrn_baseline"),
    "satrn_final": lambda: small("satrn_final"),
    "satrn_3": lambda: small("satrn_3"),
    "satrn_rezero": lambda: small("satrn_rezero"),
    "vit": lambda: small("vit"),
    "swin": lambda: small("swin"),
    "seq2seq": lambda: small("seq2seq"),
    "seq2seq_light_gates_1": lambda: small("seq2seq_light_gates_1"),
    "comer": lambda: small("comer"),
    "joint": joint,
    "rectified": rectified,
}

# (learning rate, most epochs). At 1e-3 a Swin knew the texts apart from their images (ln 64 nats a text) after 50 epochs, and
# had not begun to look at images after 100.
RECIPES = {"swin": (3e-4, 250), "seq2seq": (1e-3, 250), "aster_efficientnetv2": (1e-3, 250)}


def check(config: ModelConfig, lr: float = 1e-3, epochs: int = 150, smaller: bool = False) -> None:
    """All 64 formulas are known in the end."""
    policy = SMALLER if smaller or config.backbone.name == "aster_cnn" else POLICY
    optim = OptimConfig(lr=lr, weight_decay=0.0, schedule=ScheduleConfig("cosine", warmup_ratio=0.05))
    # Of a text without a decoder, each token needs a column of four pixels, and its double a blank between.
    pixels_per_token = 8 if config.decoder.name == "none" else 0
    seen = None
    for seen in memorize(config, policy, epochs=epochs, optim=optim, pixels_per_token=pixels_per_token):
        print(seen, flush=True)
    assert seen is not None and seen.exact_match == 1


@pytest.mark.parametrize("name", QUICK)
def test_memorizes_64_formulas(name: str) -> None:
    check(QUICK[name](), smaller=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SLOW)
def test_memorizes_64_formulas_too(name: str) -> None:
    check(SLOW[name](), *RECIPES.get(name, ()))
