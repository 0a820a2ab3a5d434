"""Views of test-time augmentation, on images whose every pixel is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as transforms

from cluster.errors import UserError
from trainers.config.labeling import VIEWS
from trainers.tasks.test_time_augmentation import VIEWS as FUNCTIONS
from trainers.tasks.test_time_augmentation import require_views, view


def test_turns_and_flips_are_those_of_numpy() -> None:
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).reshape(2, 3, 4, 4)
    assert tuple(FUNCTIONS) == VIEWS
    for times, name in enumerate(("identity", "rotate_90", "rotate_180", "rotate_270")):
        turned = view(images, name)
        assert np.array_equal(turned.numpy(), np.rot90(images.numpy(), times, (2, 3)))
        assert torch.equal(view(turned, f"rotate_{360 - 90 * times}" if times else "identity"), images)
    assert torch.equal(view(images, "flip_horizontal"), transforms.horizontal_flip(images))
    assert torch.equal(view(images, "flip_vertical"), transforms.vertical_flip(images))


@pytest.mark.parametrize("name", ["scale_0.5", "scale_0.9", "scale_1", "scale_1.5", "scale_4", "crop_0.1", "crop_.7", "crop_1"])
def test_zooms_keep_the_size_and_the_center(name: str) -> None:
    images = torch.zeros((2, 3, 31, 40), dtype=torch.uint8)
    images[:, :, 10:21, 14:26] = torch.tensor([10, 20, 30], dtype=torch.uint8).reshape(3, 1, 1)
    kept = images.clone()
    seen = view(images, name, (7, 8, 9))
    assert seen.shape == images.shape and seen.dtype == torch.uint8 and torch.equal(images, kept)
    assert seen[0, :, 15, 20].tolist() == [10, 20, 30]
    zoom = float(name.partition("_")[2])
    corner = seen[0, :, 0, 0].tolist()
    margin, ink_only = name in ("scale_0.5", "scale_0.9"), name in ("scale_4", "crop_0.1")
    assert corner == ([7, 8, 9] if margin else [10, 20, 30] if ink_only else [0, 0, 0])
    if zoom == 1:
        assert torch.equal(seen, images)
    ink = (images[0, 0] > 0).sum() * (zoom**2 if name.startswith("scale") else zoom**-2)
    if corner != [10, 20, 30]:
        assert float((seen[0, 0] >= 8).sum()) == pytest.approx(float(ink), rel=0.25)


def test_zooming_in_by_a_crop_is_zooming_in_by_its_inverse() -> None:
    generator = torch.Generator().manual_seed(0)
    images = (
        torch.randint(0, 256, (1, 1, 8, 8), generator=generator, dtype=torch.uint8)
        .repeat_interleave(8, 2)
        .repeat_interleave(8, 3)
    )
    difference = view(images, "crop_0.5").float() - view(images, "scale_2").float()
    assert difference[..., 8:-8, 8:-8].abs().mean() < 2


def test_what_cannot_be_seen_is_refused() -> None:
    wide = torch.zeros((1, 1, 4, 6), dtype=torch.uint8)
    for name in ("rotate_90", "rotate_270"):
        with pytest.raises(UserError, match=f"labeling.tta={name}: images of 4 x 6 pixels are not square"):
            view(wide, name)
        with pytest.raises(UserError, match="are not square"):
            require_views(["identity", name], 4, 6)
    require_views(["identity", "rotate_180", "scale_0.9"], 4, 6)
    assert view(wide, "rotate_180").shape == wide.shape
    with pytest.raises(UserError, match=r"labeling\.tta=rotate: no view of an image; there are identity"):
        view(wide, "rotate")
