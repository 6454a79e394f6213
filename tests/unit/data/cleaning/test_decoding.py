import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from shop_files import png_header

from mmrec.data.cleaning.images import MAX_SCANS, NoPicture, thumbnail


def scene(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Soft shapes in all colours."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height)).convert(mode)


def saved(picture: Image.Image, format: str = "JPEG", **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def small(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(thumbnail(content)))


def reason(content: bytes) -> str:
    with pytest.raises(NoPicture) as error:
        thumbnail(content)
    return str(error.value)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((500, 500), (224, 224)),
        ((500, 375), (299, 224)),
        ((375, 500), (224, 299)),
        ((1500, 1000), (336, 224)),
        ((224, 300), (224, 300)),
        ((100, 50), (100, 50)),  # never larger
        ((300, 100), (300, 100)),
        ((3000, 600), (896, 179)),  # encoders squeeze it further than that
        ((4000, 3), (896, 1)),
        ((1, 1), (1, 1)),
    ],
)
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_sizes(size, expected, format):
    picture = small(saved(scene(*size), format))
    assert picture.size == expected and picture.mode == "RGB" and picture.format == "JPEG"


def test_decoding_at_half_size_looks_the_same():
    whole = scene(1000, 900)
    expected = np.asarray(whole.resize((249, 224), Image.Resampling.BILINEAR), dtype=float)
    for content in (saved(whole, quality=95), saved(whole, "PNG")):
        assert np.abs(np.asarray(small(content), dtype=float) - expected).mean() < 2


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_equal_pixels_give_equal_bytes_for_any_metadata(format):
    exif = Image.Exif()
    exif[0x010E] = "a description"
    picture = scene(300, 300)
    plain = saved(picture, format)
    told = saved(picture, format, exif=exif, icc_profile=b"profile", dpi=(300, 300), comment=b"a comment")
    assert plain != told and thumbnail(plain) == thumbnail(told) == thumbnail(plain)
    assert b"Exif" not in thumbnail(told) and b"profile" not in thumbnail(told) and b"comment" not in thumbnail(told)


def test_a_picture_stands_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    assert small(saved(scene(600, 300), exif=exif)).size == (224, 448)


def test_transparent_is_white():
    clear = Image.new("RGBA", (300, 300), (255, 0, 0, 0))
    assert small(saved(clear, "PNG")).getpixel((100, 100)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("mode", "format"),
    [("L", "JPEG"), ("CMYK", "JPEG"), ("P", "GIF"), ("1", "PNG"), ("LA", "PNG"), ("I;16", "PNG"), ("RGB", "BMP")],
)
def test_kinds_of_pictures(mode, format):
    picture = small(saved(scene(300, 250, "L" if mode == "I;16" else mode).convert(mode), format))
    assert picture.mode == "RGB" and picture.size == (269, 224)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not an image"),
        (b"words", "not an image"),
        (b"\xff\xd8\xff", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"<html>", "a web page"),
        (b"\xef\xbb\xbf\n<!DOCTYPE HTML PUBLIC>", "a web page"),
        (saved(scene(99, 99), "TIFF"), "in the unread format TIFF"),
        (saved(scene(500, 500))[:-100], "truncated"),
        (saved(scene(500, 500), "PNG")[:-100], "truncated"),
        (saved(scene(500, 500), "GIF")[:-1000], "truncated"),
        (png_header(0, 5), "not an image"),
        (png_header(7072, 7072), "too large"),
        (png_header(20_000, 20_000), "too large"),
    ],
)
def test_reasons(content, expected):
    assert reason(content) == expected


def with_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    content = saved(scene(64, 64), progressive=True)
    last = content.rindex(b"\xff\xda")
    again = count - content.count(b"\xff\xda")
    return content[:last] + content[last:-2] * (1 + again) + content[-2:]


def test_a_few_bytes_cannot_ask_for_endless_work():
    assert with_scans(MAX_SCANS).count(b"\xff\xda") == MAX_SCANS and small(with_scans(MAX_SCANS)).size == (64, 64)
    assert reason(with_scans(MAX_SCANS + 1)) == "too large"


def test_the_marker_of_a_scan_means_nothing_in_another_format():
    pixels = np.frombuffer(b"\xda\xff\x00" * 64 * 64, dtype=np.uint8).reshape(64, 64, 3)
    content = saved(Image.fromarray(pixels), "BMP")
    assert content.count(b"\xff\xda") > MAX_SCANS and small(content).size == (64, 64)


@given(
    position=st.integers(0, 2000),
    junk=st.binary(max_size=40),
    format=st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP"]),
)
def test_damage_gives_a_picture_or_a_reason(position, junk, format):
    content = saved(scene(64, 64), format)
    damaged = content[:position] + junk + content[position + len(junk) :]
    try:
        assert small(damaged).format == "JPEG"
    except NoPicture as error:
        assert str(error) in ("not an image", "truncated", "too large", "a web page")
