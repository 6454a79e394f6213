"""Small data sets written to a temporary folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
from shop_files import INTERACTIONS, ITEMS, picture, write


@pytest.fixture
def shop(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder data set; give a file's content to have another one, None to leave it out."""

    def make(interactions: str | bytes | None = INTERACTIONS, items: str | bytes | None = ITEMS) -> Path:
        for name, content in (("interactions.csv", interactions), ("items.csv", items)):
            if content is not None:
                write(tmp_path / name, content)
        picture(tmp_path / "images" / "a.png")
        picture(tmp_path / "images" / "b.png")
        return tmp_path

    return make
