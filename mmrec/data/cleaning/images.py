"""Pictures: checked by path and header, decoded as a viewer shows them, shrunk to thumbnails."""

import contextlib
import io
import os
import posixpath
import re
import unicodedata
import warnings
from pathlib import Path, PureWindowsPath

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
UNREAD = {  # other formats, by their first bytes
    "TIFF": re.compile(rb"II\*\0|MM\0\*"),
    "AVIF": re.compile(rb".{4}ftypavi[fs]", re.DOTALL),
    "HEIC": re.compile(rb".{4}ftyp(hei|hev|mif1)", re.DOTALL),
}
MAX_PIXELS = 50_000_000
SHORT = 224  # pixels, the side of an encoder's input
LONG = 4 * SHORT  # pixels, the longest side of a thumbnail
QUALITY = 90
PAGE = re.compile(rb"<(!doctype html|html|head|body)", re.IGNORECASE)
MAX_SCANS = 100  # of a JPEG: a few bytes may ask for a pass over the whole picture


def normalise(name: str) -> str | None:
    """A path relative to the images folder, with forward slashes and without dots; None if it leaves that folder.

    The path alone is checked: a symbolic link inside the folder may lead to a shared store.
    """
    path = posixpath.normpath(name.replace("\\", "/"))
    leaves = path.startswith(("/", "../")) or path == ".." or PureWindowsPath(path).drive
    return None if leaves else path


def problem(folder: Path, name: str) -> str | None:
    """The reason why the picture `folder/name` is unusable; None if it is usable."""
    path = normalise(name)
    if path is None:
        return "outside folder"
    if not os.path.isfile(folder / path):  # Path.is_file raises on names that are too long
        forms = (unicodedata.normalize(form, path) for form in ("NFC", "NFD"))  # é: one character, or e and an accent
        return "named in another Unicode form" if any(os.path.isfile(folder / one) for one in forms) else "missing"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is stricter
            with Image.open(folder / path, formats=FORMATS) as image:
                pixels = image.width * image.height
    except Image.DecompressionBombError:
        return "too large"
    except PermissionError:
        return "not readable"
    except Exception:  # noqa: BLE001  the parser raises anything on arbitrary bytes
        with open(folder / path, "rb") as file:
            return _unread(file.read(16))
    return "too large" if pixels > MAX_PIXELS else None


def _unread(content: bytes) -> str:
    """The reason why bytes that no parser of FORMATS takes are unusable."""
    names = [f"in the unread format {name}" for name, signature in UNREAD.items() if signature.match(content)]
    return names[0] if names else "not an image"


def problems(folder: Path, names: pd.Series) -> pd.Series:
    """`problem` of every non-empty name (str), None for empty ones (object dtype, same index)."""
    return names.map({name: problem(folder, name) for name in names.unique() if name}).astype(object)


class NoPicture(Exception):
    """The bytes are no usable picture; the message is the reason."""


def to_rgb(picture: Image.Image) -> Image.Image:
    """The picture as a viewer shows it: upright, 8-bit RGB, transparency on white."""
    picture.load()
    with contextlib.suppress(Exception):  # a broken EXIF block raises anything; the pixels are fine
        picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):  # PIL would clip 16-bit grey at 255
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def thumbnail(content: bytes) -> bytes:
    """A JPEG without metadata, its short side 224 pixels, or the picture's own size if smaller.

    Equal contents give equal bytes. Most of the work runs without the interpreter's lock.

    Raises NoPicture: "a web page", "in the unread format TIFF", "not an image", "too large" or "truncated".
    """
    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        raise NoPicture("too large") from None
    except Exception:  # noqa: BLE001  the parser raises anything on arbitrary bytes
        raise NoPicture("a web page" if PAGE.search(content[:1024]) else _unread(content)) from None
    scans = content.count(b"\xff\xda") if content.startswith(b"\xff\xd8") else 1  # this marker never occurs inside data
    if picture.width * picture.height > MAX_PIXELS or scans > MAX_SCANS:
        raise NoPicture("too large")
    try:
        picture.draft(None, (SHORT, SHORT))  # a JPEG is decoded at a half, a quarter or an eighth of its size
        picture = to_rgb(picture)
        short, long = sorted(picture.size)
        factor = min(1, SHORT / short, LONG / long)
        size = [max(1, round(side * factor)) for side in picture.size]
        picture = picture.resize(size, Image.Resampling.BILINEAR)
        picture.info = {}  # a comment would be copied
        with open(os.memfd_create("thumbnail"), "w+b") as file:  # with a file descriptor PIL encodes without the lock
            picture.save(file, "JPEG", quality=QUALITY)
            file.seek(0)
            return file.read()
    except Exception as error:  # noqa: BLE001  as above
        raise NoPicture("truncated" if "truncated" in str(error) else "not an image") from None
