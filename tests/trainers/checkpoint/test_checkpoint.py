"""A checkpoint says what is wrong with it, and is loaded without unpickling anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from cluster.errors import UserError
from data_pipeline.storage.base import open_storage
from data_pipeline.stream.plan import StreamPosition
from models import Decoding
from tests.support.checkpoints import DATA, write_checkpoint
from tests.support.overrides import KINDS, SMALL
from trainers.checkpoint.format import COMPLETE, PREFIX, WEIGHTS, CheckpointError
from trainers.checkpoint.load import load_checkpoint, open_checkpoint
from trainers.checkpoint.select import find_checkpoint
from trainers.checkpoint.trainer_state import load_trainer_state
from trainers.config.load import load_config
from trainers.tasks.sequence import SequenceTask


def decoding_of(folder: Path, overrides: list[str]) -> Decoding:
    """How a checkpoint decodes, with changes."""
    task = open_checkpoint(str(folder)).with_options(overrides).task
    assert isinstance(task, SequenceTask)
    return task.decoding


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "c")
    loaded = load_checkpoint(str(tmp_path / "c"))
    assert loaded.data == DATA and loaded.task.output_names[3:] == ["a", "b"] and not loaded.model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name]), name
    state = load_trainer_state(open_storage(tmp_path / "c"))
    assert (state.position, state.step["steps"]) == (StreamPosition(3, 64), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_recognizer_reads_the_same_after_loading(kind: str, tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path, 0.5, *KINDS[kind], "decoding.length_penalty=0.5", "loss.label_smoothing=0.1").eval()
    loaded = load_checkpoint(str(tmp_path))
    task = loaded.task
    assert isinstance(task, SequenceTask) and task.network == load_config(None, [*SMALL, *KINDS[kind]]).model
    assert (task.decoding.length_penalty, task.loss.label_smoothing) == (0.5, 0.1)
    images = torch.randint(0, 256, (2, 1, 64, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sizes, tgt_in = torch.tensor([[64, 128], [41, 60]]), torch.tensor([[0, 3, 4], [0, 4, 1]])
    for one, other in zip(model(images, tgt_in, sizes), loaded.model(images, tgt_in, sizes), strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


def test_a_checkpoint_is_loaded_without_asking_for_pretrained_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def offline(name: str, pretrained: bool = False, **options: Any) -> Any:
        if pretrained:
            raise OSError("the hub does not answer")
        return create(name, **options)

    model = write_checkpoint(tmp_path, 0.5, *KINDS["satrn_final"])
    config = (tmp_path / "config.yaml").read_text().replace("pretrained: false", "pretrained: true")
    (tmp_path / "config.yaml").write_text(config)
    monkeypatch.setattr(timm, "create_model", offline)
    loaded = load_checkpoint(str(tmp_path))
    assert loaded.checkpoint.config.model.backbone.timm.pretrained, "what it was trained from stays known"
    assert torch.equal(loaded.model.backbone.net.conv1[0].weight, model.backbone.net.conv1[0].weight)  # type: ignore[union-attr,index]
    assert decoding_of(tmp_path, ["decoding.method=beam"]).method == "beam"
    with pytest.raises(UserError, match=r"model\.backbone\.timm\.pretrained.*cannot load the weights"):
        loaded.task.build_model(pretrained=True)


def test_a_run_stands_for_its_best_checkpoint(tmp_path: Path) -> None:
    for number, score in enumerate([0.2, 0.9, 0.4]):
        write_checkpoint(tmp_path / "run" / f"{PREFIX}{number}", score)
    assert find_checkpoint(str(tmp_path / "run")).name == f"{PREFIX}1"


@pytest.mark.parametrize("name", [WEIGHTS, "config.yaml", "vocab.json", "data.json"])
@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_an_incomplete_checkpoint_is_one_message(tmp_path: Path, name: str, how: str) -> None:
    write_checkpoint(tmp_path / "run" / f"{PREFIX}0")
    file = tmp_path / "run" / f"{PREFIX}0" / name
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes(b"\x00\x01 no")
    with pytest.raises(CheckpointError, match=f"{PREFIX}0"):
        load_checkpoint(str(tmp_path / "run" / f"{PREFIX}0"))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("vocab.json", '"b"', '"c"'),
        ("data.json", '"color": "gray"', '"color": "red"'),
        ("data.json", '"background": 255', '"background": 999'),
        ("data.json", '"height": 64', '"height": "x"'),
        ("data.json", '"max_length": 8', '"max_length": 0'),
    ],
)
@pytest.mark.parametrize("summed", [True, False])
def test_a_description_that_was_changed_is_refused(tmp_path: Path, name: str, old: str, new: str, summed: bool) -> None:
    """By its sum, and where a checkpoint from before has none by what it says, as far as that can be wrong."""
    write_checkpoint(tmp_path / "c")
    file = tmp_path / "c" / name
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    if not summed:
        mark = json.loads((tmp_path / "c" / COMPLETE).read_bytes())
        del mark["files"][name]
        (tmp_path / "c" / COMPLETE).write_text(json.dumps(mark))
        if name == "vocab.json":
            load_checkpoint(str(tmp_path / "c"))  # as good as any other
            return
    said = name if summed else old.split('"')[1]
    with pytest.raises(CheckpointError, match=f"damaged: .*{said}"):
        load_checkpoint(str(tmp_path / "c"))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c")
    config = (tmp_path / "c" / "config.yaml").read_text().replace("mlp_dim: 32", "mlp_dim: 48")
    (tmp_path / "c" / "config.yaml").write_text(config)
    with pytest.raises(CheckpointError, match=f"damaged: its {WEIGHTS} is not of the network that its config.yaml describes"):
        load_checkpoint(str(tmp_path / "c"))


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["optim.lr=1"], ["optim.lr=1", "only decoding.*"]),
        (["decoding.method"], ["decoding.method", "key=value"]),
        (["decoding.method=beem"], ["decoding.method", "beem", "beam"]),
        (["decoding.beam=3"], ["decoding.beam", "beam_size"]),
        (["decoding.method=beam", "decoding.beam_size=0"], ["decoding.beam_size", "less than one"]),
        (["decoding.two_way=true"], ["decoding.two_way", "direction=both"]),
        (["decoding.method=beam", "decoding.ctc_weight=0.3"], ["decoding.ctc_weight", "no CTC head"]),
        (["decoding.max_length=9"], ["decoding.max_length", "1..8"]),
        (["decoding.balanced=true"], ["decoding.balanced", "no groups"]),
    ],
)
def test_a_way_of_decoding_that_a_checkpoint_cannot_serve_is_named(
    overrides: list[str], parts: list[str], tmp_path: Path
) -> None:
    write_checkpoint(tmp_path)
    with pytest.raises(UserError) as caught:
        decoding_of(tmp_path, overrides)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_decoding_is_that_of_the_checkpoint_with_changes(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 0.5, "decoding.method=beam", "decoding.beam_size=4")
    assert decoding_of(tmp_path, []) == Decoding("beam", beam_size=4)
    assert decoding_of(tmp_path, ["decoding.beam_size=3"]) == Decoding("beam", beam_size=3)
    (tmp_path / "config.yaml").write_bytes(b"\x00\x01 no")
    with pytest.raises(CheckpointError, match="damaged"):
        decoding_of(tmp_path, [])
