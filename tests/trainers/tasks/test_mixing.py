"""Mixup and cutmix: drawn from (seed, step), shares that fit the pixels, rows without weight left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data.mixup import mixup_target

from trainers.config.mixup import MixupConfig
from trainers.tasks.losses.labels import multiclass_count
from trainers.tasks.losses.mixing import class_shares, draw, mix

MIXUP, CUTMIX = MixupConfig(mixup_alpha=1), MixupConfig(cutmix_alpha=1)
BOTH = MixupConfig(mixup_alpha=0.4, cutmix_alpha=1, prob=0.8, switch_prob=0.25)


def flat(levels: list[int], height: int = 10, width: int = 8) -> torch.Tensor:
    """Images each of one level."""
    return torch.tensor(levels, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, height, width).contiguous()


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.integers(0, 5), st.booleans())
@settings(max_examples=60)
def test_a_row_is_mixed_with_a_row_that_counts_and_its_label_as_its_pixels(rows: list[bool], step: int, cut: bool) -> None:
    config = CUTMIX if cut else MIXUP
    levels = [(index + 1) * 30 for index in range(len(rows))]
    images, weights = flat(levels), torch.tensor(rows).float()
    targets = {"label": class_shares(torch.arange(len(rows)), len(rows))}
    before = images.clone(), targets["label"].clone()
    mixed, found = mix(images, targets, weights, config, 3, step)
    assert torch.equal(images, before[0]) and torch.equal(targets["label"], before[1])
    assert mixed.dtype == torch.uint8 and mixed.shape == images.shape
    counted = [index for index, row in enumerate(rows) if row]
    for index in range(len(rows)):
        shares = found["label"][index].numpy()
        assert shares.sum() == pytest.approx(1)
        # The mean of the pixels is that of the levels by their shares: what is said of the label is what is seen.
        assert mixed[index].float().mean() == pytest.approx(float(shares @ np.array(levels, float)), abs=0.51)
        partner = counted[::-1][counted.index(index)] if index in counted else index
        if partner == index:
            assert torch.equal(mixed[index], images[index]) and shares[index] == pytest.approx(1)
        else:
            assert set(np.flatnonzero(shares)) <= {index, partner}
    again, same = mix(images, targets, weights, config, 3, step)
    assert torch.equal(again, mixed) and torch.equal(same["label"], found["label"])


def test_targets_are_those_of_timm() -> None:
    classes = torch.tensor([0, 1, 2, 1])
    dense = torch.tensor([[1.0, 0, 1], [0, 1, 1], [0, 0, 0], [1, 1, 1]])
    _, found = mix(flat([1, 2, 3, 4]), {"one": class_shares(classes, 3), "many": dense}, torch.ones(4), MIXUP, 0, 7)
    drawn = draw(MIXUP, 0, 7, 10, 8)
    assert drawn is not None and drawn.box is None
    torch.testing.assert_close(found["one"], mixup_target(classes, 3, drawn.share))
    torch.testing.assert_close(found["many"], mixup_target(dense, 3, drawn.share, multi_label=True))
    weights = (3.0, 1.0, 2.0)
    count = multiclass_count(found["one"], torch.ones(4), weights)
    assert float(count) == pytest.approx(float(multiclass_count(classes, torch.ones(4), weights))), "mixing keeps the count"


def test_draws_follow_from_seed_and_step_in_the_configured_shares() -> None:
    drawn = [draw(BOTH, 1, step, 32, 32) for step in range(1500)]
    assert (
        drawn == [draw(BOTH, 1, step, 32, 32) for step in range(1500)] != [draw(BOTH, 2, step, 32, 32) for step in range(1500)]
    )
    mixed = [each for each in drawn if each is not None]
    cut = [each for each in mixed if each.box is not None]
    assert len(mixed) / len(drawn) == pytest.approx(0.8, abs=0.04) and len(cut) / len(mixed) == pytest.approx(0.25, abs=0.04)
    for each in cut:
        assert (
            each.box is not None and 0 <= each.box.top <= each.box.bottom <= 32 and 0 <= each.box.left <= each.box.right <= 32
        )
    assert draw(MixupConfig(), 0, 0, 32, 32) is None and draw(MixupConfig(mixup_alpha=1, prob=0), 0, 0, 32, 32) is None
    even = [share.share for step in range(1500) if (share := draw(MIXUP, 1, step, 32, 32))]
    assert np.mean(even) == pytest.approx(0.5, abs=0.03) and np.std(even) == pytest.approx(12**-0.5, abs=0.02), "Beta(1, 1)"


def test_unknown_classes_have_no_share_and_off_changes_nothing() -> None:
    assert class_shares(torch.tensor([1, -1]), 2).tolist() == [[0, 1], [0, 0]]
    images, targets = flat([10, 20]), {"label": torch.eye(2)}
    mixed, found = mix(images, targets, torch.ones(2), MixupConfig(), 0, 0)
    assert mixed is images and found == targets
