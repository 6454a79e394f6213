"""Files out of a zip that somebody else made: those that are wanted, and no more bytes than expected."""

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from mmrec.data.cleaning.rows import SourceError, must_exist

LARGEST = 1 << 28  # bytes of an unpacked file


def extract(archive: Path, names: Sequence[str], folder: Path) -> None:
    """Write the named members of a zip file below `folder`; nothing else of it is looked at.

    Raises:
        SourceError: no such file, no zip file, a damaged one, or one in which a member is missing or insanely large.
    """
    must_exist(archive)
    try:
        with zipfile.ZipFile(archive) as file:
            for name in names:
                if (size := file.getinfo(name).file_size) > LARGEST:
                    raise ValueError(f"{name} has {size} bytes, at most {LARGEST} are expected")
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                # A symbolic link becomes a file that holds its target's name, and no more bytes are read than `size`.
                with file.open(name) as packed, (folder / name).open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
    except Exception as error:  # of a damaged archive zipfile raises nearly anything
        reason = " ".join(str(error).split()).strip("\"'") or type(error).__name__
        raise SourceError(
            f"{archive.name} is not the archive that it should be ({reason}): delete it in {archive.parent} and fetch "
            f"it again"
        ) from None
