"""The named configurations: parameters to the digit, and names and shapes in their state dicts.

A change of the latter would make their checkpoints unreadable; where one is meant, `python -m tests.support.pins` updates them.
"""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from models.backbones import Backbone, build_backbone
from models.config import BackboneConfig
from models.presets import load_named, names
from models.summary.count import build_on_meta, count_model
from tests.support.claims import claim
from tests.support.pins import PINS, pin

# What each source counts: the rows with batch norm of the handwritten-line system count the state dict (their second
# number is what is trained), all others parameters. `backbone and encoder` and `decoder` where the source splits them.
LINES = {
    "seq2seq_bn": (1_782_936, 1_781_202),
    "seq2seq": (1_779_474, 1_779_474),
    "seq2seq_light_bn": (1_387_672, 1_385_938),
    "seq2seq_light_no_position": (1_387_672, 1_385_938),
    "seq2seq_light": (1_384_210, 1_384_210),
    "seq2seq_light_gru": (1_236_242, 1_236_242),
    "seq2seq_light_gates_1": (1_518_354, 1_518_354),
    "seq2seq_light_gates_2": (1_652_498, 1_652_498),
    "seq2seq_light_gates_3": (1_786_642, 1_786_642),
    "seq2seq_light_separable_1": (1_014_252, 1_014_252),
    "seq2seq_light_separable_2": (1_143_782, 1_143_782),
    "seq2seq_light_separable_3": (1_273_312, 1_273_312),
    "seq2seq_light_separable_4": (1_402_842, 1_402_842),
    "seq2seq_light_backbone_384": (1_880_466, 1_880_466),
    "seq2seq_light_attention_192": (1_485_394, 1_485_394),
    "seq2seq_light_attention_384": (1_584_274, 1_584_274),
    "seq2seq_light_attention_512": (1_650_194, 1_650_194),
    "seq2seq_light_height_4": (1_518_354, 1_518_354),
    "seq2seq_light_height_8": (1_518_354, 1_518_354),
    "seq2seq_light_height_8_of_128": (1_518_354, 1_518_354),
    "ctc": (1_728_721, 1_728_721),
    "ctc_2_layers": (3_305_681, 3_305_681),
}
FORMULAS = {  # parameters; of backbone and encoder; of the decoder
    "aster": (6_090_869, 5_551_360, 539_509),
    "aster_blstm": (10_623_605, 5_551_360 + 4_204_544, 867_701),
    "satrn_baseline": (6_864_057, 5_875_140, 988_917),
    "satrn_efficient": (122_965_977, 121_977_060, 988_917),
    "satrn_3": (103_934_869, 102_979_744, 955_125),
    "satrn_4": (103_934_869, 102_979_744, 955_125),
    "satrn_adamp": (103_934_869, 102_979_744, 955_125),
    "satrn_final": (103_934_869, 102_979_744, 955_125),
    "satrn_extension": (104_826_901, 102_979_744, 1_847_157),
    "satrn_v6": (52_555_461, 50_708_304, 1_847_157),
    # 26,615,862 in the source, with 6 x 360,900 in linear maps that nothing reads.
    "satrn_rezero": (26_615_862 - 2_165_400, 25_629_246 - 2_165_400, 986_616),
    "vit": (21_454_005, 12_791_744, 8_662_261),
    "swin": (204_042_121, 195_379_860, 8_662_261),
}
OWN = {"satrn_small", "comer", "aster_efficientnetv2"}  # whose sources state no count


FEATURE_MAPS = {
    "satrn_baseline": (300, 16, 64),
    "satrn_final": (256, 4, 16),
    "aster": (512, 7, 129),
    "vit": (256, 8, 32),
    "seq2seq": (256, 1, 128),
    "seq2seq_light_gates_2": (256, 1, 112),
    "seq2seq_light_height_4": (256, 4, 120),
    "seq2seq_light_height_8": (256, 8, 120),
    "seq2seq_light_height_8_of_128": (256, 8, 120),
    "comer": (256, 8, 32),
}


@pytest.fixture(scope="module", autouse=True)
def shared_backbones() -> Iterator[None]:
    """Builds equal backbones once: five configurations have the same ResNetRS152, which takes a second without memory, too."""
    built: dict[str, Backbone] = {}

    def build(config: BackboneConfig, in_channels: int, out_channels: int) -> Backbone:
        key = f"{config} {in_channels} {out_channels}"
        if key not in built:
            built[key] = build_backbone(config, in_channels, out_channels)
        return built[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.recognizer.build_backbone", build)
        yield


def test_every_named_configuration_is_counted() -> None:
    assert set(LINES) | set(FORMULAS) | OWN == set(names())
    assert set(FEATURE_MAPS) < set(names())


@pytest.mark.parametrize("name", names())
def test_named_configuration(name: str) -> None:
    named = load_named(name)
    model = build_on_meta(named)
    with claim("names and shapes in the state dict are as pinned"):
        assert pin(model) == json.loads(PINS.read_text())[name]
    if name not in FEATURE_MAPS:  # the width changes no count of parameters, but the steps of an LSTM
        named = replace(named, reference=replace(named.reference, width=64))
    counts = count_model(model, named, tokens=2)
    print(f"\n{name:32} {counts.parameters:12,} {counts.state_dict_elements:12,}", end="")  # the table that `pytest -s` shows
    if name in LINES:
        with claim("a handwritten-line recognizer has the parameters of its source"):
            assert (counts.state_dict_elements, counts.parameters) == LINES[name]
    if name in FORMULAS:
        with claim("a formula recognizer has the parameters of its source"):
            encoding = sum(part.parameters for key, part in counts.parts.items() if key not in ("decoder", "ctc"))
            assert (counts.parameters, encoding, counts.parts["decoder"].parameters) == FORMULAS[name]
    if name in FEATURE_MAPS:
        with claim("the feature map has the size that it should have"):
            assert counts.feature_map == FEATURE_MAPS[name]
