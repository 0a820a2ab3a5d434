"""Nonsense for every key of a configuration: a message that names key and value, never another error, never a wrong guess."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.numbers import MAX_INT
from cluster.values import Typing
from tests.support.commands import command_here, only_message
from trainers.config.load import ConfigError, load_config
from trainers.config.train import TrainConfig

NONSENSE = [
    "", "nan", "inf", "-.inf", "-1", "0", "1e400", "99999999999999999999", "9" * 500, "1e3", "010", "0x10", "on", "null",
    "[", "???", "{", "[1, [2", "{a: 1}", "[x]", "[nan]", "*x", "&a [*a]", "&a {b: *a}", "a: b: c", "!!int x",
    "!!python/name:os.open", "\udcff", "a\0b", "\x1b[2J", "x" * 300, "~nouser/x", "12:30:00", "2020-01-01", "'", '"', "-0.0",
    "true", "[" * 30 + "]" * 30,
]  # fmt: skip


def keys(kind: type, above: str = "") -> Iterator[tuple[str, Any]]:
    """All dotted keys of a configuration and their types."""
    for name, hint in get_type_hints(kind).items():
        yield above + name, hint
        if dataclasses.is_dataclass(hint):
            yield from keys(hint, f"{above}{name}.")  # type: ignore[arg-type]


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a field's type."""
    if kind is Any:
        return True
    members = get_args(kind) if type(None) in get_args(kind) else (kind,)
    plain = [member for member in members if isinstance(member, type) and get_origin(member) is None]
    if dataclasses.is_dataclass(kind):
        return isinstance(value, dict | str)
    return not plain or (type(value) in plain) or (float in plain and type(value) is int)


def put(config: Any, nest: dict[str, Any]) -> None:
    """Set in a configuration what an override stands for."""
    for name, value in nest.items():
        if isinstance(value, dict) and dataclasses.is_dataclass(getattr(config, name)):
            put(getattr(config, name), value)
        else:
            setattr(config, name, value)


@pytest.mark.parametrize("written", NONSENSE, ids=lambda text: ascii(text)[:20])
def test_every_key_takes_nonsense_as_a_message_or_as_a_value_of_its_type(written: str) -> None:
    for key, kind in keys(TrainConfig):
        typing = Typing(TrainConfig, "a test")
        nest = typing.override(f"{key}={written}")
        assert bool(nest) != bool(typing.problems), key
        found = list(typing.problems)
        if nest:
            value: Any = nest
            for name in key.split("."):
                value = value[name]
            assert fits(value, kind), (key, value)
            if dataclasses.is_dataclass(kind):
                continue  # the name of a file
            config = TrainConfig()
            put(config, nest)
            found = config.validate()
            assert found or not isinstance(value, int) or abs(value) <= MAX_INT, (key, value)
            assert found or not isinstance(value, float) or math.isfinite(value), (key, value)
        assert all(text.isprintable() and len(text) < 4000 for text in found), (key, found)
        assert all(key.rpartition(".")[2] in text for text in typing.problems), (key, found)


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["seed=5000000000"], ["seed=5000000000"]),
        (["optim.no_decay[0]=x"], ["'optim.no_decay[0]'", "as a whole", "optim.no_decay=["]),
        (["runs_dir=${nope}"], ["'runs_dir'", "nope"]),
        (["name=${"], ["'name'"]),
        (["epochs=${oc.env:INKRAY_NOPE}"], ["'epochs'", "INKRAY_NOPE"]),
        (["runs_dir=~nouser/x"], ["runs_dir=~nouser/x"]),
        (["data.dataset="], ["data.dataset is empty"]),
        (["scaling.cpus_per_worker=-1"], ["scaling.cpus_per_worker=-1", "above 0"]),
        (["optim.lr=inf"], ["optim.lr=inf", "finite"]),
        (["failure.hang_timeout_s=nan"], ["failure.hang_timeout_s=nan", "finite"]),
        (["decoding.length_penalty=nan"], ["decoding.length_penalty=nan", "finite"]),
        (["optim.betas=[0.9, nan]"], ["optim.betas[1]=nan", "finite"]),
        (["optim.betas=[0.9]"], ["'optim.betas'", "[0.9]", "not 2"]),
        (["optim.freeze={backbone.*: many}"], ["'optim.freeze.backbone.*'", "many"]),
        (["decoding.num_best=9"], ["decoding.num_best", "9"]),
        (["stream.cache.location=on"], ["'stream.cache.location'", "'on'", "off, disk, memory"]),
        (["model=" + "x" * 300], ["model", "configs/model"]),
        # All of them at once, and no rule about the default in the place of a value that was wrong.
        (
            ["optim.lrr=1", "epochs=many", "optim.lr=nan", "seed=-1", "scaling.num_train_workers=x", "global_batch_size=33"],
            ["'optim.lrr'", "'epochs'", "many", "optim.lr=nan", "seed=-1", "'scaling.num_train_workers'"],
        ),
    ],
)
def test_a_mistake_is_named(overrides: list[str], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, overrides)
    message = str(caught.value)
    assert all(part in message for part in parts) and "\n" not in message, message
    assert "multiple of" not in message and message.count("optim.lr=nan") <= 1, message


