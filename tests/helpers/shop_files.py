"""Small files that stand for what a provider ships."""

import struct
import zlib
from pathlib import Path

from PIL import Image

INTERACTIONS = "user_id,item_id,timestamp\nu1,a,100\nu1,b,200\nu2,a,300\n"
ITEMS = "item_id,title,text,categories,image\na,A,text of a,x|y,a.png\nb,B,,x,b.png\n"


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def picture(path: Path, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), "orange").save(path, **options)
    return path


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
