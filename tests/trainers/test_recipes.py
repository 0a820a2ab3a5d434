"""The training recipes of configs/train are those that the source systems state."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from models.presets import load_named
from trainers.config.load import load_config
from trainers.config.train import TrainConfig

FOLDER = Path("configs/train")
OURS = {"formulas", "crohme", "crohme_comer", "letters", "faces"}  # not of a source


CROPS = [{"random_resized_crop": {}}, {"flip": {"horizontal": 0.5}}]


class LabelRecipe(NamedTuple):
    """What a source states of the training of a classifier."""

    lr: float
    weight_decay: float
    batch: int
    epochs: int
    schedule: str
    augmentation: Any
    in_channels: int
    backbone: str
    monitor: str


LABEL_RECIPES = {
    "letters_folds": LabelRecipe(1e-3, 0.0, 8, 25, "step", "flips", 3, "efficientnet_b3", "val/loss"),
    "letters_efficientnetv2": LabelRecipe(
        1e-3, 1e-5, 512, 30, "cosine", "boards", 1, "tf_efficientnetv2_m.in21k", "val/accuracy"
    ),
    "masks": LabelRecipe(
        5e-4,
        0.0,
        128,
        5,
        "constant",
        [{"random_resized_crop": {}}, {"flip": {"horizontal": 0.5}}],
        3,
        "efficientnet_b3",
        "auto",
    ),
}


class Recipe(NamedTuple):
    """What a source states of a training run."""

    optimizer: str
    lr: float
    batch: int
    epochs: int
    schedule: str
    sampling: tuple[str, float | None]  # its mode, and its ratio where that matters
    ignore_padding: bool
    max_grad_norm: float = 2.0
    seed: int | None = 1234


FREE = ("per_batch", 0.5)
TRUTH = ("always", None)
STEPS = ("per_step", 0.8)
RECIPES = {
    "satrn_baseline": Recipe("adam", 5e-4, 36, 50, "cyclic", FREE, True),
    "satrn_efficient": Recipe("adam", 5e-4, 36, 50, "cyclic", FREE, True),
    "satrn_rezero": Recipe("adam", 5e-4, 36, 50, "cyclic", FREE, True),
    "satrn_3": Recipe("adam", 5e-4, 36, 50, "cyclic", FREE, False),
    "satrn_4": Recipe("adam", 5e-4, 36, 50, "cyclic", FREE, False),
    "satrn_adamp": Recipe("adamp", 5e-4, 36, 50, "cyclic", FREE, False),
    "satrn_final": Recipe("adam", 5e-4, 36, 50, "cyclic", FREE, False),
    "satrn_extension": Recipe("adam", 5e-4, 36, 50, "cyclic", FREE, False),
    "satrn_v6": Recipe("adam", 4e-4, 36, 50, "cyclic", FREE, False),
    "aster": Recipe("adam", 5e-4, 96, 50, "cyclic", FREE, True),
    "aster_blstm": Recipe("adam", 5e-4, 96, 50, "cyclic", FREE, False),
    "vit": Recipe("adam", 5e-3, 72, 60, "cyclic", TRUTH, True),
    "swin": Recipe("adam", 2e-3, 64, 60, "cyclic", TRUTH, True),
    "seq2seq": Recipe("adam", 5e-4, 32, 1000, "constant", STEPS, True, 0.0, None),
    "seq2seq_light": Recipe("adam", 5e-4, 32, 1000, "constant", STEPS, True, 0.0, None),
    "ctc": Recipe("adam", 5e-4, 32, 1000, "constant", TRUTH, True, 0.0, None),
}
LINES = ("seq2seq", "seq2seq_light", "ctc")


def recipe(config: TrainConfig) -> Recipe:
    """The same of a configuration. Read by name, so that a key that is gone is this test's failure."""
    values: Any = config
    sampling, optim = values.scheduled_sampling, values.optim
    return Recipe(
        optim.name,
        optim.lr,
        values.global_batch_size,
        values.epochs,
        optim.schedule.name,
        (sampling.mode, None if sampling.mode == "always" else sampling.ratio),
        values.loss.ignore_padding,
        optim.max_grad_norm,
        values.seed,
    )


def label_recipe(config: TrainConfig) -> LabelRecipe:
    """The same of a classifier's configuration."""
    values: Any = config
    optim, classifier = values.optim, values.classifier
    return LabelRecipe(
        optim.lr,
        optim.weight_decay,
        values.global_batch_size,
        values.epochs,
        optim.schedule.name,
        values.stream.augmentation,
        classifier.in_channels,
        classifier.backbone.name,
        values.checkpoint.metric,
    )


def test_what_sources_state_of_their_classifiers_beside_that() -> None:
    folds, large, masks = (load_config(FOLDER / f"{name}.yaml") for name in LABEL_RECIPES)
    assert (folds.optim.schedule.step_epochs, folds.optim.schedule.gamma, folds.data.fold) == (5, 0.75, 0)
    schedule, backbone = large.optim.schedule, large.classifier.backbone
    assert (schedule.per_epoch, schedule.min_lr_ratio, large.optim.eps) == (True, 0.01, 1e-6)
    assert (backbone.drop_rate, backbone.drop_path_rate, backbone.grad_checkpointing) == (0.5, 0.2, True)
    assert (masks.seed, masks.classifier.backbone.keep_classifier, masks.classifier.backbone.pretrained) == (42, True, True)


def names() -> list[str]:
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def test_every_file_is_a_recipe_of_this_table_or_ours() -> None:
    assert set(names()) == set(RECIPES) | set(LABEL_RECIPES) | OURS


@pytest.mark.parametrize("name", names())
def test_every_file_can_be_run_by_name_and_is_what_its_source_states(name: str) -> None:
    file = FOLDER / f"{name}.yaml"
    config: Any = load_config(file)
    assert config.name == name
    assert f"configs/train/{name}.yaml" in file.read_text().splitlines()[0], "its header begins with the command"
    if name in OURS:
        assert config.early_stopping.patience == 0
        return
    if name in LABEL_RECIPES:
        assert label_recipe(config) == LABEL_RECIPES[name]
        assert config.optim.name == "adam" and config.optim.max_grad_norm == 0 and config.optim.betas == (0.9, 0.999)
        return
    stated = RECIPES[name]
    assert recipe(config) == (stated._replace(seed=config.seed) if stated.seed is None else stated)
    assert config.model == load_named(name).config
    assert (config.loss.name, config.loss.label_smoothing) == ("cross_entropy", 0.0)
    assert config.optim.weight_decay == 0.0 and config.optim.betas[1] == 0.999
    assert (config.stream.augmentation, config.compute.precision) == ("none", "fp32")
    stopping = config.early_stopping  # of the line recognizers alone
    if name in LINES:
        assert (stopping.patience, stopping.metric, stopping.mode) == (50, "val/cer", "min")
    else:
        assert stopping.patience == 0
