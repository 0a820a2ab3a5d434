"""Checks of what a recognizer is given; none of them waits for an accelerator.

Legend: B batch, C channels, H W height and width in pixels, T target positions.
"""

from torch import Tensor, int32, int64, uint8
from torch.compiler import is_compiling

from models.errors import ModelConfigError
from models.spec import OutputSpec


def check_images(images: Tensor, sizes: Tensor | None, in_channels: int) -> None:
    """Refuses all but uint8 (B, C, H, W) of `in_channels` channels or of one, with true sizes (B, 2) or None.

    Raises:
        TypeError: no tensor of pixels.
        ModelConfigError: one of another shape.
    """
    if not isinstance(images, Tensor) or images.dtype != uint8:
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a tensor of uint8, 0 to 255, not {kind}: the model normalises them itself")
    if images.dim() != 4 or not len(images) or not images.shape[2] or not images.shape[3]:
        raise ModelConfigError("images", f"must be (B, C, H, W), one or more of at least 1x1 pixels, not {tuple(images.shape)}")
    if images.shape[1] not in (1, in_channels):
        raise ModelConfigError("model.in_channels", f"{in_channels}, but the images have {images.shape[1]} channels")
    if sizes is None:
        return
    if not isinstance(sizes, Tensor) or sizes.dtype not in (int32, int64) or sizes.shape != (len(images), 2):
        found = f"{sizes.dtype} {tuple(sizes.shape)}" if isinstance(sizes, Tensor) else type(sizes).__name__
        raise ModelConfigError(
            "sizes", f"must be a tensor of int64 ({len(images)}, 2), height and width in pixels of each image, not {found}"
        )


def check_targets(tgt_in: Tensor, batch: int, spec: OutputSpec) -> None:
    """Refuses all but token ids (B, T) of `batch` images, no longer than the model's outputs.

    Raises:
        ModelConfigError: naming what is wrong. Ids beyond the vocabulary are noticed on the CPU alone.
    """
    if not isinstance(tgt_in, Tensor) or tgt_in.dtype not in (int32, int64) or tgt_in.dim() != 2 or not tgt_in.numel():
        found = f"{tgt_in.dtype} {tuple(tgt_in.shape)}" if isinstance(tgt_in, Tensor) else type(tgt_in).__name__
        raise ModelConfigError("tgt_in", f"must be a tensor of int64 (B, T), BOS first, not {found}")
    if len(tgt_in) != batch:
        raise ModelConfigError("tgt_in", f"{len(tgt_in)} targets for {batch} images")
    if tgt_in.shape[1] > spec.max_length:
        raise ModelConfigError(
            "output_spec.max_length", f"a target of {tgt_in.shape[1]} tokens is longer than the model's {spec.max_length}"
        )
    if is_compiling():  # a graph is the same for all ids
        return
    if tgt_in.is_cpu and not (int(tgt_in.min()) >= 0 and int(tgt_in.max()) < spec.num_classes):
        raise ModelConfigError(
            "output_spec.num_classes", f"{spec.num_classes}, but the targets hold the ids {tgt_in.min()} to {tgt_in.max()}"
        )
