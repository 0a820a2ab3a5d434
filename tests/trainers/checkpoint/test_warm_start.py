"""A network that starts from a checkpoint: which weights it takes, by name and by token, and what it reports of the rest."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UserError
from data_pipeline.dataset.tokenizer import Tokenizer
from models import Recognizer
from tests.support.checkpoints import DATA, write_checkpoint
from tests.support.overrides import KINDS, SMALL
from trainers.checkpoint.load import open_checkpoint
from trainers.checkpoint.vocabulary_transfer import carry_rows, shared_rows
from trainers.checkpoint.warm_start import WarmStartReport, warm_start
from trainers.config.init import InitConfig
from trainers.config.load import load_config
from trainers.tasks.sequence import SequenceTask

OLD = Tokenizer(["a", "b", "c", "d"])


def fresh(tokenizer: Tokenizer, *overrides: str, device: str = "cpu") -> tuple[Recognizer, SequenceTask]:
    """A network that was not trained, and its task."""
    task = SequenceTask.from_checkpoint(tokenizer.to_json(), DATA.limits, load_config(None, [*SMALL, *overrides]))
    torch.manual_seed(1)
    with torch.device(device):
        return task.build_model(), task


def start(network: Recognizer, task: SequenceTask, config: InitConfig) -> WarmStartReport:
    return warm_start(network, task, config, open_checkpoint(config.checkpoint))


def image() -> torch.Tensor:
    return torch.randint(0, 256, (2, 1, 64, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_all_of_a_checkpoint_gives_identical_weights(tmp_path: Path) -> None:
    model, (network, task) = write_checkpoint(tmp_path, 0.5, tokenizer=OLD), fresh(OLD)
    done = start(network, task, InitConfig(str(tmp_path)))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name]), name
    assert done.loaded == list(network.state_dict()) and not done.by_name and not done.not_loaded
    assert done.lines() == [f"Warm start from '{tmp_path}': {len(done.loaded)} of {len(done.loaded)} tensors as they are"]


def test_only_the_backbone_is_taken(tmp_path: Path) -> None:
    model, (network, task) = write_checkpoint(tmp_path, 0.5, tokenizer=OLD), fresh(OLD)
    before = copy.deepcopy(network.state_dict())
    config = InitConfig(str(tmp_path), include=["backbone.*"], exclude=["backbone.*num_batches_tracked"])
    done = start(network, task, config)
    for name, tensor in network.state_dict().items():
        taken = name.startswith("backbone.") and not name.endswith("num_batches_tracked")
        assert (name in done.loaded) == taken
        assert torch.equal(tensor, (model.state_dict() if taken else before)[name]), name
    assert set(done.not_loaded.values()) == {"not included", "excluded"}
    assert any(line.startswith("  fresh (not included): encoder.") for line in done.lines())
    written = json.loads(json.dumps(done.to_json()))
    assert written["loaded"] == done.loaded and written["not_loaded"] == done.not_loaded


VOCABULARIES = {
    "permuted": ["d", "b", "a", "c"],
    "grown": ["x", "a", "y", "b", "c", "d", "z"],
    "shrunk": ["d", "a"],
    "other": ["y", "c", "x", "a"],
}


@pytest.mark.parametrize("kind", ["small", "rnn", "ctc", "joint", "both_directions", "aster"])
def test_shared_tokens_keep_their_probabilities(kind: str, tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path, 0.5, *KINDS[kind], tokenizer=OLD).eval()
    for name, charset in VOCABULARIES.items():
        new = Tokenizer(charset)
        network, task = fresh(new, *KINDS[kind])
        done = start(network.eval(), task, InitConfig(str(tmp_path)))
        shared = [token for token in OLD.charset if token in new.charset]
        ours = [0, 1, 2, *(new.encode(token)[1] for token in shared)]
        theirs = [0, 1, 2, *(OLD.encode(token)[1] for token in shared)]
        texts = [shared[:2], [shared[-1]]]
        outputs = []
        for recognizer, tokenizer, ids in ((model, OLD, theirs), (network, new, ours)):
            tgt_in = torch.tensor([[*tokenizer.encode(" ".join(text))[:-1], 2, 2][:3] for text in texts])
            output = recognizer(image(), tgt_in, torch.tensor([[64, 128], [40, 60]]))
            logits = [head for head in (output.logits, output.reverse_logits, output.ctc_logits) if head is not None]
            outputs.append([head[..., ids].softmax(-1) for head in logits])
        assert len(outputs[0]) == len(outputs[1]) > 0
        for one, other in zip(*outputs, strict=True):
            assert torch.allclose(one, other, atol=1e-6), name
        assert done.carried == 3 + len(shared) and done.new == [token for token in new.charset if token not in shared], name
        assert done.by_name and not done.not_loaded, name
        assert any(f"{done.carried} outputs carried over, {len(done.new)} new" in line for line in done.lines()), name


def test_rows_of_new_tokens_stay_fresh_and_those_beyond_the_vocabulary_are_carried(tmp_path: Path) -> None:
    extra = "model.decoder.extra_embeddings="
    model = write_checkpoint(tmp_path, 0.5, extra + "2", tokenizer=OLD)
    new = Tokenizer(["x", "d"])
    network, task = fresh(new, extra + "3")
    before = network.decoder.embedding.weight.detach().clone()  # type: ignore[union-attr, operator]
    start(network, task, InitConfig(str(tmp_path)))
    old, now = model.decoder.embedding.weight, network.decoder.embedding.weight  # type: ignore[union-attr]
    # <bos> <eos> <pad> x d and three rows more; of the old one <bos> <eos> <pad> a b c d and two rows more.
    assert torch.equal(now[[0, 1, 2, 4, 5, 6]], old[[0, 1, 2, 6, 7, 8]])  # type: ignore[index]
    assert torch.equal(now[[3, 7]], before[[3, 7]])  # type: ignore[index]


def test_of_another_architecture_what_fits_is_taken_and_the_rest_named(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path, 0.5, tokenizer=OLD)
    network, task = fresh(OLD, "model.encoder.mlp_dim=48", "model.ctc.head=linear")
    done = start(network, task, InitConfig(str(tmp_path)))
    assert done.not_loaded["ctc.head.weight"] == "not in the checkpoint"
    changed = {name: reason for name, reason in done.not_loaded.items() if name.startswith("encoder.")}
    assert "shape 32x16 in the checkpoint, 48x16 here" in changed.values() and len(changed) == 3
    assert len(done.not_loaded) == 2 + len(changed)
    for name in done.loaded:
        assert torch.equal(network.state_dict()[name], model.state_dict()[name])
    assert "  fresh (not in the checkpoint): ctc.head.weight, ctc.head.bias" in done.lines()


def test_it_can_be_tried_without_memory(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 0.5, tokenizer=OLD)
    new = Tokenizer(["x", "d"])
    real, tried = (start(*fresh(new, device=device), InitConfig(str(tmp_path))) for device in ("cpu", "meta"))
    assert real == tried


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (InitConfig(include=["backbon.*"]), ["init.include", "'backbon.*' matches no weight", "backbone.*, decoder.*"]),
        (InitConfig(exclude=["ctc.*"]), ["init.exclude", "'ctc.*' matches no weight"]),
        (InitConfig(exclude=["*"]), ["Nothing of", "fits this network", "excluded"]),
    ],
)
def test_a_selection_that_selects_nothing_is_a_mistake(config: InitConfig, parts: list[str], tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 0.5, tokenizer=OLD)
    config.checkpoint = str(tmp_path)
    with pytest.raises(UserError) as caught:
        start(*fresh(OLD), config)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize("what", ["nothing", "another kind", "damaged"])
def test_what_cannot_be_started_from_is_one_message(what: str, tmp_path: Path) -> None:
    if what != "nothing":
        write_checkpoint(tmp_path, 0.5, tokenizer=OLD)
    if what == "another kind":
        (tmp_path / "vocab.json").rename(tmp_path / "classes.json")
    if what == "damaged":
        (tmp_path / "model.safetensors").write_bytes(b"\x80\x04 a pickle, say")
    network, task = fresh(OLD)
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(UserError, match=r"No checkpoint at|lacks vocab\.json|is damaged: model\.safetensors") as caught:
        start(network, task, InitConfig(str(tmp_path)))
    assert str(tmp_path) in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["init.include=[backbone.*]"], "init.checkpoint is empty"),
        (["init.checkpoint=runs/a", "init.include=[]"], "init.include=[]: name at least one pattern"),
        (["init.checkpoint=runs/a", "init.exclude=['']"], "an empty pattern"),
    ],
)
def test_bad_settings_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load_config(None, overrides)


def test_the_path_of_a_checkpoint_means_what_it_means_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(None, ["init.checkpoint=runs/a"]).init.checkpoint == str(tmp_path / "runs/a")
    assert load_config(None, ["init.checkpoint=s3://bucket/a"]).init.checkpoint == "s3://bucket/a"
    assert load_config(None).init.checkpoint == ""


@pytest.mark.parametrize(("kind", "count"), [("small", 3), ("rnn", 3), ("ctc", 2), ("joint", 5)])
def test_the_tensors_of_a_vocabulary_are_its_embedding_and_its_heads(kind: str, count: int) -> None:
    _, task = fresh(OLD, *KINDS[kind])
    axes = task.output_axes()
    assert set(axes.values()) == {0} and len(axes) == count
    assert all("embedding" in name or "head" in name for name in axes)


CHARSETS = st.lists(st.sampled_from("abcdefgh"), unique=True).map(list)


@given(old=CHARSETS, new=CHARSETS, beyond=st.tuples(st.integers(0, 3), st.integers(0, 3)), axis=st.integers(0, 1))
def test_every_row_goes_where_its_token_is(old: list[str], new: list[str], beyond: tuple[int, int], axis: int) -> None:
    one, other = Tokenizer(old), Tokenizer(new)
    names = [["<bos>", "<eos>", "<pad>", *charset, *range(extra)] for charset, extra in zip((old, new), beyond, strict=True)]
    source = torch.arange(float(len(names[0])))[:, None].expand(-1, 2).clone()
    target = torch.full((len(names[1]), 2), -1.0)
    if axis:
        source, target = source.T.contiguous(), target.T.contiguous()
    carry_rows(source, target, axis, shared_rows(one.all_tokens, other.all_tokens), (len(one), len(other)))
    expected = torch.tensor([float(names[0].index(name)) if name in names[0] else -1.0 for name in names[1]])
    assert torch.equal(target, expected.expand(2, -1) if axis else expected[:, None].expand(-1, 2))
