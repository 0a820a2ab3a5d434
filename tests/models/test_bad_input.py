"""What cannot be served is refused by the name of its key, not by an error of torch; what is merely odd works."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models import Decoding, ModelConfig, ModelConfigError, OutputSpec, build_model
from models.presets import load_named
from tests.support.claims import claim
from tests.support.configurations import SPEC, TINY, random_images, random_targets, shrink, tiny_model

STRUCTURES = ("small", "final", "aster_blstm", "seq2seq_light", "comer", "vit")


def tiny(structure: str) -> ModelConfig:
    return TINY[structure]() if structure in TINY else shrink(load_named(structure).config)


def refused(build: Callable[[], Any], key: str) -> None:
    with pytest.raises(ModelConfigError) as caught:
        build()
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("structure", "key", "value"),
    [
        ("small", "in_channels", 0),
        ("small", "in_channels", -1),
        ("small", "pixel_std", float("nan")),
        ("small", "pixel_mean", float("inf")),
        ("small", "backbone.small_cnn.width", 0),
        ("small", "backbone.small_cnn.depth", -1),
        ("small", "backbone.small_cnn.stride", 2),
        ("small", "encoder.embed_dim", 0),
        ("small", "encoder.embed_dim", -4),
        ("small", "encoder.embed_dim", "16"),
        ("small", "encoder.depth", -1),
        ("small", "encoder.mlp_dim", 0),
        ("small", "encoder.drop_rate", 2.0),
        ("small", "encoder.drop_rate", 1.0),
        ("small", "encoder.output_drop_rate", -0.1),
        ("small", "encoder.mlp_drop_rate", float("nan")),
        ("small", "encoder.position_drop_rate", 2.0),
        ("small", "encoder.class_token", "yes"),
        ("small", "decoder.embed_dim", 0),
        ("small", "decoder.depth", 0),
        ("small", "decoder.mlp_dim", -3),
        ("small", "decoder.drop_rate", 2.0),
        ("small", "decoder.mlp_drop_rate", 2.0),
        ("small", "decoder.extra_embeddings", -1),
        ("small", "rectifier.height", 0),
        ("seq2seq_light", "decoder.rnn.hidden_dim", 0),
        ("seq2seq_light", "decoder.rnn.attention_dim", 0),
        ("seq2seq_light", "decoder.rnn.output_drop_rate", 2.0),
        ("aster_blstm", "decoder.rnn.state_drop_rate", 2.0),
        ("aster_blstm", "encoder.bilstm.drop_rate", 2.0),
        ("ctc", "ctc.drop_rate", 2.0),
        ("comer", "decoder.refinement_channels", 0),
        ("final", "backbone.timm.neck_channels", 0),
        ("final", "backbone.timm.neck_channels", -2),
        ("final", "backbone.timm.stride", 0),
        ("swin", "backbone.swin.drop_path_rate", 2.0),
    ],
)
def test_settings(structure: str, key: str, value: object) -> None:
    config = tiny(structure)
    section: Any = config
    *path, name = key.split(".")
    for part in path:
        section = getattr(section, part)
    setattr(section, name, value)
    refused(lambda: build_model(config, SPEC), f"model.{key}")


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"drop_rate": 2}, "options.drop_rate"),
        ({"drop_path_rate": 2}, "options.drop_path_rate"),
        ({"foo": 1}, "options"),
        ({"channels": -1}, "options"),
        ({"in_chans": 5}, "options"),
    ],
)
def test_options_of_timm(options: dict[str, Any], key: str) -> None:
    config = tiny("final")
    config.backbone.timm.options = options
    refused(lambda: build_model(config, SPEC), f"model.backbone.timm.{key}")


def test_options_of_swin_that_follow_from_others() -> None:
    config = tiny("swin")
    config.backbone.swin.options = {"drop_path_rate": 0.2}
    refused(lambda: build_model(config, SPEC), "model.backbone.swin.options")


@pytest.mark.parametrize(
    ("section", "name", "nearest"),
    [
        ("timm", "resnetrs151", "resnetrs152"),
        ("timm", "tf_efficientnetv2_s.in21k_ft_in1kk", r"tf_efficientnetv2_s\.in21k_ft_in1k"),
        ("swin", "swin_lrge", "swin_large_patch4_window7_224"),
    ],
)
def test_nearest_name_of_timm(section: str, name: str, nearest: str) -> None:
    config = tiny("swin" if section == "swin" else "final")
    getattr(config.backbone, section).name = name
    with pytest.raises(ModelConfigError, match=rf"model\.backbone\.{section}\.name: timm has no .*'; .* {nearest}\b"):
        build_model(config, SPEC)


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        (OutputSpec(0, 0, 1, 2, 5), "bos_id"),
        (OutputSpec(2, 0, 1, 2, 5), "pad_id"),
        (OutputSpec(4, 0, 0, 2, 5), "bos_id"),
        (OutputSpec(4, 0, -1, 2, 5), "eos_id"),
        (OutputSpec(4, 0, 1, 2, 0), "max_length"),
        (OutputSpec(4, 0, 1, 2, 5, (7,), (3,)), "open_ids"),
    ],
)
def test_vocabulary(spec: OutputSpec, key: str) -> None:
    refused(lambda: build_model(tiny("small"), spec), f"output_spec.{key}")


def images(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.uint8)


INPUTS: list[tuple[Tensor, Tensor | None, Any, str]] = [
    (images(1, 64, 128), None, None, "images"),
    (images(1, 1, 1, 64, 128), None, None, "images"),
    (images(0, 1, 64, 128), None, None, "images"),
    (images(2, 0, 64, 128), None, None, "model.in_channels"),
    (images(2, 2, 64, 128), None, None, "model.in_channels"),
    (images(2, 1, 64, 0), None, None, "images"),
    (images(2, 1, 0, 64), None, None, "images"),
    (images(2, 1, 64, 128), None, [[64, 128], [64, 128]], "sizes"),
    (images(2, 1, 64, 128), None, torch.tensor([[64, 128]]), "sizes"),
    (images(2, 1, 64, 128), None, torch.tensor([64, 128]), "sizes"),
    (images(2, 1, 64, 128), None, torch.tensor([[64], [128]]), "sizes"),
    (images(2, 1, 64, 128), None, torch.tensor([[64.0, 128.0], [64.0, 128.0]]), "sizes"),
    (images(2, 1, 64, 128), random_targets(3, 4), None, "tgt_in"),
    (images(2, 1, 64, 128), random_targets(2, 4)[0], None, "tgt_in"),
    (images(2, 1, 64, 128), random_targets(2, 4)[:, :0], None, "tgt_in"),
    (images(2, 1, 64, 128), random_targets(2, 4).float(), None, "tgt_in"),
    (images(2, 1, 64, 128), random_targets(2, 4) + 99, None, "output_spec.num_classes"),
    (images(2, 1, 64, 128), random_targets(2, 4) - 1, None, "output_spec.num_classes"),
    (images(2, 1, 64, 128), random_targets(2, 13), None, "output_spec.max_length"),
]


@pytest.mark.parametrize("structure", ["small", "aster_blstm", "ctc"])
def test_input(structure: str) -> None:
    model = build_model(tiny(structure), SPEC)
    for index, (batch, targets, sizes, key) in enumerate(INPUTS):
        with claim(f"input {index} of INPUTS is refused as {key}"):
            tgt_in = random_targets(2, 4) if targets is None else targets
            refused(functools.partial(model, batch, tgt_in, sizes), key)
            if targets is None:
                refused(functools.partial(model.generate, batch, sizes=sizes), key)


@pytest.mark.parametrize("batch", [[1, 2], torch.zeros(2, 1, 64, 128).numpy(), torch.zeros(2, 1, 64, 128)])
def test_images_of_another_type(batch: Any) -> None:
    with pytest.raises(TypeError, match="images must be a tensor of uint8"):
        tiny_model("small").generate(batch)


@pytest.mark.parametrize(
    ("decoding", "key"),
    [
        (Decoding("sampling"), "method"),  # type: ignore[arg-type]
        (Decoding("beam", beam_size=0), "beam_size"),
        (Decoding("beam", beam_size=2.5), "beam_size"),  # type: ignore[arg-type]
        (Decoding("beam", num_best=9), "num_best"),
        (Decoding(max_length=0), "max_length"),
        (Decoding(max_length=13), "max_length"),
        (Decoding("beam", length_penalty=float("nan")), "length_penalty"),
    ],
)
def test_decoding(decoding: Decoding, key: str) -> None:
    refused(lambda: tiny_model("small").generate(images(1, 1, 64, 128), decoding), f"decoding.{key}")


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_size_that_no_image_has_counts_as_the_nearest(structure: str) -> None:
    model = build_model(tiny(structure), SPEC)
    batch = random_images(model, 2)
    for sizes in ([(0, 0), (64, 128)], [(-9, -5), (1, 1)], [(999, 3), (2, 9999)], [(0, 0), (0, 0)]):
        with claim(f"of {sizes}"):
            model.train().zero_grad()
            output = model(batch, random_targets(2, 4), torch.tensor(sizes))
            assert output.logits is not None
            output.logits.sum().backward()
            assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
            assert all(b.isfinite().all() for b in model.buffers()), "running statistics would never recover"
            model.eval()
            nearest = torch.tensor([(min(max(height, 1), 64), min(max(width, 1), 128)) for height, width in sizes])
            with torch.inference_mode():
                given, expected = (model.encode(batch, size).tokens for size in (torch.tensor(sizes), nearest))
            torch.testing.assert_close(given, expected, rtol=0, atol=0)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_odd_sizes_and_the_least_of_everything(structure: str) -> None:
    spec = OutputSpec(4, bos_id=0, eos_id=1, pad_id=2, max_length=1)
    model = build_model(tiny(structure), spec).eval()
    smallest = model.backbone.min_size
    for height, width in ((65, 131), smallest, (smallest[0] + 1, smallest[1] + 1), (1, 1), (1, 131), (65, 1)):
        batch = images(2, model.in_channels, height, width)
        output = model(batch, torch.zeros(2, 1, dtype=torch.long))
        assert output.logits is not None and output.logits.isfinite().all()
        for decoding in (Decoding(), Decoding("beam", beam_size=9, num_best=9)):
            generation = model.generate(batch, decoding)
            assert generation.token_ids.shape == (2, 1) and generation.log_probs.isfinite().all()


def test_ctc_of_one_column() -> None:
    model = build_model(tiny("ctc"), SPEC).eval()
    batch = images(2, 1, *model.backbone.min_size)
    assert model.encode(batch).size == (1, 1)
    for decoding in (Decoding(), Decoding("beam", beam_size=50, num_best=50)):
        assert model.generate(batch, decoding).lengths.max() <= 1
