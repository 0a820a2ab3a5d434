"""What identifies a prediction job: all that its result depends on, by content.

It stands in `job.json` of the output folder:

- `checkpoint`: `digest` of its weights, configuration, vocabulary and image policy; `uri`, for the reader alone
- `image`: the policy that images are brought to; `decoding`: how texts are decoded
- `inputs`: of a dataset its `digest` and `split`; of files a digest of their ids (which state of a file was read stands in the
  part that holds it, so that only files that change are read again)
- `rows_per_part`, and `format`, the version of this layout

The number of images in a batch is not among them: an image reads alike in any batch.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from cluster.errors import UserError
from cluster.redaction import redacted_values
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.storage.base import Storage
from trainers.checkpoint.load import Checkpoint
from trainers.prediction.parts import is_part

JOB = "job.json"
FORMAT = 3
_DIFFERENCES = {
    "format": "made by another version of Inkray",
    "checkpoint": "of another checkpoint",
    "image": "of another image policy",
    "decoding": "decoded in another way",
    "inputs": "of other images",
    "rows_per_part": "in parts of another size",
}


def _sha256(content: Any) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Job:
    """A job, ready to be compared with the one that an output folder holds."""

    content: dict[str, Any]

    @classmethod
    def of(cls, checkpoint: Checkpoint, image: ImagePolicy, inputs: dict[str, str], rows_per_part: int) -> Job:
        """The job of a checkpoint on inputs that are identified so, brought to the policy `image`."""
        return cls(
            {
                "format": FORMAT,
                "checkpoint": {"digest": checkpoint.digest, "uri": checkpoint.uri},
                "image": image.to_json(),
                "decoding": checkpoint.options,
                "inputs": inputs,
                "rows_per_part": rows_per_part,
            }
        )

    @property
    def digest(self) -> str:
        """SHA-256 of what identifies the job; every part carries it."""
        return _sha256(_identity(self.content))

    def enter(self, out: Storage) -> None:
        """Write `job.json` into `out`, which this process owns, or find there that it is this job.

        Raises:
            UserError: `out` holds another job, or parts without one.
        """
        names = out.names()
        if JOB not in names:
            foreign = sorted(filter(is_part, names))
            if foreign:
                raise UserError(
                    f"'{out.uri}' holds {foreign[0]} but no {JOB}: nobody can tell what it was predicted from. "
                    "Choose another place, or remove it."
                )
            out.child(JOB).write_bytes(json.dumps(redacted_values(self.content), indent=1).encode())
            return
        try:
            theirs = json.loads(out.child(JOB).read_bytes())
            known, mine = _identity(theirs), redacted_values(_identity(self.content))
        except (ValueError, AttributeError):
            raise UserError(
                f"{JOB} of '{out.uri}' cannot be read: it is not that of a prediction. Choose another place."
            ) from None
        different = [word for key, word in _DIFFERENCES.items() if known.get(key) != mine[key]]
        if known.get("format") != FORMAT:
            different = [_DIFFERENCES["format"]]
        if different:
            raise UserError(f"'{out.uri}' holds predictions {' and '.join(different)} (see its {JOB}). Choose another place.")


def _identity(content: dict[str, Any]) -> dict[str, Any]:
    """`content` in what identifies it: the place of a checkpoint does not."""
    checkpoint = content.get("checkpoint")
    return {**content, "checkpoint": checkpoint.get("digest") if isinstance(checkpoint, dict) else None}
