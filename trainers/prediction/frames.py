"""Whether a file is an animation, of which prediction reads the first frame alone."""

from __future__ import annotations

import io

from PIL import Image


def frames_of(data: bytes) -> int:
    """The frames of an animation (GIF, WebP, PNG, AVIF) or the pages of a DCX; 1 of anything else."""
    if not (
        data[:4] in (b"GIF8", b"\xb1\x68\xde\x3a")
        or (data[:4] == b"RIFF" and data[12:16] == b"VP8X" and len(data) > 20 and data[20] & 2)
        or (data[:4] == b"\x89PNG" and data.find(b"acTL", 0, max(0, data.find(b"IDAT"))) >= 0)
        or data[4:12] == b"ftypavis"
    ):
        return 1
    try:
        with Image.open(io.BytesIO(data)) as image:
            return int(getattr(image, "n_frames", 1))
    except Exception:  # damaged: decoding says how
        return 1
