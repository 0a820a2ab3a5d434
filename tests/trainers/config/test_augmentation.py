"""`stream.augmentation` as a configuration has it: written in two ways, stored, read again equal, and fixed for a run."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import yaml

from data_pipeline.augmentation.config import chain_of
from tests.support.overrides import SMALL
from trainers.config.load import ConfigError, config_from_dict, load_config, merge_overrides, to_yaml
from trainers.run.resume import change_config

WRITTEN = """
stream:
  augmentation:
  - rotate_90
  - cutout: {size: 3e-1}
  - light
  - albumentations:
    - GaussNoise: {std_range: [0.1, 0.2], per_channel: false}
"""
OVERRIDE = (
    "stream.augmentation=[rotate_90,{cutout:{size:0.3}},light,"
    "{albumentations:[{GaussNoise:{std_range:[0.1,0.2],per_channel:false}}]}]"
)


def test_a_chain_is_written_stored_and_read_again_equal(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(WRITTEN)
    config = load_config(file, SMALL)
    assert config == load_config(None, [*SMALL, OVERRIDE]) == merge_overrides(load_config(None, SMALL), [OVERRIDE], "x")
    assert config == config_from_dict(yaml.safe_load(to_yaml(config)), "x") == pickle.loads(pickle.dumps(config))
    assert len(chain_of(config.stream.augmentation).steps) == 4
    assert load_config(file, ["stream.augmentation=boards"]).stream.augmentation == "boards"


def test_a_run_keeps_its_chain() -> None:
    config = load_config(None, [*SMALL, OVERRIDE])
    assert change_config(config, ["epochs=3", OVERRIDE]).stream == config.stream
    for other in ("light", OVERRIDE.partition("=")[2].replace("0.3", "0.4")):
        with pytest.raises(ConfigError, match=r"'stream\.augmentation' cannot change"):
            change_config(config, [f"stream.augmentation={other}"])


def test_an_argument_that_stands_twice_is_refused() -> None:
    for written in ("[{cutout:{size:1,size:0.5}}]", "[{cutout: {size: 1, size: 0.5}}]"):
        with pytest.raises(ConfigError, match="'size' stands twice"):
            load_config(None, [f"stream.augmentation={written}"])
