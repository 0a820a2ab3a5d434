"""Pages of a TIFF, each as a TIFF of its own, and whether a file is an animation."""

from __future__ import annotations

import io
import struct
from typing import NamedTuple

from PIL import Image

MAX_PAGES = 10_000  # a crafted file of some megabytes can claim more pages than memory holds
_REDUCED = 254  # the tag NewSubfileType, whose lowest bit says that this is another page made smaller
_ORDERS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}


class Page(NamedTuple):
    """Where the directory of a page stands in its file, and where the pointer to the next one does (0: it is cut short)."""

    offset: int
    next_pointer: int


def pages_of(data: bytes) -> list[Page]:
    """The pages of a TIFF in order; empty of anything else. Previews inside the file (reduced-resolution copies) are none.

    A pointer that leads out of the file counts as a page, which cannot be decoded, for something was there. At most
    `MAX_PAGES` + 1 are given.
    """
    if data[:4] not in _ORDERS:
        return []
    order, big = _ORDERS[data[:4]]
    pointer, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    pages: list[Page] = []
    seen: set[int] = set()
    at = _read(data, order + pointer, 8 if big else 4)
    while at and at not in seen and len(pages) <= MAX_PAGES:
        seen.add(at)
        entries = _read(data, order + count, at)
        first = at + struct.calcsize(count)
        end = first + entries * entry if entries is not None else len(data)
        following = _read(data, order + pointer, end)
        if following is None:
            pages.append(Page(at, 0))
            break
        if not (pages and _is_reduced(data, order, first, end, entry)):
            pages.append(Page(at, end))
        at = following
    return pages


def _read(data: bytes, form: str, at: int) -> int | None:
    if at + struct.calcsize(form) > len(data):
        return None
    return int(struct.unpack_from(form, data, at)[0])


def _is_reduced(data: bytes, order: str, first: int, end: int, entry: int) -> bool:
    for at in range(first, end, entry):
        tag, kind = struct.unpack_from(f"{order}HH", data, at)
        if tag == _REDUCED:
            value = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at + entry - (8 if entry == 20 else 4))
            return bool(value[0] & 1)
        if tag > _REDUCED:  # tags are sorted
            return False
    return False


def page_alone(data: bytes, page: Page) -> bytes:
    """A TIFF in which `page` of the TIFF `data` is the only one."""
    order, big = _ORDERS[data[:4]]
    pointer, at = ("Q", 8) if big else ("I", 4)
    alone = bytearray(data)
    struct.pack_into(order + pointer, alone, at, page.offset)
    if page.next_pointer:
        struct.pack_into(order + pointer, alone, page.next_pointer, 0)
    return bytes(alone)


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
