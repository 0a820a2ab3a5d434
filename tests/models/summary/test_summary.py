"""`python -m models.summary` and what it counts."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from models.presets import NamedConfig, load_named, names
from models.summary.count import count
from models.summary.measure import measure
from models.summary.peak_memory import peak_memory
from tests.support.configurations import shrink


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "models.summary", *args], capture_output=True, text=True, check=False)


def run_here(patch: pytest.MonkeyPatch, *args: str) -> object:
    """The exit status of the command, run in this process."""
    patch.setattr(sys, "argv", ["summary", *args])
    patch.delitem(sys.modules, "models.summary.__main__", raising=False)
    with pytest.raises(SystemExit) as done:
        runpy.run_module("models.summary", run_name="__main__")
    return done.value.code


def test_one_configuration(tmp_path: Path) -> None:
    done = run("seq2seq_bn", "--json", str(tmp_path / "s.json"), "--tokens", "4", "--width", "64")
    assert done.returncode == 0, done.stderr
    (record,) = json.loads((tmp_path / "s.json").read_text())
    assert (record["name"], record["parameters"], record["state_dict_elements"]) == ("seq2seq_bn", 1_781_202, 1_782_936)
    assert sum(part["parameters"] for part in record["parts"].values()) == record["parameters"]
    assert record["logits"] == {"decoder": [4, 81]} and record["memory"] == [16, 256]
    assert record["measured"]["train_bytes"] > 4 * 4 * record["parameters"] and record["measured"]["seconds"]["24"] > 0
    for text in ("1,781,202", "1,782,936", "batch 24", "image 1x64x64", "Training step, batch 4"):
        assert text in done.stdout


def test_a_file_with_a_base_and_other_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("base: satrn_small\ndecoder: {depth: 1}\n")
    named = load_named(file)
    assert named.config.decoder.depth == 1 and named.reference == load_named("satrn_small").reference
    (tmp_path / "other.yaml").write_text("base: mine.yaml\nencoder: {depth: 3}\n")
    assert load_named(tmp_path / "other.yaml").config.encoder.depth == 3
    assert load_named(tmp_path / "other.yaml").config.decoder.depth == 1
    assert run_here(monkeypatch, str(file), "--num-classes", "10", "--height", "32", "--width", "64", "--tokens", "5") == 0
    printed = capsys.readouterr().out
    assert "logits 5x10" in printed and "feature map 128x4x8" in printed


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["satrn_finl"], "error: model: 'satrn_finl' is neither .* nearest are satrn_final"),
        (["vit", "--width", "4096"], "error: model.encoder.position_columns: a learned table"),
    ],
)
def test_mistakes(args: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(monkeypatch, *args) == 2
    printed = capsys.readouterr().err
    assert re.search(message, printed), printed


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["satrn_small", "--tokens", "0"], "not a whole number from 1"),
        ([], "give a CONFIG, or --all"),
        (["satrn_small", "--all"], "give a CONFIG, or --all"),
    ],
)
def test_mistaken_arguments(
    args: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from models.summary import __main__ as command

    monkeypatch.setattr(sys, "argv", ["summary", *args])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("encoder: {nrm: pre}", r"model\.encoder\.nrm: "),
        ("encoder: {depth: many}", r"model\.encoder\.depth: "),
        ("encoder: {norm: middle}", r"model\.encoder\.norm: "),
        ("reference: {pixels: 3}", r"reference\.pixels: "),
        ("base: mine", "is its own base"),
        ("- 1", "not a mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, content: str, message: str) -> None:
    from models import ModelConfigError

    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(ModelConfigError, match=message):
        load_named(file)


def test_all_are_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from models.summary import __main__ as command

    def small(name: str) -> NamedConfig:
        named = load_named(name)
        return NamedConfig(name, shrink(named.config), named.reference)

    chosen = ["ctc", "satrn_small"]  # test_named_configurations counts all of them in their own sizes
    assert set(chosen) < set(names())
    monkeypatch.setattr(command, "names", lambda: chosen)
    monkeypatch.setattr(command, "load_named", small)
    monkeypatch.setattr(sys, "argv", ["summary", "--all", "--json", str(tmp_path / "all.json")])
    assert command.main() == 0
    records = json.loads((tmp_path / "all.json").read_text())
    assert [record["name"] for record in records] == chosen
    assert all(record["parameters"] > 0 and record["state_dict_elements"] >= record["parameters"] for record in records)
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(chosen)


def test_multiply_adds_are_those_of_the_layers() -> None:
    counts = count(load_named("seq2seq_light"), 1)
    # conv1 of a 64x512 image, 5x5 to 32 channels, and so on down the six convolutions.
    convolutions = [(64 * 512, 25, 32), (32 * 256, 25 * 32, 64), (16 * 128, 9 * 64, 128)]
    convolutions += [(8 * 128, 9 * 128, 128), (4 * 128, 9 * 128, 256), (2 * 128, 256, 256)]
    assert counts.parts["backbone"].multiply_adds == sum(
        positions * inputs * outputs for positions, inputs, outputs in convolutions
    )


def test_peak_memory_counts_what_lives_at_once() -> None:
    kib = 1024

    def chain() -> None:
        first = torch.zeros(kib, dtype=torch.uint8)
        second = first + 1  # two of them live
        del first
        third = second + 1  # again two
        del second
        third.view(-1)[:10] += 1  # views take no room

    assert peak_memory(chain) == 2 * kib

    layers = nn.Sequential(*(nn.Tanh() for _ in range(5)))
    x = torch.zeros(kib, requires_grad=True)
    # Five results are kept for the backward pass.
    assert peak_memory(lambda: layers(x).sum().backward()) >= 5 * 4 * kib


def test_measurement_grows_with_the_batch() -> None:
    named = load_named("satrn_small")
    named = NamedConfig("small", shrink(named.config), named.reference)
    one, four = (measure(named, 8, train_batch=batch, batches=(1,)) for batch in (1, 4))
    assert four.train_bytes > one.train_bytes > 0 and one.seconds[1] > 0
