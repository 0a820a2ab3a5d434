"""When to stop decoding."""

from torch import Tensor

STEPS_BETWEEN_CHECKS = 8  # on an accelerator, where asking waits for all that it still has to do


def all_done(done: Tensor, step: int) -> bool:
    """Whether all of `done` (B,) are done before step `step`; an accelerator is asked only now and then."""
    return (done.device.type == "cpu" or step % STEPS_BETWEEN_CHECKS == 0) and bool(done.all())
