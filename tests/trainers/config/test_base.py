"""Files that build on others: the nearest states what holds, names are seen from where they stand, circles are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.presets import load_named
from trainers.config.load import ConfigError, load_config


def test_a_chain_of_bases_is_merged_farthest_first(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "mine.yaml").write_text("base: satrn_small\nencoder: {depth: 2}\n")
    (tmp_path / "common" / "first.yaml").write_text(
        "epochs: 3\nseed: 1\nmodel: mine.yaml\noptim: {lr: 0.1, freeze: {a: 1}, no_decay: [x, y]}\ndecoding: {method: beam}\n"
    )
    (tmp_path / "second.yaml").write_text("base: common/first.yaml\nseed: 2\noptim: {freeze: {b: 2}, no_decay: [z]}\n")
    (tmp_path / "third.yaml").write_text("base: second.yaml\nname: third\nmodel: {encoder: {norm: post}}\n")
    config = load_config(tmp_path / "third.yaml", ["decoding.beam_size=9"])
    assert (config.name, config.seed, config.epochs, config.optim.lr) == ("third", 2, 3, 0.1)
    assert config.optim.freeze == {"a": 1, "b": 2} and config.optim.no_decay == ["z"], "mappings are merged, lists replaced"
    assert (config.model.encoder.depth, config.model.encoder.norm) == (2, "post")
    assert (config.decoding.method, config.decoding.beam_size) == ("beam", 9)
    (tmp_path / "fourth.yaml").write_text("base: third.yaml\nmodel: ctc\n")
    assert load_config(tmp_path / "fourth.yaml").model == load_named("ctc").config, "another model leaves nothing of the base's"


@pytest.mark.parametrize(
    ("base", "parts"),
    [
        ("run.yaml", ["builds on itself", "run.yaml' -> '"]),
        ("sub/../run.yaml", ["builds on itself"]),
        ("back.yaml", ["builds on itself", "run.yaml' -> '", "back.yaml' -> '"]),
        ("none.yaml", ["No configuration file", "none.yaml", "It is the base of", "run.yaml"]),
        ("broken.yaml", ["broken.yaml' is not valid YAML", "It is the base of"]),
        ("formulas", ["base=formulas", "run.yaml", "the path of a YAML file"]),
        ("[a.yaml]", ["base=[a.yaml]", "the path of a YAML file"]),
        ('"a\\0b.yaml"', ["No configuration file"]),
        ("wrong.yaml", ["'optim.lrr'", "wrong.yaml", "'epoch'", "run.yaml", "seed=-1"]),
    ],
)
def test_a_base_that_is_wrong_is_named(base: str, parts: list[str], tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "back.yaml").write_text("base: run.yaml\n")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    (tmp_path / "wrong.yaml").write_text("optim: {lrr: 1}\n")
    (tmp_path / "run.yaml").write_text(f"base: {base}\nepoch: 3\nseed: -1\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "run.yaml")
    message = str(caught.value)
    assert all(part in message for part in parts) and "\n" not in message, message
