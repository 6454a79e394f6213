"""Pictures decoded as a viewer shows them, and thumbnails of them."""

import io
import os
import re

import numpy as np
from PIL import Image, ImageOps

from mmrec.data.cleaning.image_files import FORMATS, MAX_PIXELS

SHORT = 224  # pixels, the side of an encoder's input
LONG = 4 * SHORT  # pixels, the longest side of a thumbnail
QUALITY = 90
PAGE = re.compile(rb"<(!doctype html|html|head|body)", re.IGNORECASE)
MAX_SCANS = 100  # of a JPEG: a few bytes may ask for a pass over the whole picture


class NoPicture(Exception):
    """The bytes are no usable picture; the message is the reason."""


def to_rgb(picture: Image.Image) -> Image.Image:
    """The picture as a viewer shows it: upright, 8-bit RGB, transparency on white."""
    picture = _upright(picture)
    if picture.mode.startswith("I;16"):  # PIL would clip 16-bit grey at 255
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def _upright(picture: Image.Image) -> Image.Image:
    picture.load()
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # a broken EXIF block raises anything; the pixels are fine
        return picture


def thumbnail(content: bytes) -> bytes:
    """A JPEG without metadata, its short side 224 pixels, or the picture's own size if smaller.

    Equal contents give equal bytes. Most of the work runs without the interpreter's lock.

    Raises:
        NoPicture: "a web page", "not an image", "too large" or "truncated".
    """
    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        raise NoPicture("too large") from None
    except Exception:  # noqa: BLE001  the parser raises anything on arbitrary bytes
        raise NoPicture("a web page" if PAGE.search(content[:1024]) else "not an image") from None
    scans = content.count(b"\xff\xda") if content.startswith(b"\xff\xd8") else 1  # this marker never occurs inside data
    if picture.width * picture.height > MAX_PIXELS or scans > MAX_SCANS:
        raise NoPicture("too large")
    try:
        picture.draft(None, (SHORT, SHORT))  # a JPEG is decoded at a half, a quarter or an eighth of its size
        return _encoded(_shrunk(to_rgb(picture)))
    except Exception as error:  # noqa: BLE001  as above
        raise NoPicture("truncated" if "truncated" in str(error) else "not an image") from None


def _shrunk(picture: Image.Image) -> Image.Image:
    short, long = sorted(picture.size)
    factor = min(1, SHORT / short, LONG / long)
    return picture.resize([max(1, round(side * factor)) for side in picture.size], Image.Resampling.BILINEAR)


def _encoded(picture: Image.Image) -> bytes:
    picture.info = {}  # a comment would be copied
    with open(os.memfd_create("thumbnail"), "w+b") as file:  # with a file descriptor PIL encodes without the lock
        picture.save(file, "JPEG", quality=QUALITY)
        file.seek(0)
        return file.read()
