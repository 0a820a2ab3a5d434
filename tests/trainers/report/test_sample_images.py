"""Sample images of a validation batch show what was read, and nothing that is padding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from data_pipeline.stream.batch import Batch
from models import Recognizer
from tests.support.batches import TOKENIZER, text_batch
from tests.support.overrides import KINDS, SMALL
from tests.support.stroke_count import Counter, StrokeCountTask
from trainers.config.load import load_config
from trainers.report import sample_images as module
from trainers.report.sample_images import ATTENTION, SAMPLES, sample_images
from trainers.tasks.device_batch import to_device
from trainers.tasks.presentation import AttentionExample, Example
from trainers.tasks.sequence import SequenceTask

CPU = torch.device("cpu")
TASK = SequenceTask(TOKENIZER)


def network(*overrides: str) -> Recognizer:
    torch.manual_seed(0)
    config = load_config(None, [*SMALL, *overrides])
    model = Recognizer(config.model, TASK.output_spec(6)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "decoder.head.bias":
                parameter[:3] = -10  # not the special tokens: untrained, it has something to say nevertheless
    return model


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the grids are asked to draw."""
    seen: dict[str, Any] = {}
    for name in ("draw_sample_grid", "draw_attention_strip"):
        draw = getattr(module, name)

        def spy(content: Any, draw: Any = draw, name: str = name, **options: Any) -> Any:
            seen[name] = content
            return draw(content, **options)

        monkeypatch.setattr(module, name, spy)
    return seen


def padded_batch() -> Batch:
    """Four rows: one that cannot be used, two samples of which one is narrow, and one row of padding."""
    batch = text_batch(["a", "b c", "d"], [0.0, 1.0, 1.0])
    batch.sizes[2] = 24, 40
    blank = np.full_like(batch.images[:1], 255)
    return replace(
        batch,
        images=np.concatenate([batch.images, blank]).repeat(2, axis=2),
        sizes=np.append(batch.sizes * [2, 1], [[8, 8]], 0),
        targets={name: np.concatenate([target, target[:1]]) for name, target in batch.targets.items()},
        weights=np.append(batch.weights, np.float32(0)),
    )


@pytest.mark.parametrize("kind", ["small", "rnn", "ctc", "both_directions", "vit"])
def test_the_grids_show_what_validation_reads(kind: str, drawn: dict[str, Any]) -> None:
    batch, model = padded_batch(), network(*KINDS[kind])
    tensors = to_device(batch, CPU)
    before = torch.get_rng_state()
    images = sample_images(model, TASK, batch, tensors, 8)
    assert set(images) == {SAMPLES, ATTENTION}
    for image in images.values():
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.std() > 0
    examples: list[Example] = drawn["draw_sample_grid"]
    assert [(e.id, e.truth, e.image.shape) for e in examples] == [("1", "b c", (64, 64)), ("2", "d", (48, 40))]
    assert np.array_equal(examples[1].image, batch.images[2, 0, :48, :40])
    read = [row["prediction"] for row in TASK.predict(model, tensors.images[1:3], tensors.sizes[1:3])]
    assert [e.prediction for e in examples] == read
    attention: AttentionExample = drawn["draw_attention_strip"]
    assert list(attention.tokens) == read[0].split() and len(attention.maps) == len(attention.tokens)
    assert torch.equal(before, torch.get_rng_state()) and not model.training


def test_the_longest_text_that_was_read_right_has_its_attention_shown(drawn: dict[str, Any]) -> None:
    batch, model = padded_batch(), network(*KINDS["rnn"])
    tensors = to_device(batch, CPU)
    read = [row["prediction"] for row in TASK.predict(model, tensors.images[1:3], tensors.sizes[1:3])]
    assert read[1], "the network says something of the narrow image"
    sample_images(model, TASK, replace(batch, columns={"text": ["a", "not this", read[1]]}), tensors, 8)
    attention: AttentionExample = drawn["draw_attention_strip"]
    assert attention.image.shape == (48, 40) and list(attention.tokens) == read[1].split()
    # As many rows and columns as the small image has, not those of its padding.
    small, large = model.backbone.feature_sizes(torch.tensor([[48, 40], [64, 64]])).tolist()
    assert list(attention.maps.shape[1:]) == small
    assert small[0] < large[0] and small[1] < large[1]


def test_color_stays_color_and_no_more_than_asked_are_shown(drawn: dict[str, Any]) -> None:
    batch = text_batch(["a", "b", "c"])
    color = replace(batch, images=np.repeat(batch.images, 3, axis=1) * np.array([1, 0, 0], np.uint8)[:, None, None])
    sample_images(network("model.in_channels=3"), TASK, color, to_device(color, CPU), 2)
    examples: list[Example] = drawn["draw_sample_grid"]
    assert [e.id for e in examples] == ["0", "1"]
    assert np.array_equal(examples[0].image[..., 0], batch.images[0, 0]) and not examples[0].image[..., 1:].any()


def test_a_batch_without_samples_gives_no_images() -> None:
    batch = text_batch(["a"], [0.0])
    assert sample_images(network(), TASK, batch, to_device(batch, CPU), 8) == {}


def test_a_task_without_attention_shows_its_samples_alone(drawn: dict[str, Any]) -> None:
    batch = replace(text_batch(["a", "b"]), columns={"count": [3, 1]})
    images = sample_images(Counter().eval(), StrokeCountTask("strokes"), batch, to_device(batch, CPU), 8)
    assert set(images) == {SAMPLES} and [e.truth for e in drawn["draw_sample_grid"]] == ["3", "1"]
