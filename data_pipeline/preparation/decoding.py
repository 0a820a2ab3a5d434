"""Decoding of images from anywhere: one that cannot be used raises `BadImage` with the reason, and nothing else is raised.

Pillow decodes; plain PNGs, which is what prepared datasets hold, go to OpenCV, which takes a fifth less time. Nothing is
printed about a damaged image, and its size is checked before memory is taken for its pixels.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import struct
import warnings
import zlib
from pathlib import Path
from typing import Literal

import cv2
import cv2.utils
import numpy as np
import PIL
from PIL import Image

from data_pipeline.preparation.pixels import PNG, UnusablePixels, to_uint8

# Threads of a library inside tasks that run in parallel only slow each other down.
cv2.setNumThreads(0)
# What is wrong with an image is the reason of its `BadImage`; a second, raw line about it in a log has no row to belong to.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)
for library in Path(PIL.__file__).parents[1].glob("pillow.libs/libtiff*.so*"):  # Pillow leaves its handler of errors as it is
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(str(library)).TIFFSetErrorHandler(None)

MAX_PIXELS = 64_000_000  # an image from outside may claim any size: decoding stops here
MAX_PAGES = 1_000  # of a TIFF: beyond this it is damaged, or made to keep us busy

# As Pillow calls them; MPO is among JPEG. Without EPS, which runs another program, and what no scanner or camera writes.
FORMATS = ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "DIB", "JPEG2000", "AVIF", "PPM", "PCX", "QOI", "SGI", "SUN"]

_HEADER, _PLAIN = b"\0\0\0\rIHDR", (b"IHDR", b"IDAT", b"IEND")
_CHUNK, _SIZE = struct.Struct(">I4s"), struct.Struct(">II")
# From the signature to the kind of the second chunk, and from the checksum of the last but one to the end of the file.
_ONE_CHUNK_START, _ONE_CHUNK_END = struct.Struct(">8s8s2I5B2I4s"), struct.Struct(">I12s")
_IEND = b"\0\0\0\0IEND\xaeB`\x82"
_OTHERS = {  # what people take for images that are read, by their first bytes
    b"%PDF": "a PDF: export its pages as PNG",
    b"%!PS": "PostScript: export it as PNG",
    b"8BPS": "a Photoshop file: export it as PNG",
    b"DDS ": "a DDS texture: convert it to PNG",
    b"<svg": "SVG: export it as PNG",
    b"<htm": "a web page",
    b"<!do": "a web page",
    b"<?xm": "XML",
    b"PK\3\4": "a ZIP archive: unpack it",
}


class BadImage(Exception):
    """An image that cannot be used, with the reason. It concerns a row, not the run: callers count and report it."""


def decode(
    data: bytes | memoryview,
    color: Literal["gray", "rgb"],
    background: int = 255,
    max_pixels: int = MAX_PIXELS,
    page: int | None = None,
) -> np.ndarray:
    """Decode an encoded image of any of `FORMATS` into uint8, (H, W) for gray, (H, W, 3) for rgb.

    It stands upright, as its EXIF orientation says. What is transparent shows the gray level `background`. Samples of 16 bits
    are scaled from 0..65535; 32-bit integers from 0..255 or 0..65535, and floats from 0..1 or 0..255, whichever range holds
    them. Of an animation (GIF, WebP, APNG, AVIF) the first frame is decoded, of a JPEG with several images (MPO) the first,
    which is the photo.

    Args:
        page: of a TIFF with several pages, counted from 0; None: the only one.

    Raises:
        BadImage: empty, not an image, damaged, larger than `max_pixels`, of several pages without a `page`, without that page,
            or of samples in a range that nobody can guess. Nothing else is raised, whatever the bytes are.
    """
    try:
        if page is None and (plain := _plain_png_size(data)) is not None:
            _check_size(*plain, max_pixels)
            return _decode_plain_png(data, color)
        frame = _frame(data, page)
        with _opened(data, max_pixels) as image:
            if frame:
                image.seek(frame)
            _check_size(*image.size, max_pixels)
            return to_uint8(image, data, color, background)
    except BadImage:
        raise
    except UnusablePixels as error:
        raise BadImage(str(error)) from None
    except Exception as error:  # Pillow and its plugins promise nothing of what they raise
        raise BadImage(f"cannot be decoded: truncated or corrupt ({type(error).__name__})") from None


def page_count(data: bytes | memoryview) -> int:
    """Count the pages of an encoded image: those of a TIFF, 1 for every other image, animations included.

    Reduced copies (thumbnails) and masks inside a TIFF are no pages. `decode(..., page=n)` reads page n, counted from 0.

    Raises:
        BadImage: not an image, or a TIFF of more than `MAX_PAGES` pages.
    """
    pages = len(_pages(data))
    if pages == 1:
        try:
            _opened(data).close()
        except BadImage:
            raise
        except Exception as error:
            raise BadImage(f"cannot be decoded: truncated or corrupt ({type(error).__name__})") from None
    return pages


def _opened(data: bytes | memoryview, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open the image; no more than its header has been read."""
    if not data:
        raise BadImage("empty file")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise BadImage(f"more pixels than the {max_pixels} allowed") from None
    except Exception as error:
        raise BadImage(_why_not(bytes(data[:64]), error)) from None


