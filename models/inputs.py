"""Checks of the inputs of a network; none of them waits for an accelerator.

Legend: B batch, C channels, H W height and width in pixels, T target positions.
"""

from torch import Tensor, int32, int64, uint8
from torch import bool as bool_
from torch.compiler import is_compiling

from models.errors import ModelConfigError
from models.types import OutputSpec, SampledTokens


def check_images(images: Tensor, sizes: Tensor | None, in_channels: int, section: str = "model") -> None:
    """Checks that images are uint8 (B, C, H, W) of `in_channels` channels or one, with true sizes (B, 2) or None.

    `section`: the config section of the network.

    Raises:
        TypeError: not a tensor of pixels.
        ModelConfigError: another shape.
    """
    if not isinstance(images, Tensor) or images.dtype != uint8:
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a tensor of uint8, 0 to 255, not {kind}: the model normalizes them itself")
    if images.dim() != 4 or not len(images) or not images.shape[2] or not images.shape[3]:
        raise ModelConfigError(
            "images", f"must be (B, C, H, W), one or more images, 1x1 pixels or larger, not {tuple(images.shape)}"
        )
    if images.shape[1] not in (1, in_channels):
        raise ModelConfigError(f"{section}.in_channels", f"{in_channels}, but the images have {images.shape[1]} channels")
    if sizes is None:
        return
    if not isinstance(sizes, Tensor) or sizes.dtype not in (int32, int64) or sizes.shape != (len(images), 2):
        found = f"{sizes.dtype} {tuple(sizes.shape)}" if isinstance(sizes, Tensor) else type(sizes).__name__
        raise ModelConfigError(
            "sizes", f"must be a tensor of int64 ({len(images)}, 2), height and width in pixels of each image, not {found}"
        )


def check_targets(tgt_in: Tensor, batch: int, spec: OutputSpec) -> None:
    """Checks that targets are token ids (B, T) of `batch` images, no longer than the model's outputs.

    Raises:
        ModelConfigError: naming what is wrong. Ids outside the vocabulary are detected on the CPU only.
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
    if is_compiling():  # a compiled graph must not depend on the ids
        return
    if tgt_in.is_cpu and not (int(tgt_in.min()) >= 0 and int(tgt_in.max()) < spec.num_classes):
        raise ModelConfigError(
            "output_spec.num_classes", f"{spec.num_classes}, but the targets have ids from {tgt_in.min()} to {tgt_in.max()}"
        )


def check_sampled(sampled: SampledTokens | None, tgt_in: Tensor) -> None:
    """Checks that `sampled` fits `tgt_in` (B, T).

    Raises:
        ModelConfigError: a mask of another shape or type, or no pass.
    """
    if sampled is None:
        return
    if sampled.mask.dtype != bool_ or sampled.mask.shape != tgt_in.shape:
        found = f"{sampled.mask.dtype} {tuple(sampled.mask.shape)}"
        raise ModelConfigError("sampled.mask", f"must be a tensor of bool {tuple(tgt_in.shape)}, as tgt_in is, not {found}")
    if sampled.passes < 1:
        raise ModelConfigError("sampled.passes", f"must be 1 or more, not {sampled.passes}")
