"""Where a classifier saw a class: Grad-CAM (Selvaraju et al. 2017) over its last feature map, by captum."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from models import Classifier


class _HeadLogits(nn.Module):
    """The logits (B, K) of one head alone, as captum wants them."""

    def __init__(self, model: Classifier, head: str) -> None:
        super().__init__()
        self._model, self._head = model, head

    def forward(self, images: Tensor, sizes: Tensor) -> Tensor:
        """Images uint8 (B, C, H, W) to logits (B, K)."""
        logits: Tensor = self._model(images, sizes).logits[self._head]
        return logits


def grad_cam(model: Classifier, images: Tensor, sizes: Tensor, classes: Mapping[str, Tensor]) -> list[np.ndarray] | None:
    """Maps float32 (heads, h, w), not negative, of each image: what speaks for the class of each head, of `classes` (B,).

    None where the network has no feature map to lay over an image, or captum is not installed.
    """
    layer = model.feature_layer
    if layer is None:
        return None
    try:
        from captum.attr import LayerGradCam
    except ImportError:
        return None
    maps = []
    with torch.inference_mode(False), torch.enable_grad():
        images, sizes = images.clone(), sizes.clone()  # tensors of inference cannot be differentiated through
        for head, chosen in classes.items():
            logits = _HeadLogits(model, head)
            found = LayerGradCam(logits, layer).attribute(
                images, chosen.clone(), additional_forward_args=(sizes,), relu_attributions=True
            )
            if found.ndim != 4:
                return None
            maps.append(found[:, 0].detach().float())
    model.zero_grad(set_to_none=True)
    stacked = torch.stack(maps, 1).cpu().numpy()
    return list(stacked)
