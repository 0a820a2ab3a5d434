"""Whether a file is an image: by its first bytes, whatever it is called."""

from __future__ import annotations

import io

from PIL import Image

# A file with one of these is meant as an image: where it cannot be decoded, it is a row with an error.
IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
    *(".jp2", ".j2k", ".jpx", ".jxl", ".avif", ".avifs", ".heic", ".heif"),
    *(".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".tga", ".dds", ".ico", ".cur", ".pcx", ".dcx"),
    *(".psd", ".qoi", ".sgi", ".exr", ".hdr"),
)
HEAD_BYTES = 4096
_MAGIC = (
    b"\x89PNG",
    b"\xff\xd8\xff",  # JPEG
    b"GIF8",
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),  # TIFF, BigTIFF
    *(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"\0\0\0\x0cJXL "),  # JPEG 2000, its bare code stream, JPEG XL
    *(b"8BPS", b"DDS ", b"qoif", b"v/1\x01", b"#?RADIANCE", b"#?RGBE", b"icns"),
    *(b"BLP1", b"BLP2", b"DanM", b"LinS", b"Image type: "),
    *(b"\x59\xa6\x6a\x95", b"\xb1\x68\xde\x3a"),  # Sun raster, DCX
)
# Two bytes tell too little: here the header has to make sense, too.
_BY_HEADER = ["BMP", "PPM", "ICO", "CUR", "PCX", "SGI", "XBM", "XPM"]
_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


def named_as_image(name: str) -> bool:
    """Whether a file's name says that it is an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def looks_like_image(head: bytes) -> bool:
    """Whether the first `HEAD_BYTES` of a file are those of an image, a damaged one included."""
    if head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return True
    if head[4:8] == b"ftyp":
        return head[8:12] in _BRANDS
    try:
        with Image.open(io.BytesIO(head), formats=_BY_HEADER):
            return True
    except Exception:  # whatever a header makes Pillow raise, it is none of these
        return False
