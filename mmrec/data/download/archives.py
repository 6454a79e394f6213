"""Named members of a zip file, up to a size limit. `ZipFile.extract` has no such limit."""

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from mmrec.data.cleaning.rows import SourceError, must_exist

LARGEST = 1 << 28  # bytes of an unpacked file


def extract(archive: Path, names: Sequence[str], folder: Path) -> None:
    """Write the named members of a zip file below `folder`; other members are ignored.

    Raises:
        SourceError: the file is missing, damaged or no zip file; or a member is missing or larger than `LARGEST`.
    """
    must_exist(archive)
    try:
        with zipfile.ZipFile(archive) as file:
            for name in names:
                if (size := file.getinfo(name).file_size) > LARGEST:
                    raise ValueError(f"{name} has {size} bytes, at most {LARGEST} are expected")
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                # A symbolic link becomes a file with its target's name. At most `size` bytes are read.
                with file.open(name) as packed, (folder / name).open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
    except Exception as error:  # zipfile raises nearly anything on a damaged archive
        reason = " ".join(str(error).split()).strip("\"'") or type(error).__name__
        raise SourceError(
            f"{archive.name} is not the archive that it should be ({reason}): delete it in {archive.parent} and fetch "
            f"it again"
        ) from None
