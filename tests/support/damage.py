"""`python -m tests.support.damage ROUNDS SEED`: damaged images of every format through `decode` and `page_count`.

Prints how many were decoded and how many refused; whatever else comes of one is an error, and nothing belongs on stderr.
"""

from __future__ import annotations

import io
import random
import sys

import cv2
import numpy as np
from PIL import Image

from data_pipeline.preparation.decoding import FORMATS, BadImage, decode, page_count
from tests.support.image_encoders import tiff, tiff_tags


def examples(seed: int) -> list[bytes]:
    """A small image in every format that can be written."""
    pixels = cv2.resize(np.random.default_rng(seed).integers(0, 256, (4, 5, 4), np.uint8), (23, 17))
    made = []
    for suffix in FORMATS:
        for mode in ("L", "P", "RGB", "RGBA", "CMYK"):
            buffer = io.BytesIO()
            try:
                Image.fromarray(pixels, "RGBA").convert(mode).save(buffer, suffix)
            except (OSError, KeyError, ValueError):  # not written by Pillow, or not of this mode
                continue
            made.append(buffer.getvalue())
    two = io.BytesIO()
    frames = [Image.fromarray(pixels[..., :3]), Image.fromarray(pixels[..., ::-1][..., :3])]
    frames[0].save(two, "TIFF", save_all=True, append_images=frames[1:], compression="tiff_lzw")
    return [*made, two.getvalue(), tiff(np.linspace(0, 1, 60, dtype="<f4").tobytes(), tiff_tags(10, 6, [32], sample_format=3))]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut out, doubled or cut off."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        # Half of it near the beginning, where headers are.
        index = rng.randrange(min(len(changed), 64) if rng.random() < 0.5 else len(changed))
        what = rng.random()
        if what < 0.7:
            changed[index] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        elif what < 0.8:
            del changed[index : index + rng.randint(1, 9)]
        elif what < 0.9:
            changed[index:index] = changed[index : index + 9]
        else:
            del changed[max(index, 8) :]
        if not changed:
            return b""
    return bytes(changed)


def main(rounds: int, seed: int) -> None:
    """The command line."""
    rng, originals = random.Random(seed), examples(seed)
    read = 0
    for number in range(rounds):
        data = damaged(originals[number % len(originals)], rng)
        try:
            page_count(data)
            pixels = decode(data, "gray" if number % 2 else "rgb", max_pixels=100_000)
        except BadImage as error:
            assert str(error)
            continue
        assert pixels.dtype == np.uint8 and 0 < pixels.size <= 300_000
        read += 1
    print(read, rounds - read)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
