"""Old names of keys: an error that says the new one wherever a user writes them; read in what an older run stored."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cluster.errors import UserError
from cluster.values import is_key
from trainers.checkpoint.load import read_config
from trainers.config.load import ConfigError, config_from_dict, load_config, to_yaml
from trainers.config.renamed import RENAMED
from trainers.config.train import TrainConfig
from trainers.studies.arms import arm_config, arms_of, load_study

# What a configuration of the layout before stated, and the same today.
OLD = """
forcing: {mode: per_batch, ratio: 0.5}
guard: {on_bad_step: skip, max_skipped: 7}
averaging: {name: ema, decay: 0.9, warmup: false}
loss: {pad: counted, label_smoothing: 0.1}
optim: {lr: 0.002, schedule: {name: circular, warmup: 0.2, floor: 0.01}}
tracking: {pictures: 3, wandb: false}
scaling:
  num_train_workers: 4
  max_failures: 5
  hang_timeout_s: 30.0
  on_out_of_memory: halve
  precision: fp32
  micro_batch_size: 2
  find_micro_batch: true
  gradient_checkpointing: true
  compile: true
  threads_per_worker: 3
  ddp: {bucket_cap_mb: 5, compression: bf16}
"""
NEW = """
scheduled_sampling: {mode: per_batch, ratio: 0.5}
loss_guard: {on_bad_step: skip, max_skipped: 7}
weight_averaging: {name: ema, decay: 0.9, warmup: false}
loss: {ignore_padding: false, label_smoothing: 0.1}
optim: {lr: 0.002, schedule: {name: cyclic, warmup_ratio: 0.2, min_lr_ratio: 0.01}}
tracking: {images: 3, wandb: false}
scaling: {num_train_workers: 4}
failure: {max_failures: 5, hang_timeout_s: 30.0, on_out_of_memory: halve}
compute:
  precision: fp32
  micro_batch_size: 2
  find_micro_batch: true
  gradient_checkpointing: true
  compile: true
  threads_per_worker: 3
  ddp: {bucket_cap_mb: 5, compression: bf16}
"""
PENDING = {key for key in RENAMED.keys if is_key(TrainConfig, key)}  # still a key: the table has no say yet


@pytest.mark.parametrize("old", sorted(RENAMED.keys.keys() - PENDING))
def test_every_old_key_says_its_new_name_which_is_a_key(old: str) -> None:
    new = RENAMED.keys[old]
    assert is_key(TrainConfig, new)
    with pytest.raises(ConfigError) as caught:
        load_config(None, [f"{old}=1", "epochs=0"])
    assert str(caught.value) == f"'{old}' in the command line was renamed to '{new}'. Bad value: epochs=0: at least 1."


def test_an_old_key_is_named_with_what_lies_below_it_in_files_and_studies(tmp_path: Path) -> None:
    file, study = tmp_path / "run.yaml", tmp_path / "study.yaml"
    file.write_text(OLD)
    with pytest.raises(ConfigError) as caught:
        load_config(file, ["guard.max_skipped=3", "scaling.ddp.compression=fp16", "optim={schedule: {floor: .1}}"])
    for sentence in (
        f"'forcing' in '{file}' was renamed to 'scheduled_sampling'.",
        "'guard.max_skipped' in the command line was renamed to 'loss_guard.max_skipped'.",
        "'scaling.ddp.compression' in the command line was renamed to 'compute.ddp.compression'.",
        "'optim.schedule.floor' in the command line was renamed to 'optim.schedule.min_lr_ratio'.",
        "'circular' was renamed to 'cyclic'.",
    ):
        assert sentence in str(caught.value), sentence
    with pytest.raises(ConfigError, match=r"'loss.ignore_padding' in the command line: 'counted' was renamed to 'false'"):
        load_config(None, ["loss.ignore_padding=counted"])
    study.write_text("arms: {a: []}\ngrid: {optim.schedule.warmup: [0.1]}\n")
    message = r"^'optim\.schedule\.warmup' in arm 'warmup=0\.1' was renamed to 'optim\.schedule\.warmup_ratio'\.$"
    with pytest.raises(UserError, match=message):
        arm_config(load_study(study), arms_of(load_study(study))[1], str(tmp_path))


def test_what_an_older_run_stored_is_read(tmp_path: Path) -> None:
    (tmp_path / "new.yaml").write_text(NEW)
    found = read_config(OLD.encode())
    assert found == load_config(tmp_path / "new.yaml")
    assert config_from_dict(yaml.safe_load(to_yaml(found)), "yaml") == found, "what is stored from now on has the new names"
    values = yaml.safe_load(OLD)
    config_from_dict(values, "a test")
    assert values == yaml.safe_load(OLD), "what is given stays as it is"


def test_an_old_name_beside_the_new_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'tracking.pictures' in a test was renamed to 'tracking.images'"):
        config_from_dict({"tracking": {"pictures": 3, "images": 4}}, "a test")
