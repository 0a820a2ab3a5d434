"""The `image.key=value` arguments of prediction: how images become like those that a checkpoint was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

from cluster.errors import UserError
from data_pipeline.dataset.image_policy import ImagePolicy, Invert, Scale
from trainers.checkpoint.load import Checkpoint

PREFIX = "image."
_CHOICES = {"invert": get_args(Invert), "scale": get_args(Scale)}


def image_policy_of(checkpoint: Checkpoint, overrides: Sequence[str], prepared: bool) -> ImagePolicy:
    """The image policy of a checkpoint, with `image.*` overrides.

    Images of a dataset are `prepared`: nothing is done to them unless it is asked for. Files are treated as the inputs of the
    checkpoint's dataset were when it was prepared, and where those were never inverted, light ink on dark paper is (auto).
    Where all images are of one height and width they are photos, say, not lines of writing: none is inverted unless the
    dataset's were, and all come to that size in the dataset's way.

    Raises:
        UserError: an unknown key, a bad value, or a size of the ink that the checkpoint does not know.
    """
    policy = checkpoint.data.image
    invert = "auto" if policy.invert == "never" and not policy.fixed_width else policy.invert
    scale = "none" if prepared and not policy.fixed_width else policy.scale
    values: dict[str, Any] = {"invert": "never" if prepared else invert, "scale": scale}
    for override in overrides:
        key, _, value = override.removeprefix(PREFIX).partition("=")
        if key not in _CHOICES:
            raise UserError(
                f"'{override}': image.{key} is not a key. There are {', '.join(PREFIX + name for name in _CHOICES)}."
            )
        if value not in _CHOICES[key]:
            raise UserError(f"image.{key}={value}: one of {', '.join(_CHOICES[key])}.")
        values[key] = value
    if values["scale"] == "ink" and not policy.ink_size:
        raise UserError(
            "image.scale=ink: the checkpoint does not know how large the ink of its dataset was; that dataset was prepared "
            "before it was measured. Prepare it and train again, or use image.scale=fit or none."
        )
    return replace(policy, **values)
