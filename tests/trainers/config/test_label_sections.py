"""The sections of classifiers: bad values by key, and names of classes that survive storing whatever they are."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from cluster.redaction import redacted_values
from cluster.values import Typing
from cluster.yaml_text import load_yaml
from trainers.config.label_loss import LabelLossConfig, MultilabelLossName, without_label_training_terms
from trainers.config.labeling import LabelingConfig, view_problem
from trainers.config.load import config_from_dict, load_config, to_yaml
from trainers.config.mixup import MixupConfig


def test_defaults_are_right() -> None:
    assert LabelLossConfig().validate() == MixupConfig().validate() == LabelingConfig().validate() == []
    assert not MixupConfig().enabled and not MixupConfig(mixup_alpha=0.2, prob=0).enabled


@pytest.mark.parametrize(
    ("section", "parts"),
    [
        (LabelLossConfig(label_smoothing=1), ["label_loss.label_smoothing=1", "below 1"]),
        (LabelLossConfig(multilabel="zlpr", label_smoothing=0.1), ["label_loss.label_smoothing=0.1", "zlpr"]),
        (LabelLossConfig(two_way_negative=0), ["label_loss.two_way_negative=0", "above 0"]),
        (LabelLossConfig(focal_gamma=math.nan), ["label_loss.focal_gamma=nan", "not negative"]),
        (LabelLossConfig(multilabel="focal", focal_gamma=0.5), ["label_loss.focal_gamma=0.5", "at least 1"]),
        (LabelLossConfig(focal_alpha=1.5), ["label_loss.focal_alpha=1.5", "null"]),
        (LabelLossConfig(asymmetric_clip=1), ["label_loss.asymmetric_clip=1"]),
        (LabelLossConfig(poly_epsilon=-2), ["label_loss.poly_epsilon=-2"]),
        (LabelLossConfig(multilabel="poly", weights={"a": 2}), ["label_loss.weights", "poly", "leave them out"]),
        (LabelLossConfig(multilabel="focal", class_weights="balanced"), ["label_loss.class_weights", "focal"]),
        (LabelLossConfig(weights={"a b": -1}), ["label_loss.weights.a b=-1", "not negative"]),
        (LabelLossConfig(weights={"é": math.nan}), ["label_loss.weights.é=nan"]),
        (LabelLossConfig(heads={"mask": math.inf}), ["label_loss.heads.mask=inf"]),
        (LabelLossConfig(heads={"": 1}), ["label_loss.heads has an empty name"]),
        (LabelLossConfig(joint_weight=-0.5), ["label_loss.joint_weight=-0.5"]),
        (MixupConfig(mixup_alpha=-1), ["mixup.mixup_alpha=-1", "(off)"]),
        (MixupConfig(cutmix_alpha=math.nan), ["mixup.cutmix_alpha=nan"]),
        (MixupConfig(prob=1.2), ["mixup.prob=1.2", "share"]),
        (LabelingConfig(threshold=0), ["labeling.threshold=0", "nearly every image"]),
        (LabelingConfig(threshold=1), ["labeling.threshold=1", "no image"]),
        (LabelingConfig(thresholds={"a": 1.0}), ["labeling.thresholds.a=1.0", "no image"]),
        (LabelingConfig(thresholds={"a": math.nan}), ["labeling.thresholds.a=nan", "between 0 and 1"]),
        (LabelingConfig(thresholds={"": 0.5}), ["labeling.thresholds has an empty class name"]),
        (LabelingConfig(temperature=0), ["labeling.temperature=0", "from 0.01"]),
        (LabelingConfig(temperatures={"mask": math.inf}), ["labeling.temperatures.mask=inf"]),
        (LabelingConfig(tta=["rotate_45"]), ["labeling.tta=rotate_45", "rotate_90", "scale_0.9"]),
        (LabelingConfig(tta=["scale_0.1"]), ["labeling.tta=scale_0.1", "from 0.25 to 4"]),
        (LabelingConfig(tta=["identity", "identity"]), ["labeling.tta=identity", "twice"]),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(section: Any, parts: list[str]) -> None:
    (problem,) = section.validate()
    assert all(part in problem for part in parts), problem


@pytest.mark.parametrize("name", ["zlpr", "two_way"])
def test_mixed_labels_and_a_loss_that_ranks_labels_exclude_each_other(name: MultilabelLossName) -> None:
    loss = LabelLossConfig(multilabel=name)
    (problem,) = MixupConfig(cutmix_alpha=1).problems_with(loss)
    assert "mixup.cutmix_alpha=1" in problem and f"label_loss.multilabel={name}" in problem
    assert not MixupConfig().problems_with(loss) and not MixupConfig(cutmix_alpha=1).problems_with(LabelLossConfig())


def test_validation_measures_plain_cross_entropy() -> None:
    config = LabelLossConfig("focal", "focal", 0.1, heads={"mask": 2.0}, joint_weight=0.5, weights={"a": 2.0})
    assert without_label_training_terms(config) == LabelLossConfig(heads={"mask": 2.0}, joint_weight=0.5)


@pytest.mark.parametrize("name", ["scale_.9", "scale_4", "crop_1", "crop_0.5", "flip_vertical", "identity"])
def test_a_view_that_there_is(name: str) -> None:
    assert not view_problem(name)


@pytest.mark.parametrize(
    "name", ["", "scale", "scale_", "scale_-1", "scale_nan", "scale_1e1", "crop_1.1", "crop_0", "Identity", "é\n"]
)
def test_a_view_that_there_is_not(name: str) -> None:
    assert view_problem(name)


# fmt: off
ODD = [
    "password=x", "password", "api_key", "a.b", "a b", " ", "é", "0", "1e3", "null", "yes", "~", "- a", "#",
    "'", '"', ":", "{}",
    "<<", "s3://me:secret@host/x", "a?token=abc", "Authorization: Bearer x", "???", "日本", "[0]", "a=b",
]
# fmt: on
NAMES = st.one_of(st.sampled_from(ODD), st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8))


def read_again(kind: type, text: str) -> Any:
    typing = Typing(kind, "a test")
    merged = typing.merge(OmegaConf.structured(kind), typing.mapping(load_yaml(text)))
    found = typing.finish(merged)
    assert not typing.problems
    return found


def test_names_are_merged_and_emptied() -> None:
    given = ["labeling.thresholds={a: 0.3, b: 0.4}", "classifier.backbone.options={width: 8}"]
    assert load_config(None, [*given, "labeling.thresholds.c=0.5"]).labeling.thresholds == {"a": 0.3, "b": 0.4, "c": 0.5}
    emptied = load_config(None, [*given, "labeling.thresholds={}", "classifier.backbone={options: {}}", "stream={}"])
    assert emptied.labeling.thresholds == {} and emptied.classifier.backbone.options == {}
    assert load_config(None, [*given, "labeling={}"]).labeling.thresholds == {"a": 0.3, "b": 0.4}, "a section keeps its values"


@settings(max_examples=25)
@given(st.dictionaries(NAMES, st.floats(0.01, 0.99), max_size=4))
def test_names_of_classes_survive_storing(thresholds: dict[str, float]) -> None:
    config = LabelingConfig(thresholds=thresholds, temperatures=thresholds, tta=["identity", "scale_0.9"])
    values = OmegaConf.to_container(OmegaConf.structured(config))
    text = OmegaConf.to_yaml(OmegaConf.create(redacted_values(values)))
    assert read_again(LabelingConfig, text) == config


def test_a_configuration_with_telling_names_is_read_again_and_secrets_are_not_stored() -> None:
    names = [name for name in ODD if name != "???"]
    freeze = {f"{name}*": index + 1 for index, name in enumerate(names)}
    config = load_config(None)
    config.optim.freeze = dict(freeze)
    config.data.dataset = "s3://me:hunter2@bucket/x?api_key=abc"
    text = to_yaml(config)
    assert "hunter2" not in text and "abc" not in text.replace("a?token=abc", "")
    again = config_from_dict(dict(load_yaml(text)), "a test")
    assert again.optim.freeze == freeze and to_yaml(again).splitlines()[3:] == text.splitlines()[3:]


def test_a_text_under_a_key_that_says_secret_is_hidden_and_a_number_is_not() -> None:
    values = {"my_password": "hunter2", "password": 3, "password=x": [0.5, "a"], "other": "password=hunter2", "none": None}
    hidden = {"my_password": "***", "password": 3, "password=x": [0.5, "a"], "other": "password=***", "none": None}
    assert redacted_values(values) == hidden