def test_all_mistakes_of_a_file_and_of_the_files_it_names_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "beam.yaml").write_text("beam_size: many\nbeems: 3\n")
    (tmp_path / "run.yaml").write_text("decoding: beam.yaml\nepochs: 1e3\nseed: 1\nbogus: 2\noptim: {lr: .nan}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "run.yaml", ["validate_every=0"])
    for part in ("decoding.beam_size", "decoding.beems", "'beam.yaml'", "epochs", "run.yaml", "'bogus'", "optim.lr=nan",
                 "validate_every=0"):  # fmt: skip
        assert part in str(caught.value), str(caught.value)


TEXTS = [
    "on",
    "no",
    "010",
    "1e3",
    "1_000",
    "12:30:00",
    "2020-01-01",
    "null",
    "true",
    "0x1f",
    ".inf",
    "a: b",
    "[x",
    "#x",
    "=x=y",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_stays_what_is_written(text: str, tmp_path: Path) -> None:
    assert load_config(None, [f"name={text}"]).name == text
    if text not in ("a: b", "[x", "#x"):  # which a file has in quotes
        (tmp_path / "run.yaml").write_text(f"name: {text}\nstream: {{cache: {{location: off}}}}\n")
        config = load_config(tmp_path / "run.yaml")
        assert (config.name, config.stream.cache.location) == (text, "off")


def test_numbers_are_decimal_in_files_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: satrn_small\nencoder: {depth: 010}\n")
    (tmp_path / "run.yaml").write_text("epochs: 010\nmodel: mine.yaml\noptim: {lr: 1e-3, eps: null}\n")
    config = load_config(tmp_path / "run.yaml", ["seed=007", "optim.freeze.backbone.*=2", "scaling.use_gpu=no"])
    assert (config.epochs, config.seed, config.model.encoder.depth, config.optim.lr) == (10, 7, 10, 1e-3)
    assert config.optim.eps is None and config.optim.freeze == {"backbone.*": 2} and config.scaling.use_gpu is False


@given(st.integers(-MAX_INT, MAX_INT), st.floats(allow_nan=False, allow_infinity=False), st.text())
def test_what_is_written_comes_back(number: int, real: float, text: str) -> None:
    for key, value in {"epochs": number, "optim.lr": real}.items():
        typing = Typing(TrainConfig, "a test")
        nest: Any = typing.override(f"{key}={value}")
        for name in key.split("."):
            nest = nest[name]
        assert nest == value and type(nest) is type(value)
    typing = Typing(TrainConfig, "a test")
    assert bool(typing.override(f"name={text}")) != bool(typing.problems)


@pytest.mark.parametrize(
    ("module", "required"),
    [
        ("trainers.evaluate", "required: checkpoint, dataset\n"),
        ("trainers.predict", "required: checkpoint, images, out\n"),
        ("trainers.tune", "required: study\n"),
        ("data_pipeline.bench", "required: dataset\n"),
    ],
)
def test_key_value_arguments_are_not_among_those_that_are_required(module: str, required: str) -> None:
    result = command_here(module)
    assert result.returncode == 2 and result.stderr.endswith(required), result.stderr


@pytest.mark.parametrize(
    ("module", "args", "part"),
    [
        ("trainers.train", ["--resume", ""], "No run at ''"),
        ("trainers.train", ["--resume", "~nouser/x"], "~nouser/x"),
        ("trainers.train", ["/tmp"], "'/tmp'"),
        ("trainers.train", ["--local", "x" * 300], "No configuration file"),
        ("trainers.tune", ["/tmp"], "'/tmp'"),
        ("trainers.evaluate", ["~nouser/x", "~nouser/y"], "~nouser/"),
    ],
)
def test_places_that_cannot_be_are_named(module: str, args: list[str], part: str) -> None:
    assert part in only_message(command_here(module, *args))


@pytest.mark.parametrize("way", [[], ["--local"]])
def test_splits_that_a_dataset_lacks_are_named_with_the_way_to_do_without(way: list[str], formulas_dataset: str) -> None:
    args = [f"data.dataset={formulas_dataset}", "data.val_split=dev", "data.test_split=exam", "runs_dir=/dev/null"]
    message = only_message(command_here("trainers.train", *way, *args))
    for part in ("data.val_split=dev", "data.test_split=exam", "train, val, test", "empty: data.val_split= data.test_split="):
        assert part in message, message


def test_a_cache_that_cannot_be_used_is_named_before_there_is_a_run(formulas_dataset: str, tmp_path: Path) -> None:
    cache = ["stream.cache.location=disk", "stream.cache.directory=/proc/x"]
    args = [f"data.dataset={formulas_dataset}", f"runs_dir={tmp_path}", "scaling.use_gpu=false", *cache]
    assert "/proc/x" in only_message(command_here("trainers.train", "--local", *args))
    assert not list(tmp_path.iterdir())


def test_a_place_for_runs_where_no_folder_can_be_made_is_named(formulas_dataset: str) -> None:
    args = [f"data.dataset={formulas_dataset}", "runs_dir=/proc/x", "scaling.use_gpu=false"]
    assert "no folder can be made there" in only_message(command_here("trainers.train", "--local", *args))
