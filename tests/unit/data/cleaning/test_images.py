import pandas as pd
import pytest
from PIL import Image
from shop_files import picture, png_header, write

from mmrec.data.cleaning import images
from mmrec.data.cleaning.images import normalise, problem, problems


@pytest.mark.parametrize(
    "content", [b"", b"words", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM" + bytes(60), b"GIF89a"]
)
def test_arbitrary_bytes_are_not_an_image(tmp_path, content):
    write(tmp_path / "a.png", content)
    assert problem(tmp_path, "a.png") == "not an image"


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (50_000, 50_000, "too large"),  # 2.5e9 pixels: PIL refuses
        (10_000, 10_000, "too large"),  # 1e8: PIL warns
        (10_000, 5_001, "too large"),
        (10_000, 5_000, None),
    ],
)
def test_size_is_read_from_the_header_without_a_warning(tmp_path, recwarn, width, height, expected):
    write(tmp_path / "a.png", png_header(width, height))
    assert problem(tmp_path, "a.png") == expected
    assert not recwarn


def test_an_image_without_pixels(tmp_path):
    write(tmp_path / "a.png", png_header(0, 5))
    assert problem(tmp_path, "a.png") == "not an image"


@pytest.mark.parametrize("name", ["none.png", "folder", "nul\0.png", "x" * 5000, "."])
def test_missing(tmp_path, name):
    (tmp_path / "folder").mkdir()
    assert problem(tmp_path, name) == "missing"


@pytest.mark.parametrize(
    "name", ["../a.png", "x/../../a.png", "{above}/a.png", "..", "C:/a.png", "..\\a.png", "\\a.png"]
)
def test_outside_folder(tmp_path, name):
    picture(tmp_path / "a.png")
    (tmp_path / "images").mkdir()
    assert problem(tmp_path / "images", name.format(above=tmp_path)) == "outside folder"


def test_not_readable(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError

    picture(tmp_path / "a.png")
    monkeypatch.setattr(images.Image, "open", refuse)
    assert problem(tmp_path, "a.png") == "not readable"


def test_a_link_to_a_shared_store_is_inside(tmp_path):
    picture(tmp_path / "store" / "a.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").symlink_to(tmp_path / "store" / "a.png")
    assert problem(tmp_path / "images", "a.png") is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.png", "a.png"), ("./x//a.png", "x/a.png"), ("x\\a.png", "x/a.png"), ("x/../a.png", "a.png")],
)
def test_normalise(name, expected):
    assert normalise(name) == expected


def test_each_name_is_looked_at_once_and_none_is_decoded(tmp_path, monkeypatch):
    picture(tmp_path / "a.png")
    opened = []
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr(images, "problem", lambda folder, name: opened.append(name) or problem(folder, name))
    found = problems(tmp_path, pd.Series(["a.png", "", "a.png", "b.png"], index=[5, 3, 8, 1]))
    assert found.where(found.notna(), None).to_dict() == {5: None, 3: None, 8: None, 1: "missing"}
    assert sorted(opened) == ["a.png", "b.png"]


def test_no_names(tmp_path):
    assert problems(tmp_path, pd.Series(["", ""])).isna().all()
