"""A configuration that is wrong says where, and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainers.config import ConfigError, config_from_dict, load_config, to_yaml

ROOT = Path(__file__).parents[2]


def test_file_then_overrides(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("epochs: 3\noptim: {lr: 2.0e-3}\n")
    config = load_config(file, ["optim.lr=5e-4", "model.encoder.depth=2"])
    assert (config.epochs, config.optim.lr, config.model.encoder.depth) == (3, 5e-4, 2)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("optim.lrr=1", ["'optim.lrr'", "lr", "weight_decay"]),
        ("bogus=1", ["'bogus'", "epochs", "optim"]),
        ("optim.lr=fast", ["'optim.lr'", "fast", "float"]),
        ("model.encoder.norm=middle", ["'model.encoder.norm'", "middle", "pre", "post"]),
        ("scaling.precision=fp8", ["'scaling.precision'", "fp16", "bf16"]),
        ("epochs=0", ["epochs=0", "at least 1"]),
        ("global_batch_size=33", ["global_batch_size=33", "num_train_workers=2"]),
        ("optim.lr=-1", ["optim.lr=-1", "above 0"]),
        ("optim", ["'optim'", "key=value"]),
        ("data=3", ["'data'", "3"]),
    ],
)
def test_a_bad_override_is_named_with_what_is_allowed(override: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
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


@pytest.mark.parametrize("file", sorted((ROOT / "configs" / "train").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_load(file: Path) -> None:
    config = load_config(file)
    assert file.read_text().startswith("#"), "the header says the command"
    assert config.name


@pytest.mark.parametrize("file", sorted((ROOT / "configs" / "model").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_model_file_stands_for_the_section(file: Path, tmp_path: Path) -> None:
    from_command_line = load_config(None, [f"model={file}", "model.decoder.depth=5"])
    (tmp_path / "config.yaml").write_text(f"model: {file}\n")
    config = load_config(tmp_path / "config.yaml", ["model.decoder.depth=5"])
    assert config == from_command_line and config.model.decoder.depth == 5
    assert config.model.in_channels == (3 if "final" in file.stem else 1)
    with pytest.raises(ConfigError, match=r"No configuration file 'none\.yaml'"):
        load_config(None, ["model=none.yaml"])


def test_paths_are_made_absolute_and_uris_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(None, ["data.dataset=d", "runs_dir=s3://bucket/runs"])
    assert (config.data.dataset, config.runs_dir) == (str(tmp_path / "d"), "s3://bucket/runs")


def test_yaml_round_trip() -> None:
    import yaml

    config = load_config(None, ["optim.betas=[0.8,0.9]", "scaling.use_gpu=false"])
    assert config_from_dict(yaml.safe_load(to_yaml(config)), "yaml") == config
