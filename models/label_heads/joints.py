"""Joint classes of label heads: all combinations of their classes, row-major, that of the last head changing fastest.

Legend: B batch, K classes of a label head.
"""

from collections.abc import Sequence

from torch import Tensor, nn


class SummedJoint(nn.Module):
    """Joint logits of label heads that decide independently: the sums of their log-probabilities."""

    def forward(self, logits: Sequence[Tensor]) -> Tensor:
        """Logits (B, K) of each label head to log-probabilities (B, product of all K)."""
        joint = logits[0].log_softmax(-1)
        for head in logits[1:]:
            joint = (joint[:, :, None] + head.log_softmax(-1)[:, None]).flatten(1)
        return joint


class NoJoint(nn.Module):
    """Placeholder where there are no joint classes."""

    def forward(self, logits: Sequence[Tensor]) -> None:
        """None."""
        return None


JOINTS: dict[bool, type[nn.Module]] = {True: SummedJoint, False: NoJoint}


class Marginals(nn.Module):
    """Logits of each label head from those of the joint classes: the logarithm of a sum over all other label heads.

    Their softmax is the probability of a class under the softmax of the joint classes.
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes

    def forward(self, joint: Tensor) -> list[Tensor]:
        """Joint logits (B, product of all K) to logits (B, K) of each label head."""
        table = joint.unflatten(1, self.sizes)
        axes = range(1, len(self.sizes) + 1)
        return [table.logsumexp([axis for axis in axes if axis != own]) if len(axes) > 1 else joint for own in axes]
