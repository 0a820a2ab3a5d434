"""An augmentation as a configuration states it: the name of a preset, or a list of steps."""

from __future__ import annotations

from typing import Any, TypeAlias

from cluster.errors import UserError
from cluster.yaml_text import shown
from data_pipeline.augmentation import albumentations_steps, geometry, tone
from data_pipeline.augmentation.arguments import read_arguments, unknown
from data_pipeline.augmentation.chain import Chain
from data_pipeline.augmentation.distort import Distort
from data_pipeline.augmentation.presets import PRESETS
from data_pipeline.augmentation.step import Step

Augmentation: TypeAlias = str | list[Any]
KEY = "stream.augmentation"

STEPS: dict[str, type[Step]] = {
    kind.name: kind
    for kind in (
        geometry.Rotate,
        geometry.Rotate90,
        geometry.Flip,
        geometry.ShiftScaleRotate,
        geometry.RandomResizedCrop,
        geometry.Cutout,
        tone.BrightnessContrast,
        tone.Blur,
        tone.Noise,
        tone.Invert,
        tone.Grayscale,
        Distort,
    )
}
_NAMES = (*STEPS, *PRESETS, albumentations_steps.NAME)


def chain_of(augmentation: Augmentation) -> Chain:
    """The chain that `augmentation` states.

    Raises:
        UserError: everything that is wrong with it, by key.
    """
    chain, problems = read_chain(augmentation)
    if problems:
        raise UserError(f"Bad augmentation: {'; '.join(problems)}.")
    return chain


def read_chain(augmentation: Any, key: str = KEY) -> tuple[Chain, list[str]]:
    """The chain that `augmentation`, written at `key`, states, and what is wrong with it, by key."""
    if isinstance(augmentation, str) and augmentation in PRESETS:
        return Chain(tuple(_preset(augmentation))), []
    if not isinstance(augmentation, list):
        what = f"{key}={shown(augmentation)}: "
        if isinstance(augmentation, str) and augmentation in STEPS:
            return Chain(), [f"{what}a step. A list of steps stands in brackets, as in [{augmentation}]"]
        return Chain(), [what + unknown("preset (a list of steps stands in brackets)", augmentation, PRESETS)]
    steps: list[Step] = []
    problems: list[str] = []
    for index, item in enumerate(augmentation):
        read, wrong = _read_step(item, f"{key}[{index}]")
        steps += read
        problems += wrong
    return Chain(tuple(steps)), problems


def _preset(name: str) -> list[Step]:
    return [step for item in PRESETS[name] for step in _read_step(item, name)[0]]


def _read_step(item: Any, key: str) -> tuple[list[Step], list[str]]:
    """The steps that an entry of a list stands for, several for a preset, and what is wrong with it."""
    if isinstance(item, str):
        item = {item: None}
    if not isinstance(item, dict) or len(item) != 1:
        return [], [f"{key}={shown(item)}: one step, as in rotate_90 or {{cutout: {{size: 0.3}}}}"]
    ((name, arguments),) = item.items()
    if name == albumentations_steps.NAME:
        return albumentations_steps.read_transforms(arguments, f"{key}.{name}")
    if name in PRESETS:
        return ([], [f"{key}.{name}={shown(arguments)}: a preset has no arguments"]) if arguments else (_preset(name), [])
    if name not in STEPS:
        return [], [f"{key}={shown(name)}: {unknown('step', name, _NAMES)}"]
    step, problems = read_arguments(STEPS[name], name, arguments, f"{key}.{name}")
    return ([] if step is None else [step]), problems
