"""The loss of a CTC head.

Legend: B batch, T target positions, w columns of the feature map, V vocabulary.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from models import OutputSpec
from trainers.tasks.losses.targets import Targets


def ctc_loss(logits: Tensor, columns: Tensor, targets: Targets, spec: OutputSpec) -> Tensor:
    """-log p(text) over all alignments (Graves et al. 2006), summed over the images of logits (B, w, V) that count.

    The text of a row ends before EOS. A text that its image's `columns` (B,) cannot hold, two equal tokens needing a blank
    between them, adds nothing: no weights could read it.
    """
    losses = F.ctc_loss(
        logits.float().log_softmax(-1).transpose(0, 1),
        targets.tgt_out,
        columns,
        targets.text(spec).sum(1),
        blank=spec.bos_id,
        reduction="none",
        zero_infinity=True,
    )
    return losses.masked_fill(~targets.rows, 0.0).sum()
