"""A configuration that is wrong says where, and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from models import Decoding
from models.presets import load_named, names
from trainers.config.load import ConfigError, config_from_dict, load_config, merge_overrides, to_yaml
from trainers.tasks.losses import LossConfig


def test_file_then_overrides(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("epochs: 3\noptim: {lr: 2.0e-3}\n")
    config = load_config(file, ["optim.lr=5e-4", "model.encoder.depth=2", "data.test_split="])
    assert (config.epochs, config.optim.lr, config.model.encoder.depth) == (3, 5e-4, 2)
    assert config.data.test_split == "", "nothing behind the sign is the empty text"


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("optim.lrr=1", ["'optim.lrr'", "lr", "weight_decay"]),
        ("bogus=1", ["'bogus'", "epochs", "optim"]),
        ("optim.lr=fast", ["'optim.lr'", "fast", "float"]),
        ("model.encoder.norm=middle", ["'model.encoder.norm'", "middle", "pre", "post"]),
        ("compute.precision=fp8", ["'compute.precision'", "fp16", "bf16"]),
        ("epochs=0", ["epochs=0", "at least 1"]),
        ("validate_every=0", ["validate_every=0", "at least 1"]),
        ("global_batch_size=33", ["global_batch_size=33", "num_train_workers=2"]),
        ("compute.ddp.static_graph=true compute.micro_batch_size=4", ["static_graph", "micro-batches"]),
        ("compute.sync_batch_norm=true compute.find_micro_batch=true", ["find_micro_batch", "sync_batch_norm"]),
        ("early_stopping.patience=3 data.val_split=''", ["early_stopping.patience", "data.val_split is empty"]),
        ("optim.lr=-1", ["optim.lr=-1", "above 0"]),
        ("optim", ["'optim'", "key=value"]),
        ("data=3", ["'data'", "3"]),
    ],
)
def test_a_bad_override_is_named_with_what_is_allowed(override: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, override.split(" "))
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No configuration file"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(tmp_path / "broken.yaml")
    (tmp_path / "key.yaml").write_text("optimizer: {}\n")
    with pytest.raises(ConfigError, match=r"Unknown key 'optimizer' in .*key.yaml"):
        load_config(tmp_path / "key.yaml")


@pytest.mark.parametrize("name", names())
def test_a_named_model_is_the_section(name: str) -> None:
    assert load_config(None, [f"model={name}"]).model == load_named(name).config


def test_a_model_is_named_on_the_command_line_in_a_file_and_by_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = load_named("satrn_final").config
    wanted.encoder.depth = 2
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.yaml").write_text("base: satrn_final\nencoder: {depth: 2}\n")
    (tmp_path / "models" / "theirs.yaml").write_text("base: mine\n")
    (tmp_path / "named.yaml").write_text("model: satrn_final\n")
    (tmp_path / "filed.yaml").write_text("model: models/theirs.yaml\nepochs: 3\n")
    assert load_config(None, ["model=satrn_final", "model.encoder.depth=2"]).model == wanted
    assert load_config(tmp_path / "named.yaml", ["model.encoder.depth=2"]).model == wanted
    assert load_config(tmp_path / "filed.yaml").model == wanted, "a name in a file is seen from that file's folder"
    monkeypatch.chdir(tmp_path)
    assert load_config(None, ["model=models/mine.yaml"]).model == wanted
    assert load_config(None, ["model=satrn_final"]).model != wanted


def test_another_model_takes_the_place_of_the_whole_section(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("model: satrn_final\n")
    config = load_config(tmp_path / "run.yaml", ["model.encoder.depth=9", "model=ctc"])
    assert config.model == load_named("ctc").config, "no mixture of the two"
    again = merge_overrides(config, ["model=comer", "model.decoder.depth=1"], "a test")
    assert again.model.encoder == load_named("comer").config.encoder and config.model == load_named("ctc").config


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("satrn_finale", ["satrn_finale", "the nearest are satrn_final"]),
        ("none.yaml", ["none.yaml", "configs/model"]),
        ("circle_a.yaml", ["base", "circle_a.yaml", "its own base"]),
        ("orphan.yaml", ["nobody", "configs/model"]),
        ("broken.yaml", ["broken.yaml", "not valid YAML"]),
        ("list.yaml", ["list.yaml", "mapping"]),
        ("key.yaml", ["'model.encoder.dept'", "key.yaml", "depth"]),
        ("value.yaml", ["'model.encoder.norm'", "value.yaml", "middle", "rezero"]),
    ],
)
def test_a_model_that_cannot_be_read_is_one_message(
    model: str, parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "circle_a.yaml": "base: circle_b\n",
        "circle_b.yaml": "base: circle_a\n",
        "orphan.yaml": "base: nobody\n",
        "broken.yaml": "a: [1\n",
        "list.yaml": "- 1\n",
        "key.yaml": "encoder: {dept: 1}\n",
        "value.yaml": "encoder: {norm: middle}\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "run.yaml").write_text(f"model: {model}\n")
    monkeypatch.chdir(tmp_path)
    for file, overrides in ((None, [f"model={model}"]), (tmp_path / "run.yaml", [])):
        with pytest.raises(ConfigError) as caught:
            load_config(file, overrides)
        message = str(caught.value)
        assert all(part in message for part in parts) and "\n" not in message, message


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("loss.label_smoothing=1", ["loss.label_smoothing=1", "below 1"]),
        ("loss.ctc_weight=1.1", ["loss.ctc_weight=1.1", "from 0 to 1"]),
        ("loss.repulsion_weight=-1", ["loss.repulsion_weight=-1", "not negative"]),
        ("decoding.method=beem", ["'decoding.method'", "beem", "greedy", "beam"]),
        ("decoding.beam_size=many", ["'decoding.beam_size'", "many", "int"]),
        ("decoding.beams=3", ["'decoding.beams'", "beam_size", "two_way"]),
    ],
)
def test_losses_and_decoding_are_checked(override: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, override.split(" "))
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_any_section_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "beam.yaml").write_text("method: beam\nbeam_size: 7\n")
    (tmp_path / "run.yaml").write_text("decoding: beam.yaml\n")
    decoding = load_config(tmp_path / "run.yaml", ["decoding.num_best=2"]).decoding
    assert (decoding.method, decoding.beam_size, decoding.num_best) == ("beam", 7, 2)


def test_paths_are_made_absolute_and_uris_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(None, ["data.dataset=d", "runs_dir=s3://bucket/runs"])
    assert (config.data.dataset, config.runs_dir) == (str(tmp_path / "d"), "s3://bucket/runs")


@pytest.mark.parametrize("model", ["satrn_small", "satrn_efficient", "comer", "aster_blstm"])
def test_yaml_round_trip(model: str) -> None:
    decoding = ["decoding.method=beam", "decoding.max_length=9", "decoding.length_penalty=0.5"]
    loss = ["loss.label_smoothing=0.1", "loss.ctc_weight=0.5"]
    config = load_config(None, [f"model={model}", "optim.betas=[0.8,0.9]", "scaling.use_gpu=false", *decoding, *loss])
    assert isinstance(config.decoding, Decoding) and isinstance(config.loss, LossConfig)
    assert config_from_dict(yaml.safe_load(to_yaml(config)), "yaml") == config


def test_what_comes_from_the_environment_is_not_repeated_where_it_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_PLACE", "s3cretvalue")
    with pytest.raises(ConfigError, match=r"'epochs'.*A_PLACE") as refused:
        load_config(None, ["epochs=${oc.env:A_PLACE}"])
    assert "s3cretvalue" not in str(refused.value)
