"""PNG and TIFF files written sample by sample, for tests that must not take a library's word for what a file means."""

from __future__ import annotations

import struct
import zlib

import numpy as np

PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def png(
    samples: np.ndarray, depth: int, color_type: int, palette: np.ndarray | None = None, transparency: bytes = b""
) -> bytes:
    """A PNG of `samples`, unsigned (H, W, channels), of `depth` bits; `transparency` is the content of its tRNS chunk."""
    height, width, channels = samples.shape
    assert channels == PNG_CHANNELS[color_type]
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    rows = b"".join(b"\0" + packed(row.ravel(), depth, ">") for row in samples)
    chunks = [_chunk(b"IHDR", header)]
    if palette is not None:
        chunks.append(_chunk(b"PLTE", palette.astype(np.uint8).tobytes()))
    if transparency:
        chunks.append(_chunk(b"tRNS", transparency))
    return b"\x89PNG\r\n\x1a\n" + b"".join([*chunks, _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b"")])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(values: np.ndarray, depth: int, order: str) -> bytes:
    """A row of unsigned values of `depth` bits, the last byte filled up with zeros."""
    if depth >= 8:
        return values.astype(f"{order}u{depth // 8}").tobytes()
    bits = (values[:, None] >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.ravel().astype(np.uint8)).tobytes()


def tiff(*pages: bytes | dict[int, tuple[str, list[int]]], order: str = "<") -> bytes:
    """A TIFF; `pages` are pairs: the content of a strip, and tags as {tag: (format of struct, values)}, those of the strip left
    out.
    """
    data = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 0)
    link = 4  # where the offset of the next directory stands
    for strip, tags in zip(pages[::2], pages[1::2], strict=True):
        assert isinstance(strip, bytes) and isinstance(tags, dict)
        entries = dict(tags) | {273: ("I", [len(data)]), 279: ("I", [len(strip)])}
        data += strip + b"\0" * (len(strip) % 2)
        written = b""
        for tag, (kind, values) in sorted(entries.items()):
            content = struct.pack(f"{order}{len(values)}{kind}", *values)
            if len(content) > 4:
                offset, data = len(data), data + content + b"\0" * (len(content) % 2)
                content = struct.pack(f"{order}I", offset)
            written += struct.pack(f"{order}HHI", tag, {"B": 1, "H": 3, "I": 4}[kind], len(values)) + content.ljust(4, b"\0")
        data = data[:link] + struct.pack(f"{order}I", len(data)) + data[link + 4 :]
        data += struct.pack(f"{order}H", len(entries)) + written
        link = len(data)
        data += struct.pack(f"{order}I", 0)
    return data


def tiff_tags(
    width: int,
    height: int,
    bits: list[int],
    photometric: int = 1,
    sample_format: int = 1,
    extra: list[int] | None = None,
    more: dict[int, tuple[str, list[int]]] | None = None,
) -> dict[int, tuple[str, list[int]]]:
    """The tags of an uncompressed page of one strip."""
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("H", [width]),
        257: ("H", [height]),
        258: ("H", bits),
        259: ("H", [1]),
        262: ("H", [photometric]),
        277: ("H", [len(bits)]),
        278: ("H", [height]),
    }
    if sample_format != 1:
        tags[339] = ("H", [sample_format] * len(bits))
    if extra:
        tags[338] = ("H", extra)
    return tags | (more or {})
