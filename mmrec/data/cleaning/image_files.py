"""Check pictures by path and header. Decoding happens once, when features are computed."""

import os
import posixpath
import warnings
from pathlib import Path, PureWindowsPath

import pandas as pd
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MAX_PIXELS = 50_000_000


def normalise(name: str) -> str | None:
    """A path relative to the images folder, with forward slashes and without dots; None if it leaves that folder.

    Only the path is checked. A symbolic link inside the folder may lead to a shared store.
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
        return "missing"
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
        return "not an image"
    return "too large" if pixels > MAX_PIXELS else None


def problems(folder: Path, names: pd.Series) -> pd.Series:
    """`problem` of every non-empty name (str), None for empty ones (object dtype, same index)."""
    return names.map({name: problem(folder, name) for name in names.unique() if name}).astype(object)
