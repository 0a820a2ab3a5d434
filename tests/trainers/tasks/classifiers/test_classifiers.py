"""Tasks with labels, from a dataset to predictions: names stay names, whatever the order; what is trained is what predicts."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cluster.errors import UserError
from data_pipeline.dataset.manifest import Dataset, open_dataset
from data_pipeline.dataset.shards import read_split
from data_pipeline.storage.base import open_storage
from data_pipeline.stream import EvaluationStream, StreamConfig
from tests.support.label_datasets import MULTICLASS, MULTILABEL, MULTITASK, TINY, write_labels
from tests.support.runs import train_here
from trainers.checkpoint.load import Checkpoint, load_model, open_checkpoint
from trainers.checkpoint.warm_start import warm_start
from trainers.config.load import load_config
from trainers.config.train import TrainConfig
from trainers.engine.evaluation import evaluate_batch
from trainers.engine.step import StepConfig, TrainStep
from trainers.prediction.csv_table import require_table, write_csv
from trainers.prediction.evaluation import constant_baseline, evaluate_checkpoint
from trainers.prediction.image_options import image_policy_of
from trainers.prediction.local import predict_split_here
from trainers.prediction.parts import Parts
from trainers.prediction.predictor import Predictor
from trainers.run.notable import notable_images
from trainers.run.preflight import preflight
from trainers.tasks import TASKS
from trainers.tasks.classifiers.base import ClassifierTask
from trainers.tasks.device_batch import DeviceBatch, to_device
from trainers.tasks.metrics.base import GroupedMetrics
from trainers.tasks.presentation import Bars, Gallery, Matrix, Reliability

pytestmark = pytest.mark.xdist_group("classifiers")  # one process trains for all

OWN = {"multitask": ["classifier.head.name=attention", "classifier.head.hidden_dim=16"]}
Trained = tuple[Dataset, Checkpoint, str]  # and what was printed
COUNTS = {"train": 288, "val": 40, "test": 40}


def config_of(folder: Path, runs: Path, *overrides: str) -> TrainConfig:
    return load_config(None, [*TINY, f"data.dataset={folder}", f"runs_dir={runs}", *overrides])


@pytest.fixture(scope="module", params=["multilabel", "multiclass", "multitask"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp(request.param)
    dataset = write_labels(folder / "data", request.param, COUNTS)
    run, _, printed = train_here(config_of(folder / "data", folder / "runs", *OWN.get(request.param, [])))
    return dataset, open_checkpoint(run.uri), printed


def truths(dataset: Dataset, split: str = "test") -> dict[str, dict[str, Any]]:
    columns = ["id", *dataset.manifest.columns]
    return {row["id"]: row for row in read_split(dataset, split, columns).to_pylist()}


def test_a_task_goes_all_the_way(trained: Trained, tmp_path: Path) -> None:
    dataset, checkpoint, printed = trained
    task = checkpoint.task
    assert isinstance(task, ClassifierTask)
    assert f"Classes of {next(iter(task.classes))} by index: 0 " in printed
    assert json.loads(checkpoint.storage.child("classes.json").read_bytes()) == dataset.manifest.target
    result = evaluate_checkpoint(checkpoint, dataset, "test", predict_split_here)
    whole = result.metrics.whole()
    assert {"even", "odd"} == set(result.metrics.parts()), "metrics of each source"
    _, baseline = constant_baseline(task, dataset, "train", "test")
    assert whole["accuracy"] > baseline.whole()["accuracy"] + 0.2, "it learned something"

    # Predictions as a table of text: each line is what the prediction says, in declared order.
    parts = Parts(open_storage(tmp_path), "job", task.prediction_schema, [row["id"] for row in result.rows], {}, 16)
    parts.look()
    for row in result.rows:
        parts.add({key: row[key] for key in ("id", "error", *task.prediction_schema.names)})
    for probabilities in (False, True):
        write_csv(open_storage(tmp_path), task, open_storage(tmp_path / "table.csv"), probabilities)
        lines = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
        assert [line.pop("index") for line in lines] == [row["id"] for row in result.rows]
        for line, row in zip(lines, result.rows, strict=True):
            assert list(line) == task.table_columns(probabilities)
            if not probabilities:
                assert list(line.values()) == task.table_cells(row, False)
            else:
                probs = np.concatenate([row[column] for column in task.probs_columns.values()])
                np.testing.assert_allclose([float(value) for value in line.values()], probs, atol=1e-6)


def test_the_predictor_names_what_the_dataset_names(trained: Trained) -> None:
    dataset, checkpoint, _ = trained
    predictor = Predictor(checkpoint)
    rows = read_split(dataset, "test", ["id", "image"]).to_pylist()
    columns = {key: np.array([row[key] for row in rows], object) for key in ("id", "image")}
    predicted = predictor(columns)
    assert not any(predicted["inverted"]), "images of one size are prepared as the dataset was, photos are not inverted"
    task, known = predictor.task, truths(dataset)
    assert isinstance(task, ClassifierTask)
    metrics = task.new_metrics()
    for index, name in enumerate(predicted["id"]):
        metrics.add({key: predicted[key][index] for key in task.prediction_schema.names}, known[name])
    assert metrics.averages()["accuracy"] > 0.5
    # A batch equals its images one by one, and where the network looked is told for each head.
    images = [predictor.prepare(row["image"]).pixels for row in rows[:3]]
    alone = [predictor.predict([image])[0] for image in images]
    for one, many in zip(alone, predictor.predict(images), strict=True):
        for column in task.probs_columns.values():
            np.testing.assert_allclose(one[column], many[column], atol=1e-5)
    with torch.inference_mode():  # as the sample images of a validation are made
        seen = task.predict_with_attention(predictor.model, *predictor.to_tensors(images))
    for _, attention in seen:
        assert attention is not None and len(attention.labels) == len(task.classes) == len(attention.maps)
        assert np.isfinite(attention.maps).all() and (attention.maps >= 0).all()


def test_views_are_averaged_and_options_are_checked(trained: Trained) -> None:
    _, checkpoint, _ = trained
    views = ["identity", "flip_horizontal", "rotate_90"]
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (2, 1, 32, 32), dtype=np.uint8))
    sizes = torch.full((2, 2), 32)
    with_views = Predictor(checkpoint.with_options([f"labeling.tta=[{','.join(views)}]"]))
    each = [Predictor(checkpoint.with_options([f"labeling.tta=[{name}]"])) for name in views]
    task = with_views.task
    assert isinstance(task, ClassifierTask)
    for column in task.probs_columns.values():
        mean = np.mean([[row[column] for row in one.task.predict(one.model, images, sizes)] for one in each], 0)
        found = [row[column] for row in task.predict(with_views.model, images, sizes)]
        np.testing.assert_allclose(found, mean, atol=1e-6)
    for wrong in ("labeling.tta=[sideways]", "labeling.threshold=0", "labeling.temperature=0", "labeling.thresholds={z: .5}"):
        with pytest.raises(UserError, match=wrong.partition("=")[0]):
            checkpoint.with_options([wrong])


def test_the_report_shows_each_class_and_the_most_certain_errors(trained: Trained) -> None:
    dataset, checkpoint, _ = trained
    task = checkpoint.task
    result = evaluate_checkpoint(checkpoint, dataset, "test", predict_split_here)
    sections = {section.title: section.content for section in task.report_sections([(row, row) for row in result.rows])}
    assert sections["Metrics of each class"] == task.class_table(result.metrics.total)
    drawings = [drawing for content in sections.values() if isinstance(content, tuple) for drawing in content]
    assert {type(drawing) for drawing in drawings} >= {Matrix, Bars, Reliability}
    assert {drawing.counts.sum() for drawing in drawings if isinstance(drawing, Reliability)} <= {40, 160}  # of labels: pairs
    if task.name == "multitask":
        weights = next(drawing for drawing in drawings if isinstance(drawing, Matrix) and drawing.title.startswith("Attention"))
        np.testing.assert_allclose(weights.values.sum(1), 1, atol=1e-5)

    # With the truths of other rows there are errors enough.
    predictor = Predictor(checkpoint, image=image_policy_of(checkpoint, [], prepared=True))
    truth = [{name: row[name] for name in task.columns} for row in result.rows]
    rows = [{**row, **other} for row, other in zip(result.rows, truth[1:] + truth[:1], strict=True)]
    (section,) = notable_images(predictor, dataset, "test", rows)
    assert isinstance(section.content, tuple) and isinstance(section.content[0], Gallery)
    shown = section.content[0].images
    assert len(shown) == 12 and len({image.id for image in shown}) == 12
    for image in shown:
        assert image.image.shape == (32, 32) and image.source in ("even", "odd") and "truth" in image.notes
        assert image.attention is not None and np.isfinite(image.attention).all() and (image.attention >= 0).all()
    # What speaks for a class is the same as where the network looked, if that class is the most probable one.
    tensors = predictor.to_tensors([shown[0].image])
    ((row, looked),) = task.predict_with_attention(predictor.model, *tensors)
    assert looked is not None and isinstance(task, ClassifierTask)
    head, column = next(iter(task.probs_columns.items()))
    best = task.classes[head][int(np.argmax(row[column]))]
    output = best if best in task.output_names else f"{head}={best}"
    with torch.inference_mode():
        seen = task.saliency(predictor.model, *tensors, output)
    assert seen is not None
    np.testing.assert_allclose(seen, looked.maps[0], atol=1e-6)
    perfect = [{**row, **task.perfect_prediction(row)} for row in result.rows]
    assert notable_images(predictor, dataset, "test", perfect) == []


def test_classes_in_another_order_are_compared_by_name(trained: Trained, tmp_path: Path) -> None:
    dataset, checkpoint, _ = trained
    task = dataset.manifest.task
    target = json.loads(json.dumps(dataset.manifest.target))
    for names in [target["classes"]] if "classes" in target else target["heads"].values():
        names.reverse()
    other = write_labels(tmp_path / "reversed", task, COUNTS, target)
    same = write_labels(tmp_path / "same", task, COUNTS)
    reversed_result = evaluate_checkpoint(checkpoint, other, "test", predict_split_here)
    assert reversed_result.metrics.whole() == evaluate_checkpoint(checkpoint, same, "test", predict_split_here).metrics.whole()
    mine = checkpoint.task
    theirs = TASKS[task].from_dataset(other.manifest, checkpoint.config)
    (note,) = mine.require_covers(theirs, "the checkpoint", "the dataset")
    assert "another order" in note and "class 0 is" in note
    with pytest.raises(UserError, match="same classes in the same order"):
        mine.require_same(theirs, "the checkpoint", "the dataset")


@pytest.mark.parametrize("rows", [1, 21])
def test_any_number_of_workers_measures_the_same(trained: Trained, tmp_path: Path, rows: int) -> None:
    """To the last digit, for splits that the workers cannot share evenly; each batch goes through the network once."""
    _, checkpoint, _ = trained
    task = checkpoint.task.for_validation()
    dataset = write_labels(tmp_path, task.name, {"val": rows}, seed=7)
    model = load_model(checkpoint)
    passes: list[None] = []
    model.register_forward_hook(lambda *_: passes.append(None))
    found, batches = [], 0
    for workers in (1, 2, 3):
        total = GroupedMetrics(task.new_metrics)
        for rank in range(workers):
            part = GroupedMetrics(task.new_metrics)
            stream = EvaluationStream(
                dataset, "val", task.target_encoder(), StreamConfig(execution="threads", threads=1),
                batch_size=12 // workers, rank=rank, world_size=workers,
            )  # fmt: skip
            for batch in stream.batches():
                batches += 1
                evaluate_batch(model, task, batch, to_device(batch, torch.device("cpu")), part)
            total += part
        found.append(total.averages("val"))
    texts = [{name: repr(value) for name, value in metrics.items()} for metrics in found]
    assert texts[0] == texts[1] == texts[2]
    assert len(passes) == batches
    assert found[0]["val/count"] == rows and found[0]["val/loss"] > 0


def test_a_class_that_was_never_taught(tmp_path: Path) -> None:
    known = TASKS["multiclass"].from_dataset(write_labels(tmp_path / "a", "multiclass", {"train": 8}).manifest, TrainConfig())
    more = {"classes": [*MULTICLASS["classes"], "12"]}
    other = TASKS["multiclass"].from_dataset(
        write_labels(tmp_path / "b", "multiclass", {"train": 8}, more).manifest, TrainConfig()
    )
    heads = {"heads": {"shade": ["dark", "light"]}}
    both = [write_labels(tmp_path / name, "multitask", {"train": 8}, target) for name, target in (("c", None), ("d", heads))]
    two, one = (TASKS["multitask"].from_dataset(dataset.manifest, TrainConfig()) for dataset in both)
    with pytest.raises(UserError, match="the dataset has the heads shade, the checkpoint has shade, corner"):
        two.require_covers(one, "the checkpoint", "the dataset")
    with pytest.raises(UserError, match="never taught: 12"):
        known.require_covers(other, "the checkpoint", "the dataset")


def test_a_warm_start_goes_by_names(trained: Trained, tmp_path: Path) -> None:
    """Classes and heads in another order take the rows of their names; other labels take the backbone alone."""
    dataset, checkpoint, _ = trained
    target = json.loads(json.dumps(dataset.manifest.target))
    for names in [target["classes"]] if "classes" in target else target["heads"].values():
        names.reverse()
    own = [f"init.checkpoint={checkpoint.uri}", "data.val_split=''", "data.test_split=''", *OWN.get(dataset.manifest.task, [])]
    write_labels(tmp_path / "reversed", dataset.manifest.task, {"train": 4}, target)
    spec = preflight(config_of(tmp_path / "reversed", tmp_path, *own))
    network, old = spec.task.build_model(), load_model(checkpoint).state_dict()
    assert spec.warm_start is not None
    report = warm_start(network, spec.task, spec.config.init, spec.warm_start)
    state = network.state_dict()
    assert report.by_name and not report.new and not report.not_loaded
    for name in report.by_name:
        before, after = checkpoint.task.tensor_outputs(name), spec.task.tensor_outputs(name)
        assert before != after and sorted(before) == sorted(after)
        for row, output in enumerate(after):
            assert torch.equal(state[name][row], old[name][before.index(output)]), f"{name}: {output}"

    other = "multilabel" if dataset.manifest.task != "multilabel" else "multiclass"
    write_labels(tmp_path / "other", other, {"train": 4}, {"classes": ["x", "y"]} if other == "multilabel" else None)
    plain = [word for word in own if not word.startswith("classifier.")]
    spec = preflight(config_of(tmp_path / "other", tmp_path, *plain))
    assert spec.warm_start is not None
    report = warm_start(spec.task.build_model(), spec.task, spec.config.init, spec.warm_start)
    assert any(name.startswith("backbone.") for name in report.loaded)
    assert not any(name.startswith("head.") for name in [*report.loaded, *report.by_name]), report


def test_numbers_keep_their_order(tmp_path: Path) -> None:
    """A string order would make 10 the third class: it cost a source 50 points."""
    dataset = write_labels(tmp_path, "multiclass", {"train": 64})
    task = TASKS["multiclass"].from_dataset(dataset.manifest, TrainConfig())
    assert task.output_names == [str(number) for number in range(12)]
    encoder = task.target_encoder()
    encoded = encoder.collate([encoder.encode({"label": name}) for name in ("2", "10", "11")], 4)
    assert encoded["label"].tolist() == [2, 10, 11, 0]
    again = TASKS["multiclass"].from_checkpoint(task.to_bytes(), {}, TrainConfig())
    assert again.output_names == task.output_names
    assert task.perfect_prediction({"label": "10"})["probs"][10] == 1


@pytest.mark.parametrize("task", ["multilabel", "multiclass", "multitask"])
def test_parts_of_a_batch_add_up(task: str, tmp_path: Path) -> None:
    """The loss of a batch equals that of its parts, and rows of weight 0 do not count."""
    dataset = write_labels(tmp_path, task, {"train": 40})
    overrides = ["classifier.head.name=flat"] if task == "multitask" else ["label_loss.class_weights=balanced"]
    made = TASKS[task].from_dataset(dataset.manifest, config_of(tmp_path, tmp_path / "runs", *overrides))
    torch.manual_seed(0)
    model = made.build_model().eval()
    rows = read_split(dataset, "train", list(made.columns)).to_pylist()[:8]
    encoder = made.target_encoder()
    arrays = encoder.collate([encoder.encode(row) for row in rows], 10)
    targets = {name: torch.from_numpy(array) for name, array in arrays.items()}
    weights = torch.tensor([1.0] * 8 + [0.0] * 2)
    images = torch.randint(0, 255, (10, 1, 32, 32), dtype=torch.uint8)
    batch = DeviceBatch(images, torch.full((10, 2), 32), targets, weights)
    whole, count = made.loss_sum(model, batch), made.target_count(batch)
    parts = list(batch.split(3))
    torch.testing.assert_close(sum(made.loss_sum(model, part) for part in parts), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sum(made.target_count(part) for part in parts), count)
    untouched = replace(batch, images=torch.cat([images[:8], torch.zeros_like(images[:2])]))
    torch.testing.assert_close(made.loss_sum(model, untouched), whole)
    assert 0.2 < float((whole / count).detach()) / made.untrained_loss < 3


def test_folds_are_trained_and_checked(tmp_path: Path) -> None:
    write_labels(tmp_path / "data", "multilabel", {f"fold-{number}": 8 for number in range(3)})
    spec = preflight(config_of(tmp_path / "data", tmp_path, "data.fold=1"))
    data = spec.config.data
    assert (data.train_split, data.val_split, data.test_split) == ("fold-0+fold-2", "fold-1", "")
    assert spec.task.train_rows == 16  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"data\.fold=3: the dataset has folds 0 to 2"):
        preflight(config_of(tmp_path / "data", tmp_path, "data.fold=3"))
    with pytest.raises(UserError, match=r"data\.test_split=tset: the dataset has no split of this name"):
        preflight(config_of(tmp_path / "data", tmp_path, "data.fold=1", "data.test_split=tset"))
    with pytest.raises(UserError, match=r"as in data\.fold=0"):
        preflight(config_of(tmp_path / "data", tmp_path))
    with pytest.raises(UserError, match=r"data\.fold=-2"):
        config_of(tmp_path / "data", tmp_path, "data.fold=-2")


@pytest.mark.parametrize(
    ("task", "override", "said"),
    [
        ("multilabel", "label_loss.multiclass=focal", "has no part in the loss of 'multilabel'"),
        ("multiclass", "label_loss.multilabel=focal", "has no part in the loss of 'multiclass'"),
        ("multiclass", "label_loss.joint_weight=2", "has no part in the loss of 'multiclass'"),
        ("multitask", "label_loss.heads={shade: 0, corner: 0}", "label_loss.heads: every head has the weight 0"),
    ],
)
def test_a_loss_that_trains_nothing_or_is_not_used_is_refused(task: str, override: str, said: str, tmp_path: Path) -> None:
    write_labels(tmp_path / "data", task, {"train": 8, "val": 8, "test": 8})
    with pytest.raises(UserError, match=said):
        preflight(config_of(tmp_path / "data", tmp_path, override))


def test_a_class_that_is_called_as_the_column_of_names_has_no_place_in_a_table(tmp_path: Path) -> None:
    dataset = write_labels(tmp_path, "multilabel", {"train": 8}, {"classes": [*MULTILABEL["classes"], "index"]})
    task = TASKS["multilabel"].from_dataset(dataset.manifest, TrainConfig())
    with pytest.raises(UserError, match="--csv: its column 'index' names the images"):
        require_table(task, probabilities=False)


def test_classes_without_rows_are_named(tmp_path: Path) -> None:
    target = {"classes": [*MULTILABEL["classes"], "e"]}
    dataset = write_labels(tmp_path, "multilabel", {"train": 8, "val": 8}, target)
    notes = preflight(config_of(tmp_path, tmp_path, "data.test_split=''")).notes
    assert any("'e'" in note and "declared, but empty" in note for note in notes), notes
    with pytest.raises(UserError, match=r"label_loss\.weights.*'?z"):
        preflight(config_of(tmp_path, tmp_path, "label_loss.weights={z: 2.0}", "data.test_split=''"))
    with pytest.raises(UserError, match="weight 0, so nothing would be trained"):
        zero = "{a: 0, b: 0, c: 0, d: 0, e: 0}"
        preflight(config_of(tmp_path, tmp_path, f"label_loss.weights={zero}", "data.test_split=''"))
    assert open_dataset(str(tmp_path)).manifest.digest == dataset.manifest.digest


def test_a_joint_head_needs_a_joint(tmp_path: Path) -> None:
    write_labels(tmp_path, "multitask", {"train": 8, "val": 8}, {"heads": MULTITASK["heads"]})
    with pytest.raises(UserError, match=r"classifier\.head\.name"):
        preflight(config_of(tmp_path, tmp_path, "classifier.head.name=attention", "data.test_split=''"))


def test_a_large_batch_in_parts_takes_the_same_step(tmp_path: Path) -> None:
    """512 images at once or in parts of 32, of a network without batch norm, with recomputed activations or not."""
    dataset = write_labels(tmp_path, "multilabel", {"train": 8})
    steps = {}
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 255, (512, 1, 32, 32), dtype=np.uint8))
    targets = {"labels": torch.from_numpy(rng.integers(0, 2, (512, 4)).astype(np.float32))}
    batch = DeviceBatch(images, torch.full((512, 2), 32), targets, torch.ones(512))
    for size, recompute in ((0, False), (32, False), (32, True)):
        names = ["classifier.backbone.name=test_vit", "classifier.backbone.options={img_size: 32}", "optim.name=sgd"]
        names += [f"classifier.backbone.grad_checkpointing={str(recompute).lower()}", "optim.betas=[0.9,0.9]"]
        config = config_of(tmp_path, tmp_path, *names)
        task = TASKS["multilabel"].from_dataset(dataset.manifest, config)
        torch.manual_seed(0)
        model = task.build_model()
        step = TrainStep(model, task, config.optim, 10, torch.device("cpu"), StepConfig(micro_batch_size=size))
        for _ in range(2):
            step(batch)
        steps[size, recompute] = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    for name, whole in steps[0, False].items():
        torch.testing.assert_close(steps[32, False][name], whole, rtol=1e-5, atol=1e-5)
        assert torch.equal(steps[32, True][name], steps[32, False][name]), f"{name}: equal to the bit"
