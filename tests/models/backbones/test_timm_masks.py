"""Networks of timm that do not see padding, and those that say that they do."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.backbones.timm_features import TimmFeatures
from models.config import TimmConfig

# name, stride, options: of every family, and with every part that is served in a way of its own.
BLIND: list[tuple[str, int | None, dict[str, Any]]] = [
    ("test_resnet", None, {}),  # max-pool, mean-pools of what there is
    ("resnet18", 16, {}),
    ("resnetrs50", 16, {}),  # squeeze-and-excitation
    ("ecaresnet26t", 16, {}),  # another gate
    ("regnety_002", None, {}),
    ("test_efficientnet", 16, {}),
    ("tf_efficientnetv2_b0", None, {}),  # padded by the size of the map
    ("tf_mixnet_s", 16, {}),  # kernels of several sizes
    ("mobilenetv3_small_050", None, {}),
    ("test_convnext", None, {}),
    ("test_convnext2", None, {}),
    ("convnextv2_atto", 16, {}),  # a norm over the lengths of maps
    ("test_vit3", None, {"img_size": [96, 160]}),  # all images are widened to one size
]
# Group norm, attention over positions, blurred and selective convolutions, a family that is not known.
SEES = ["test_efficientnet_gn", "test_vit", "resnetblur18", "skresnet18", "test_mambaout"]
SIZES = [(96, 160), (64, 101), (37, 128), (1, 1), (50, 33), (95, 159)]


def settled(name: str, stride: int | None = None, options: dict[str, Any] | None = None) -> TimmFeatures:
    """In evaluation mode, with weights and batch statistics that have left their initial values."""
    torch.manual_seed(0)
    backbone = TimmFeatures(TimmConfig(name, False, stride, None, options or {}), 1, 12).train()
    with torch.no_grad():
        for parameter_name, parameter in backbone.named_parameters():
            if parameter.dim() == 1:
                parameter.normal_(1.0 if "weight" in parameter_name else 0.0, 0.3)
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.5
        for _ in range(2):
            backbone(torch.randn(2, 1, 64, 96))
    return backbone.eval()


def padded(filler: float) -> tuple[Tensor, Tensor]:
    """Images of SIZES in one batch, and their sizes."""
    images = torch.randn(len(SIZES), 1, 96, 160, generator=torch.Generator().manual_seed(0))
    for image, (height, width) in zip(images, SIZES, strict=True):
        image[:, height:] = image[:, :, width:] = filler
    return images, torch.tensor(SIZES)


def worst(backbone: TimmFeatures, filler: float = 3.0) -> float:
    """By how much features of a padded batch differ from those of its members alone, in shares of the largest."""
    images, sizes = padded(filler)
    with torch.inference_mode():
        together, cells = backbone(images, sizes), backbone.feature_sizes(sizes).tolist()
        found = []
        for row, (height, width) in enumerate(SIZES):
            alone = backbone(images[row : row + 1, :, :height, :width])[0]
            rows, columns = cells[row]
            assert list(alone.shape[1:]) == [rows, columns]
            found.append(float((together[row, :, :rows, :columns] - alone).abs().max() / alone.abs().max()))
    return max(found)


@pytest.mark.parametrize(("name", "stride", "options"), BLIND)
def test_padded_batch_equals_members_alone(name: str, stride: int | None, options: dict[str, Any]) -> None:
    backbone = settled(name, stride, options)
    assert backbone.masks_padding
    assert worst(backbone) < 1e-3
    images, sizes = padded(3.0)
    backbone.train()(images, sizes).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in backbone.parameters())


@pytest.mark.parametrize("name", SEES)
def test_a_network_that_sees_padding_says_so(name: str) -> None:
    backbone = settled(name)
    assert not backbone.masks_padding and worst(backbone) > 1e-3


def test_copies_have_masks_of_their_own() -> None:
    backbone = settled("mobilenetv3_small_050")
    images, sizes = padded(3.0)
    with torch.inference_mode():
        expected = backbone(images, sizes)
        for twin in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
            torch.testing.assert_close(twin(images, sizes), expected, rtol=0, atol=0)
            backbone(images)  # without padding, which the twin does not notice
            assert worst(twin) < 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast(dtype: torch.dtype) -> None:
    backbone = settled("mobilenetv3_small_050")
    images, sizes = padded(3.0)
    with torch.inference_mode():
        exact = backbone(images, sizes)
        with torch.autocast("cpu", dtype):
            found = backbone(images, sizes)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), exact, rtol=0.1, atol=0.1 * float(exact.abs().max()))
