"""Whole runs of each kind of recognizer: training, validation, the test split as configured, the report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cluster.errors import UserError
from data_pipeline.dataset.manifest import MANIFEST, Dataset, open_dataset
from data_pipeline.storage.base import open_storage
from models import Decoding
from tests.support.checkpoints import write_checkpoint
from tests.support.overrides import KINDS
from tests.support.runs import Train, losses, small_config, train, train_here
from trainers.checkpoint.format import CONFIG, PREFIX
from trainers.checkpoint.load import Checkpoint, open_checkpoint
from trainers.config.load import to_yaml
from trainers.prediction.evaluation import PredictSplit, evaluate_checkpoint
from trainers.prediction.local import predict_split_here
from trainers.prediction.pool import predict_split_on_ray
from trainers.prediction.predictor import Predictor
from trainers.run.directory import keep_config, open_run
from trainers.run.finalize import EVALUATION, attention_of, finalize
from trainers.run.preflight import preflight
from trainers.run.resume import change_config
from trainers.tasks.metrics.base import GroupedMetrics
from trainers.tasks.sequence import SequenceTask

TWO_WAY = ["decoding.method=beam", "decoding.beam_size=2", "decoding.two_way=true"]
BY_BOTH = ["decoding.method=beam", "decoding.beam_size=2", "decoding.ctc_weight=0.4"]
DECODINGS = {"comer": TWO_WAY, "joint": BY_BOTH, "ctc": ["decoding.method=beam"], "vit": ["decoding.balanced=true"]}


def test_a_run_ends_with_a_report_and_its_loss_falls(formulas_dataset: str, tmp_path: Path) -> None:
    require_report(train_here, predict_split_here, "comer", formulas_dataset, tmp_path, workers=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "small"])
def test_a_run_on_ray_ends_with_a_report_and_its_loss_falls(kind: str, formulas: str, tmp_path: Path) -> None:
    require_report(train, predict_split_on_ray, kind, formulas, tmp_path, workers=2)


def require_report(train: Train, predict_split: PredictSplit, kind: str, formulas: str, tmp_path: Path, workers: int) -> None:
    asked: list[Decoding] = []

    def predict(checkpoint: Checkpoint, dataset: Dataset, split: str, batch_size: int) -> Iterator[dict[str, Any]]:
        asked.append(checkpoint.config.decoding)
        assert isinstance(checkpoint.task, SequenceTask) and checkpoint.task.decoding == checkpoint.config.decoding
        return predict_split(checkpoint, dataset, split, batch_size)

    config = small_config(formulas, tmp_path, *KINDS[kind], *DECODINGS.get(kind, []), "epochs=1", "decoding.max_length=12")
    run, result, printed = train(config)
    steps = list(losses(result).values())
    assert re.search(rf"^{workers} workers? on cpu", printed, re.MULTILINE) and len(steps) == 15 and np.isfinite(steps).all()
    assert np.mean(steps[-3:]) < np.mean(steps[:3]) - 0.05
    assert result.best()["val/count"] == 40 and np.isfinite(result.best()["val/loss"])
    finalize(preflight(config, run), run, result, predict)
    assert json.loads(run.child(EVALUATION).read_bytes())["metrics"]["test"]["count"] == 40 and asked == [config.decoding]
    with Image.open(run.child("report", "attention.png").path) as image:
        assert np.asarray(image.convert("L")).size > 1000
    assert "decoding" in run.child("report", "index.html").read_bytes().decode()


@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_one_map_of_the_image_for_each_token(kind: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 0.5, *KINDS[kind])
    predictor = Predictor(open_checkpoint(str(tmp_path)))
    image = np.random.default_rng(0).integers(0, 256, (64, 150), dtype=np.uint8)  # in a batch of 160 columns
    example = attention_of(predictor, image)
    assert example is not None
    assert len(example.tokens) == len(example.maps) and set(example.tokens) <= {"a", "b"}
    cells = predictor.model.backbone.feature_sizes(predictor.to_tensors([image])[1])[0]
    assert list(example.maps.shape[1:]) == cells.tolist()
    prefix = predictor.checkpoint.config.model.encoder.class_token  # it takes its share of the attention
    for token in example.maps:
        assert token.sum() == pytest.approx(1, abs=1e-4) or (prefix and 0 < token.sum() < 1)


@pytest.mark.slow
def test_the_test_split_is_decoded_as_configured_and_validation_greedily(formulas: str, tmp_path: Path) -> None:
    one_worker = ("epochs=2", "scaling.num_train_workers=1", "report.enabled=false", "optim.lr=1e-2")
    config = small_config(formulas, tmp_path, *one_worker, "decoding.max_length=1")
    run, result, _ = train(config)
    dataset, checkpoint = open_dataset(formulas), open_checkpoint(run.uri)

    def metrics_of(split: str, *options: str) -> GroupedMetrics:
        return evaluate_checkpoint(checkpoint.with_options(options), dataset, split, predict_split_on_ray).metrics

    greedy = metrics_of("val", "decoding.max_length=null").averages("val")
    short = metrics_of("val").averages("val")
    assert {key: result.best()[key] for key in greedy} == pytest.approx(greedy)
    assert greedy["val/wer"] != short["val/wer"], "as the checkpoint is configured: one token"
    # A run that is resumed may decode otherwise: the configuration of the run counts, not that of its checkpoint.
    changed = change_config(open_run(run.uri)[1], ["decoding.max_length=2"])
    finalize(preflight(changed, run), run, result, predict_split_on_ray)
    metrics = json.loads(run.child(EVALUATION).read_bytes())["metrics"]["test"]
    assert metrics == metrics_of("test", "decoding.max_length=2").total.averages()


def test_a_resumed_run_may_decode_otherwise_but_not_learn_otherwise(tmp_path: Path) -> None:
    config = small_config(str(tmp_path), tmp_path, "model.ctc.head=linear")
    run = open_storage(str(tmp_path / "run"))
    run.child(CONFIG).write_bytes(to_yaml(config).encode())
    changed = change_config(open_run(run.uri)[1], ["decoding.method=beam", "decoding.beam_size=3"])
    assert changed == replace(config, decoding=Decoding("beam", beam_size=3)) and open_run(run.uri)[1] == config
    keep_config(run, changed)
    assert open_run(run.uri)[1] == changed
    for override in ("loss.ctc_weight=0.5", "loss.label_smoothing=0.1", "model.decoder.direction=both", "model=comer"):
        with pytest.raises(UserError, match=f"'{override.partition('.')[0].partition('=')[0]}' cannot change"):
            change_config(changed, [override])


def dataset_of(formulas: str, folder: Path, **image: int) -> str:
    """The dataset, its images said to be of another size."""
    manifest = json.loads((Path(formulas) / MANIFEST).read_bytes())
    manifest["image"] |= image
    manifest["digest"] = ""
    folder.mkdir()
    (folder / MANIFEST).write_text(json.dumps(manifest))
    for split in manifest["splits"]:
        (folder / split).symlink_to(Path(formulas) / split)
    return str(folder)


@pytest.mark.parametrize(
    ("overrides", "image", "parts"),
    [
        (["decoding.two_way=true"], {}, ["decoding.two_way", "direction=both"]),
        (["model.ctc.head=linear", "decoding.ctc_weight=0.3"], {}, ["decoding.ctc_weight", "beam"]),
        (["decoding.max_length=10000"], {}, ["decoding.max_length", "10000"]),
        ([*KINDS["vit"], "model.encoder.position_columns=4"], {}, ["model.encoder.position_columns"]),
        (["model.decoder.name=none"], {}, ["model.decoder.name", "model.ctc.head"]),
    ],
)
def test_what_a_network_cannot_serve_is_said_before_anything_starts(
    overrides: list[str], image: dict[str, int], parts: list[str], formulas: str, tmp_path: Path
) -> None:
    dataset = dataset_of(formulas, tmp_path / "data", **image)
    with pytest.raises(UserError) as caught:
        preflight(small_config(dataset, tmp_path, *overrides))
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_a_dataset_lower_than_a_network_is_served(formulas: str, tmp_path: Path) -> None:
    preflight(small_config(dataset_of(formulas, tmp_path / "data", height=9), tmp_path, *KINDS["ctc"]))


def test_pretrained_weights_that_are_not_there_stop_a_fresh_run_alone(
    formulas: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    create, asked = timm.create_model, []

    def offline(name: str, pretrained: bool = False, **options: object) -> object:
        if pretrained:
            asked.append(name)
            raise OSError("the hub does not answer")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    config = small_config(formulas, tmp_path, *KINDS["satrn_final"], "model.backbone.timm.pretrained=true")
    with pytest.raises(UserError, match=r"model\.backbone\.timm\.pretrained.*cannot load the weights.*set it to false"):
        preflight(config)
    run = open_storage(str(tmp_path / "run"))
    with pytest.raises(UserError, match="cannot load the weights"):
        train(config, run)
    assert asked == ["test_resnet"] * 2 and not (tmp_path / "run").exists()
    run.child(CONFIG).write_bytes(to_yaml(config).encode())
    write_checkpoint(tmp_path / "run" / f"{PREFIX}0000001-a", 0.5, manifest=open_dataset(formulas).manifest)
    preflight(config, run)
    assert len(asked) == 2, "a resumed run has its weights"
