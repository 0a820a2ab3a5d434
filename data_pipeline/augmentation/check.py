"""A check of an augmentation on a blank image, before anything is trained with it."""

from __future__ import annotations

import itertools

import cv2
import numpy as np

from cluster.errors import UserError
from cluster.yaml_text import one_line, shown
from data_pipeline.augmentation.albumentations_steps import AlbumentationsStep
from data_pipeline.augmentation.chain import Chain
from data_pipeline.augmentation.config import KEY, Augmentation, chain_of
from data_pipeline.augmentation.step import Step
from data_pipeline.dataset.image_policy import ImagePolicy

SMALL = 8  # pixels of a side that varies: few images are smaller
DRAWS = 16  # of each step: one that changes the size may do so for some draws alone


def check_augmentation(augmentation: Augmentation, policy: ImagePolicy) -> None:
    """Check that every step takes images of a dataset with this policy, the largest and small ones, and keeps their size, type
    and channels.

    Raises:
        UserError: what the configuration states is wrong; albumentations is declared and not installed; or a step changes
            what it must keep or needs more than an image.
    """
    chain = chain_of(augmentation)
    chain.require()
    height, width = policy.height, policy.width
    small = (height if policy.fixed_height else min(SMALL, height), width if policy.fixed_width else min(SMALL, width))
    sizes = dict.fromkeys([(height, width), small])
    for step in (each for declared in chain.steps for each in declared.certain()):
        for (height, width), draw in itertools.product(sizes, range(DRAWS)):
            blank = np.full((height, width, policy.channels), policy.background, np.uint8)
            try:
                Chain((step,))(blank[..., 0] if policy.color == "gray" else blank, 0, draw, "blank")
            except Exception as error:  # whatever a transform raises that needs a mask, boxes or three channels
                said = getattr(error, "err", None) if isinstance(error, cv2.error) else None
                raise UserError(
                    f"{KEY}: the step {_written(step)} cannot be used on {policy.color} images of "
                    f"{width}x{height}: {shown(said or one_line(error))}. A step takes an image alone and keeps its size, its "
                    "type (uint8) and its channels: take this one out."
                ) from None


def _written(step: Step) -> str:
    """A step as a configuration names it."""
    return f"'{step.name}: {step.transform}'" if isinstance(step, AlbumentationsStep) else f"'{step.name}'"
