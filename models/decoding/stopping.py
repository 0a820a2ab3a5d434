"""When to stop decoding: the length limit, and the check that all texts of a batch are complete."""

from torch import Tensor

from models.decoding.settings import Decoding
from models.errors import ModelConfigError
from models.types import OutputSpec

STEPS_BETWEEN_CHECKS = 8  # on an accelerator, where reading a value waits for all queued work


def length_limit(decoding: Decoding, spec: OutputSpec) -> int:
    """Maximum number of tokens to emit. Raises ModelConfigError for one beyond the model's."""
    limit = spec.max_length if decoding.max_length is None else decoding.max_length
    if not 1 <= limit <= spec.max_length:
        raise ModelConfigError("decoding.max_length", f"{limit} is not in 1..{spec.max_length}, the model's longest output")
    return limit


def all_done(done: Tensor, step: int) -> bool:
    """Whether all of `done` (B,) are True before step `step`; an accelerator is read only every few steps."""
    return (done.device.type == "cpu" or step % STEPS_BETWEEN_CHECKS == 0) and bool(done.all())