def _why_not(head: bytes, error: Exception) -> str:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:4]
    kind = _OTHERS.get(start) or _OTHERS.get(start.lower())
    if head[4:8] == b"ftyp" and head[8:11] in (b"hei", b"hev", b"mif", b"msf"):
        kind = "HEIC: convert it to JPEG or PNG"
    if kind is not None:
        return f"not an image that can be read: {kind}"
    if _is_tiff(head):
        return "a TIFF that is damaged, or whose samples are of a kind that is not read"
    return f"not an image: {type(error).__name__}"


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise BadImage(f"{width}x{height} pixels: there are none")
    if width * height > max_pixels:
        raise BadImage(f"{width}x{height} pixels, more than the {max_pixels} allowed")


def _frame(data: bytes | memoryview, page: int | None) -> int:
    """Which frame of the file `page` is.

    Raises:
        BadImage: there is no such page, or several to choose from.
    """
    pages = _pages(data)
    if page is None and len(pages) > 1:
        raise BadImage(f"has {len(pages)} pages; split them, one file each")
    if not 0 <= (page or 0) < len(pages):
        raise BadImage(f"has {len(pages)} page{'s' * (len(pages) != 1)}, number {page} is not among them")
    return pages[page or 0]


def _is_tiff(data: bytes | memoryview) -> bool:
    return bytes(data[:4]) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _pages(data: bytes | memoryview) -> list[int]:
    """The frames of a TIFF that are pages, by their number among its image file directories; of all other images the first.

    The directories are followed here, since Pillow stops at one whose samples it cannot read.
    """
    if not _is_tiff(data):
        return [0]
    order, big = ("<" if data[0] == 0x49 else ">"), 43 in data[2:4]
    # Classic TIFF: 2 bytes count entries of 12 bytes, offsets have 4; BigTIFF: 8, 20, 8.
    count_format, entry_size, offset_format = (f"{order}Q", 20, f"{order}Q") if big else (f"{order}H", 12, f"{order}I")
    pages: list[int] = []
    seen: dict[int, None] = {}  # directories by their offset, in order
    try:
        (offset,) = struct.unpack_from(offset_format, data, 8 if big else 4)
        while offset and offset not in seen:
            if len(seen) == MAX_PAGES:
                raise BadImage(f"has more than {MAX_PAGES} pages")
            (entries,) = struct.unpack_from(count_format, data, offset)
            first = offset + struct.calcsize(count_format)
            end = first + entries * entry_size
            (following,) = struct.unpack_from(offset_format, data, end)
            if _is_page(bytes(data[first : min(end, first + 8 * entry_size)]), order, entry_size):
                pages.append(len(seen))
            seen[offset] = None
            offset = following
    except (struct.error, OverflowError):
        pages.append(len(seen))  # cut off: something was to be there, and its decoding says so
    return pages or [0]


def _is_page(entries: bytes, order: str, size: int) -> bool:
    """Whether the first entries of a directory, which are sorted by tag, do not call it a reduced copy or a mask."""
    for start in range(0, len(entries), size):
        tag, kind = struct.unpack_from(f"{order}HH", entries, start)
        offset = start + size - (8 if size == 20 else 4)
        value = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", entries, offset)[0]
        if (tag == 254 and value & 0b101) or (tag == 255 and value == 2):  # NewSubfileType, SubfileType
            return False
    return True


def _plain_png_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """Width and height of a PNG of 8 bits that cannot be transparent, as those of prepared shards; None of all else.

    That is an image, gray or RGB, which has nothing beside header and pixels: asking Pillow took a fifth of the decoding.

    Raises:
        BadImage: a PNG that is cut off or damaged. Pillow would show noise where a checksum is wrong, and OpenCV's libpng write
            to stderr.
    """
    return _one_chunk_size(data) or _plain_chunks_size(data)


def _one_chunk_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """Width and height of a plain PNG that is whole and whose pixels are one chunk, as those of small images are; else None."""
    size = len(data)
    if size < 57 or data[:8] != PNG:
        return None
    _, header, width, height, depth, color, _, _, _, header_crc, length, kind = _ONE_CHUNK_START.unpack_from(data)
    if header != _HEADER or depth != 8 or color not in (0, 2) or kind != b"IDAT" or length != size - 57:
        return None
    pixels_crc, end = _ONE_CHUNK_END.unpack_from(data, size - 16)
    whole = end == _IEND and zlib.crc32(data[12:29]) == header_crc and zlib.crc32(data[37 : size - 16]) == pixels_crc
    return (width, height) if whole else None


def _plain_chunks_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """Width and height of a plain PNG of any number of chunks; None of all else."""
    if data[:8] != PNG:
        return None
    plain, offset, kind = True, 8, b""
    while kind != b"IEND":
        if offset + 12 > len(data):
            raise BadImage("cannot be decoded: truncated")
        length, kind = _CHUNK.unpack_from(data, offset)
        end = offset + 12 + length
        if kind not in _PLAIN:
            plain = False
        # What is wrong with a chunk that is not critical (its first letter is small) is of no matter.
        if not kind[0] & 0x20 and zlib.crc32(data[offset + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise BadImage(f"cannot be decoded: {'truncated' if end > len(data) else 'corrupt (a checksum is wrong)'}")
        offset = end
    if not plain or data[8:16] != _HEADER or data[24] != 8 or data[25] not in (0, 2):
        return None
    width, height = _SIZE.unpack_from(data, 16)
    return width, height


def _decode_plain_png(data: bytes | memoryview, color: Literal["gray", "rgb"]) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE if color == "gray" else cv2.IMREAD_COLOR)
    if pixels is None:
        raise BadImage("cannot be decoded: truncated or corrupt")
    return pixels if color == "gray" else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
